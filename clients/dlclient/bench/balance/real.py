"""A cell in processes: a dlserve of our own with simulated models, and the stream load tester over HTTP."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dlclient.balance_result import Figures
from dlclient.bench.balance.figures import Answered, figures
from dlclient.errors import LocalServerError, SuiteError
from dlclient.local_server import COMMANDS, run, serving
from dlclient.results import RUN_FILE, Reason, Record, read_records, read_run

REAL_DIR = "real"
STREAM = Path("loadgen/stream.py")
EXPECTED_REASONS = frozenset({"wrong-temperature", "unstable-windows"})
"""What makes a stream invalid and is the point here: loads on the way, and a queue that grows under a policy that loads too
much, or for as long as the caches settle."""
_TIME_OUT_S = 900


@dataclass(frozen=True, slots=True)
class Streamed:
    """What the processes did in a cell."""

    figures: Figures
    overhead_s: float
    """Median of what a request took beside queue, load and forward."""
    reasons: tuple[Reason, ...]


def check_checkout() -> None:
    """Raises SuiteError where the load tester's locustfile is not at hand."""
    if not STREAM.is_file():
        raise SuiteError(f"{STREAM} is not here: run dlbench balance in a checkout, or with --real none")


def stream(
    options: Sequence[str], workers: int, models: Path, plan: Path, speed: float, senders: int, folder: Path
) -> Streamed:
    """Start the server, send the plan `speed` times as fast, stop it. `folder` gets the stream's result, and both logs.

    Raises LocalServerError where the server does not start or nothing comes of the stream, ResultError of damaged files.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    logs = folder.with_suffix(".log")
    with logs.open("w", encoding="utf-8") as log:

        def echo(line: str) -> None:
            print(line, file=log, flush=True)

        with serving(models, workers=workers, options=options, say=echo, echo=echo) as url:
            _send(url, plan, speed, senders, folder)
    return read_streamed(folder)


def _send(url: str, plan: Path, speed: float, senders: int, folder: Path) -> None:
    """Raises LocalServerError where it leaves no result."""
    command = (
        str(COMMANDS / "locust"), "-f", str(STREAM), "--headless", "--host", url, "--users", str(senders), "--spawn-rate", str(senders),
        "--plan", str(plan), "--speed", repr(speed), "--phases", "warm", "--timeout", str(_TIME_OUT_S), "--no-report", "--results", str(folder),
    )  # fmt: skip
    with folder.with_suffix(".locust.log").open("wb") as said:
        try:
            run(command, "the stream", output=said)
        except LocalServerError:  # an invalid stream ends with 1: what of that is no fault here, its reasons tell
            if not (folder / RUN_FILE).is_file():
                raise LocalServerError(f"the stream left no result: see {said.name}") from None
    for extra in (folder.with_suffix(".locust.log"), folder.with_suffix(".log")):
        with contextlib.suppress(OSError):
            shutil.copy(extra, folder / extra.name.removeprefix(f"{folder.name}."))


def read_streamed(folder: Path) -> Streamed:
    """The figures of a stream's result folder. Raises ResultError, and LocalServerError where no request was answered."""
    run_file, records = read_run(folder), read_records(folder)
    reasons = {reason.code: reason for reason in run_file.reasons if reason.code not in EXPECTED_REASONS}
    good = [record for record in records if record.ok and record.stages]
    try:
        found = figures(
            [_answered(one) for one in good],
            run_file.plan.requests,
            _loads(good),
            max((one.due_s for one in records), default=0.0),
        )
    except ValueError as exc:
        raise LocalServerError(f"{folder}: {exc}; see its logs") from exc
    return Streamed(found, median(_overhead_s(one) for one in good), tuple(reasons.values()))


def _answered(record: Record) -> Answered:
    return Answered(record.due_s, record.latency_s, (record.stages or {})["forward"], record.cache == "warm")


def _overhead_s(record: Record) -> float:
    stages = record.stages or {}
    return record.latency_s - stages["queue"] - stages["load"] - stages["forward"]


def _loads(records: Sequence[Record]) -> int:
    """Batches that had to load: the requests of one share its time of the load, to the nanosecond, on one worker."""
    return len(
        {(one.worker, one.model, (one.stages or {})["load"]) for one in records if (one.stages or {})["load"] > 0}
    )
