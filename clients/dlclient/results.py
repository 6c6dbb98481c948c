"""The result folder of a stream run: what the load tester writes and the report reads.

    FOLDER/
        run.json         one Run: plan, target, environment, verdict and a summary of each phase
        plan.jsonl       PlanHeader, then one Slot a line: what is sent, in this order, in every phase
        requests.jsonl   one Record a line, in the order in which the requests ended
        limits.json      the machine's bandwidths, where the run was given them (dlclient.limits)

Times are seconds as floats, sizes are bytes as integers. A reader ignores fields that it does not know, and refuses a
schema that it does not know.
"""

from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from dlclient.errors import ResultError

SCHEMA = "dlserve-stream/1"
PLAN_SCHEMA = "dlserve-plan/1"
RUN_FILE = "run.json"
PLAN_FILE = "plan.jsonl"
REQUESTS_FILE = "requests.jsonl"

Verdict = Literal["valid", "invalid"]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request and what came of it. `*_s` are seconds since its phase began."""

    phase: str
    index: int
    """Its slot in the plan."""
    due_s: float
    """When it should have been sent; in a closed loop, when its user was free to send it (and had yet to connect)."""
    sent_s: float
    first_byte_s: float | None
    """When the answer's headers were in; None: no answer came."""
    done_s: float
    """When the answer was complete, or when it was given up."""
    status: int
    """HTTP status; 0: no answer came."""
    error: str
    """"" for a good answer, else what was wrong with it."""
    model: str
    image: str
    """Name of the image; the first one where there are several."""
    bytes_sent: int
    images: int
    worker: int | None = None
    cache: str | None = None
    """Where the server found the weights: warm, host or disk. None: it does not tell."""
    batch_size: int | None = None
    server_s: float | None = None
    """The server's own time for the call (DeepDetect's head.time)."""
    stages: dict[str, float] | None = None
    """Where that time went, in seconds."""

    @property
    def ok(self) -> bool:
        """Whether a good answer came."""
        return not self.error

    @property
    def waited_s(self) -> float:
        """From due to done: what the user waited."""
        return self.done_s - self.due_s

    @property
    def latency_s(self) -> float:
        """What the user waited, less the stage `demote`: making a model cold is how a request is set up, not served."""
        return self.waited_s - (self.stages or {}).get("demote", 0.0)

    @property
    def send_lag_s(self) -> float:
        """From due to sent: what the load tester itself (and connecting) took."""
        return self.sent_s - self.due_s


class Reason(msgspec.Struct, frozen=True):
    """Something that makes a number invalid (or, as a warning, less trustworthy), with what to do about it."""

    code: str
    text: str
    cure: str


class Latency(msgspec.Struct, frozen=True):
    """Seconds; None where there are too few samples to say (see dlclient.statistics)."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None


class SendLag(msgspec.Struct, frozen=True):
    """Seconds from due to sent; None where there are too few samples to say."""

    mean: float | None
    p99: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a phase, or of one service in it. How each is computed: dlclient.statistics."""

    requests: int
    errors: int
    images: int
    """Images of good answers."""
    wall_s: float
    """Of the phase: from its start to the end of its last request. Of a service: its share of that."""
    images_per_s: float | None
    wall_s_per_image: float | None
    latency_s: Latency
    latency_n: int
    """Samples behind latency_s: the good answers."""
    stages_s: dict[str, float] | None
    """Mean of each of the server's stages; None: the server does not tell."""
    weights_bytes: int | None
    load_bytes_per_s: float | None
    """Bytes of weights per second of extra time that a cold request takes; None where nothing was loaded, or where too
    few warm requests ran like it (not batched with others) to tell what is extra."""
    send_lag_s: SendLag | None = None
    """Part of the latency. None: no good answer, or a run of an earlier version."""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One pass through the plan, at one temperature."""

    name: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    temperatures: dict[str, int]
    """Answers by the temperature that the server found; "unknown" where it does not tell."""
    total: Summary
    services: dict[str, Summary]


class PlanHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First line of plan.jsonl: all that the plan was drawn from."""

    schema: str
    seed: int
    requests: int
    services: tuple[str, ...]
    mix: str
    images: tuple[str, ...]
    """Names of the images that were drawn from."""
    batch_size: int


