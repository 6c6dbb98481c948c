"""The result folder of `dlload mlperf`.

FOLDER/
    mlperf.json                  one MlperfResult
    plan.jsonl                   sample i of LoadGen is slot i: which service gets which image
    requests.jsonl               one dlclient.results.Record a line: from LoadGen's call to issue it to its answer
    mlperf_log_summary.txt, mlperf_log_detail.txt, mlperf_log_accuracy.json      LoadGen's own
"""

from pathlib import Path
from typing import Literal

import msgspec
from dlclient.results import PLAN_FILE, Environment, Reason, Summary, Target, Verdict

from dlload.mlperf.settings import Settings
from dlload.mlperf.summary import LoadGenResult

SCHEMA = "dlserve-mlperf/1"
RESULT_FILE = "mlperf.json"


class SampleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The library that LoadGen draws from."""

    count: int
    seed: int
    """That it was drawn from."""
    services: tuple[str, ...]
    mix: str
    images: str
    """"sample", or the folder that the images came from."""
    image_count: int
    image_bytes: int
    """Sum over the different images."""
    image_sha256: str
    """Of all names and contents, in order: equal means the same pictures."""
    sha256: str
    """Of plan.jsonl."""
    file: str = PLAN_FILE


class MlperfResult(msgspec.Struct, frozen=True, kw_only=True):
    """mlperf.json. Seconds as floats."""

    schema: str
    kind: Literal["mlperf"]
    started: str
    """ISO 8601, UTC."""
    finished: str
    interrupted: bool
    verdict: Verdict
    """Ours: valid only if LoadGen says VALID (or judges nothing: accuracy mode), and no answer was an error."""
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    simulated: bool
    """Whether a simulated device answered: the figures then say nothing about real hardware."""
    timed_scope: Literal["client"]
    settings: Settings
    connections: int
    """How many requests were in flight at most; what LoadGen released beyond that waited."""
    loadgen: LoadGenResult | None
    """None: it did not go to its end."""
    released: int
    """Samples that LoadGen released."""
    errors: int
    """Of them: without a good answer. LoadGen counts these as answered."""
    temperatures: dict[str, int]
    """Good answers by where the server found the weights."""
    total: Summary
    """Our own figures, from LoadGen's call to issue a sample to its complete answer. (LoadGen's begin when it was due.)"""
    services: dict[str, Summary]
    samples: SampleFacts
    target: Target
    environment: Environment


def write_result(folder: Path, result: MlperfResult) -> Path:
    """Write mlperf.json in one step. Raises OSError."""
    path = folder / RESULT_FILE
    draft = path.with_suffix(".json.tmp")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    return draft.replace(path)


def read_result(folder: Path) -> MlperfResult:
    """mlperf.json of a folder. Raises OSError or msgspec.DecodeError."""
    return msgspec.json.decode((folder / RESULT_FILE).read_bytes(), type=MlperfResult)