class Slot(msgspec.Struct, frozen=True, gc=False):
    """One line of plan.jsonl: one request to send."""

    index: int
    model: str
    images: tuple[str, ...]


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What run.json says of the plan and of how it was sent."""

    seed: int
    requests: int
    """Per phase."""
    services: tuple[str, ...]
    mix: str
    images: str
    """"sample", or the folder that the images came from."""
    image_count: int
    image_bytes: int
    """Sum over the different images."""
    image_sha256: str
    """Of all names and contents, in order: equal means the same pictures."""
    batch_size: int
    users: int
    """In the closed loop: how many requests were in flight at most."""
    phases: tuple[str, ...]
    sha256: str
    """Of plan.jsonl."""
    file: str = PLAN_FILE


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The server under test. `info` is the head of its answer to /info after warming up, before the clock."""

    url: str
    protocol: str
    """How requests were sent: deepdetect (JSON with base64) or raw (the image's bytes as the body)."""
    info: dict[str, object]


class Gpu(msgspec.Struct, frozen=True):
    """A graphics processor of the machine that ran the load tester."""

    name: str
    memory_bytes: int


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The machine and the software that the load tester ran on. None: could not be found out."""

    host: str
    system: str
    kernel: str
    cpu_model: str
    cpu_cores: int
    """Logical cores that this process may use."""
    cpu_cores_physical: int | None
    cpu_governor: str
    """Of the frequency scaling: "performance" is the one to trust, "not visible" the rule in virtual machines."""
    memory_bytes: int
    container_memory_bytes: int | None
    """The container's limit; None: no limit seen."""
    container_cpus: float | None
    gpus: tuple[Gpu, ...]
    gpu_driver: str | None
    python: str
    versions: dict[str, str]
    """Of the libraries that the figures depend on."""
    commit: str | None
    """Of the checkout that ran; None: installed from a package."""
    modified: bool | None
    """Whether tracked files differed from that commit."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """run.json."""

    schema: str
    kind: Literal["stream"]
    started: str
    """ISO 8601, UTC."""
    finished: str
    interrupted: bool
    verdict: Verdict
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    simulated: bool
    """Whether a simulated device answered: the figures then say nothing about real hardware."""
    timed_scope: Literal["client"]
    plan: PlanFacts
    target: Target
    environment: Environment
    phases: tuple[Phase, ...]


class _Schema(msgspec.Struct):
    schema: str = ""


_Line = TypeVar("_Line", bound=msgspec.Struct)


def read_run(folder: Path) -> Run:
    """run.json of a result folder. Raises ResultError naming the file and what to do."""
    path = folder / RUN_FILE
    content = _read(path)
    try:
        schema = msgspec.json.decode(content, type=_Schema).schema
        _check_schema(schema, SCHEMA, path)
        return msgspec.json.decode(content, type=Run)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path} is no result of the stream load tester: {exc}; run the stream again") from exc


def read_records(folder: Path) -> list[Record]:
    """requests.jsonl of a result folder, in file order. A last line that an interrupt tore is left out.

    Raises ResultError naming the file, the line and what to do.
    """
    path = folder / REQUESTS_FILE
    return _lines(path, _read(path), Record, first_line=1)


def read_plan(folder: Path) -> tuple[PlanHeader, list[Slot]]:
    """plan.jsonl of a result folder. Raises ResultError naming the file, the line and what to do."""
    path = folder / PLAN_FILE
    first, _, rest = _read(path).partition(b"\n")
    try:
        header = msgspec.json.decode(first, type=PlanHeader)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path}:1: no plan header: {exc}; draw the plan again with the same --seed") from exc
    _check_schema(header.schema, PLAN_SCHEMA, path)
    return header, _lines(path, rest, Slot, first_line=2)


def write_run(folder: Path, run: Run) -> Path:
    """Write run.json in one step, so that a reader never sees half of it."""
    path = folder / RUN_FILE
    draft = path.with_suffix(".json.tmp")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    return draft.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ResultError(
            f"cannot read {path}: {exc.strerror}; name the folder of a finished stream run (it holds {RUN_FILE})"
        ) from exc


def _check_schema(found: str, wanted: str, path: Path) -> None:
    if found != wanted:
        raise ResultError(
            f"{path} has schema {found!r}, this version reads {wanted!r}; use the version of dlserve that wrote it"
        )


def _lines(path: Path, content: bytes, kind: type[_Line], first_line: int) -> list[_Line]:
    decoder = msgspec.json.Decoder(kind)
    lines = content.split(b"\n")
    torn = lines.pop()  # "" where the file ends as it should
    decoded: list[_Line] = []
    for number, line in enumerate(lines, start=first_line):
        try:
            decoded.append(decoder.decode(line))
        except msgspec.DecodeError as exc:
            raise ResultError(f"{path}:{number}: {exc}; restore the file or run the stream again") from exc
    if torn:
        try:
            decoded.append(decoder.decode(torn))
        except msgspec.DecodeError:
            return decoded  # the run was killed while it wrote this line
    return decoded
