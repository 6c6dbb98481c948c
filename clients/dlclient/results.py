"""The result folder of a stream run: what the load tester writes and the report reads.

    FOLDER/
        run.json         one Run: plan, target, environment, verdict and a summary of each phase
        plan.jsonl       PlanHeader, then one Slot a line: what is sent, in this order, in every phase
        requests.jsonl   one Record a line, in the order in which the requests ended
        requests-K.jsonl the same of Locust worker K, as it wrote them; requests.jsonl holds them all
        samples.jsonl    what else was seen during the run, a line per source and second (dlclient.timeline)
        limits.json      the machine's bandwidths, where the run was given them (dlclient.limits)

Times are seconds as floats, sizes are bytes as integers. A reader ignores fields that it does not know, and refuses a
schema that it does not know.
"""

from operator import attrgetter
from pathlib import Path
from typing import Literal, Self, TypeVar

import msgspec

from dlclient.errors import ResultError

SCHEMA = "dlserve-stream/2"
PLAN_SCHEMA = "dlserve-plan/2"
RUN_FILE = "run.json"
PLAN_FILE = "plan.jsonl"
REQUESTS_FILE = "requests.jsonl"

Verdict = Literal["valid", "invalid"]


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One request and what came of it. `*_s` are seconds since its phase began."""

    phase: str
    index: int
    """Its slot in the plan."""
    due_s: float
    """When it should have been sent: by the schedule of an open loop; in a closed one, when its user was free to send it (and
    had yet to connect)."""
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
    reused: bool = True
    """Whether the connection had been used before; else connecting is part of the latency."""
    dropped: bool = False
    """Never sent: no sender was free until long after it was due (--drop-after)."""
    share: int = 0
    """The Locust worker that sent it."""
    reload_s: float | None = None
    """What making the model cold took (deleting and creating it anew, say), just before it was sent; None: nothing was."""
    reload_counts: bool = False
    """Whether that is a part of the latency."""
    answer: str | None = None
    """Digest of the answer's content, where the run looks at it."""

    @property
    def ok(self) -> bool:
        """Whether a good answer came."""
        return not self.error

    @property
    def waited_s(self) -> float:
        """From due to done: what the user waited."""
        return self.done_s - self.due_s

    @property
    def set_up_s(self) -> float:
        """What making a model cold took, where that is how a request is set up and not how it is served."""
        reload_s = 0.0 if self.reload_counts else self.reload_s or 0.0
        return (self.stages or {}).get("demote", 0.0) + reload_s

    @property
    def latency_s(self) -> float:
        """Response time: what the user waited from when it was due, less what setting up took."""
        return self.waited_s - self.set_up_s

    @property
    def service_s(self) -> float:
        """Service time: from the actual send to done, less the stage `demote`; what waited in the load tester is not in it."""
        return self.done_s - self.sent_s - (self.stages or {}).get("demote", 0.0)

    @property
    def send_lag_s(self) -> float:
        """From due to sent: what the load tester itself (and connecting) took, less a reload before it."""
        return self.sent_s - self.due_s - (self.reload_s or 0.0)


class Reason(msgspec.Struct, frozen=True):
    """Something that makes a number invalid (or, as a warning, less trustworthy), with what to do about it."""

    code: str
    text: str
    cure: str


Interval = tuple[float, float]


class Latency(msgspec.Struct, frozen=True):
    """Seconds; None where there are too few samples to say (see dlclient.statistics)."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None = None
    largest: float | None = None
    intervals: dict[str, Interval] | None = None
    """95 % confidence intervals by the names above, where the samples suffice (see dlclient.intervals)."""


class SendLag(msgspec.Struct, frozen=True):
    """Seconds from due to sent; None where there are too few samples to say."""

    mean: float | None
    p99: float | None
    p50: float | None = None
    largest: float | None = None


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
    """Part of the latency. None: no good answer."""
    service_s: Latency | None = None
    """Service times: from the actual send. None: no good answer."""
    first_byte_s: Latency | None = None
    """From the actual send to the first byte of the answer. None: no good answer."""
    dropped: int = 0
    """Of the errors: requests that were never sent, as nobody was free to send them in time."""
    new_connections: int = 0
    """Requests that had to connect first."""


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a phase the figures are of. Seconds since the phase began, by the moment that requests were due."""

    from_s: float = 0.0
    to_s: float | None = None
    """None: to its end."""
    left_out: int = 0
    """Requests that were due before or after, sent but not counted."""
    warm_up_requests: int = 0
    """Sent before the phase began, by the same plan, recorded nowhere."""
    warm_up_s: float = 0.0
    steady: bool | None = None
    """Whether the last 3 windows of the warm-up agreed; None: nobody asked."""


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """A condition of `--slo`, and how it stands."""

    text: str
    """As it was asked for: p99<50ms."""
    outcome: Literal["met", "missed", "cannot-tell"]
    sure: bool
    """Whether the figures could hardly (1 %) come out like this if the opposite were true."""
    sentence: str


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One pass through the plan, at one temperature."""

    name: str
    clock: Clock = Clock()
    offered_per_s: float | None = None
    """Requests per second that were due within the clock; None in a closed loop."""
    delivered_per_s: float | None = None
    """Of those, what was sent per second; None in a closed loop."""
    verdict: Verdict
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    objectives: tuple[Objective, ...] = ()
    temperatures: dict[str, int]
    """Answers by the temperature that the server found; "unknown" where it does not tell."""
    total: Summary
    services: dict[str, Summary]
    started_s: float | None = None
    """When it began, on the clock of samples.jsonl (dlclient.timeline). None: it did not."""


class Seeds(msgspec.Struct, frozen=True, kw_only=True):
    """Of the four generators that a plan is drawn with."""

    schedule: int
    models: int
    images: int
    think: int

    @classmethod
    def all(cls, seed: int) -> Self:
        """The same for each."""
        return cls(schedule=seed, models=seed, images=seed, think=seed)

    def __str__(self) -> str:
        one, *others = (self.schedule, self.models, self.images, self.think)
        if {one} == set(others):
            return str(one)
        return f"{one} (schedule), {others[0]} (models), {others[1]} (images), {others[2]} (think times)"


class PlanHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First line of plan.jsonl: all that the plan was drawn from."""

    schema: str
    seeds: Seeds
    requests: int
    services: tuple[str, ...]
    mix: str
    images: tuple[str, ...]
    """Names of the images that were drawn from."""
    batch_size: int
    load: str = "closed"
    """"closed": requests follow answers. Else the schedule: its rate and arrival process, or where it is from."""


class Slot(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of plan.jsonl: one request to send."""

    index: int
    model: str
    images: tuple[str, ...]
    due_s: float | None = None
    """When, since the phase began; None in a closed loop."""
    think_s: float = 0.0
    """Closed loop: how long its user waits before it."""


class PlanFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What run.json says of the plan and of how it was sent."""

    seeds: Seeds
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
    """How many requests were in flight at most; in a closed loop, all the time."""
    phases: tuple[str, ...]
    sha256: str
    """Of plan.jsonl."""
    load: str = "closed"
    """As in the plan's header."""
    shares: int = 1
    """Locust processes that sent it: share k of n had the slots k modulo n."""
    file: str = PLAN_FILE


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The server under test. `info` is the head of its answer to /info after warming up, before the clock."""

    url: str
    protocol: str
    """How requests were sent: deepdetect (JSON with base64), raw (the image's bytes as the body), ..."""
    info: dict[str, object]
    cold: str = "cache"
    """How a model was made cold: "cache" by the request itself, "reload" by deleting and creating it, or the like, anew."""


class Gpu(msgspec.Struct, frozen=True, omit_defaults=True):
    """A graphics processor of the machine that ran the load tester. None: NVML does not tell."""

    name: str
    memory_bytes: int
    clock_hz: int | None = None
    """Of its multiprocessors when it was looked at: an idle one runs slower."""
    clock_limit_hz: int | None = None
    """The highest that they may reach."""
    memory_clock_hz: int | None = None
    memory_clock_limit_hz: int | None = None
    power_limit_w: float | None = None
    pcie_generation: int | None = None
    """Of the link when it was looked at: an idle one may be at a lower one."""
    pcie_generation_limit: int | None = None
    """The highest that device and slot have in common."""
    pcie_width: int | None = None
    """Lanes."""
    pcie_width_limit: int | None = None


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
    lock_sha256: str | None = None
    """Of the checkout's requirements.lock, 64 hexadecimal digits; None: installed from a package."""
    cpu_limit_hz: int | None = None
    """The highest that a core may reach, as the frequency scaling tells."""
    cpu_turbo: bool | None = None
    """Whether cores may run above their nominal frequency."""
    swap_bytes: int | None = None
    container_swap_bytes: int | None = None
    """The container's limit of swap; None: no limit seen."""
    container_cpuset: str = ""
    """CPUs that the container may use, as "0-3,8"; "" where it does not say."""
    container_processes: int | None = None
    """The container's limit of processes and threads; None: no limit seen."""


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

    @property
    def objectives_met(self) -> bool:
        """Whether every condition of `--slo` was met in every phase; true where none was asked for."""
        return all(objective.outcome == "met" for phase in self.phases for objective in phase.objectives)


class _Schema(msgspec.Struct):
    schema: str = ""


_Line = TypeVar("_Line", bound=msgspec.Struct)


def read_run(folder: Path) -> Run:
    """run.json of a result folder. Raises ResultError naming the file and what to do."""
    path = folder / RUN_FILE
    try:
        return read_json(path, Run, SCHEMA)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path} is no result of the stream load tester: {exc}; run the stream again") from exc


def read_json(path: Path, kind: type[_Line], schema: str) -> _Line:
    """A file of one value with that schema. Raises ResultError, or msgspec's DecodeError for what is no such value."""
    content = _read(path)
    _check_schema(msgspec.json.decode(content, type=_Schema).schema, schema, path)
    return msgspec.json.decode(content, type=kind)


def read_records(folder: Path) -> list[Record]:
    """requests.jsonl of a result folder, in file order. A last line that an interrupt tore is left out.

    Where Locust's workers wrote more than could be merged (on a full disk), theirs, in the order in which they ended.
    Raises ResultError naming the file, the line and what to do.
    """
    path = folder / REQUESTS_FILE
    content = _read(path)
    shares = {one: _read(one) for one in sorted(folder.glob(share_file("*")))}
    if sum(share.count(b"\n") for share in shares.values()) <= content.count(b"\n"):
        return parse_records(content, path)
    found = [record for one, share in shares.items() for record in parse_records(share, one)]
    order = {phase: place for place, phase in enumerate(dict.fromkeys(record.phase for record in found))}
    return sorted(found, key=lambda record: (order[record.phase], record.done_s, record.index))


def read_lines(path: Path, kind: type[_Line]) -> list[_Line]:
    """A .jsonl file of such values; a last line that was torn is left out. Raises ResultError naming file and line."""
    return _lines(path, _read(path), kind, first_line=1)


def read_latest(path: Path, kind: type[_Line]) -> list[_Line]:
    """Of such a file the last line of each `id`, in the order in which the ids first came. Raises ResultError as `read_lines`."""
    identity = attrgetter("id")
    return list({identity(line): line for line in read_lines(path, kind)}.values())


def parse_records(content: bytes, path: Path) -> list[Record]:
    """The content of a requests.jsonl; `path` is for messages. Raises ResultError."""
    return _lines(path, content, Record, first_line=1)


def share_file(share: int | str) -> str:
    """Where a Locust worker writes its records in the result folder."""
    return f"requests-{share}.jsonl"


def read_plan(folder: Path) -> tuple[PlanHeader, list[Slot]]:
    """plan.jsonl of a result folder. Raises ResultError naming the file, the line and what to do."""
    path = folder / PLAN_FILE
    return parse_plan(_read(path), path)


def parse_plan(content: bytes, path: Path) -> tuple[PlanHeader, list[Slot]]:
    """The content of a plan.jsonl; `path` is for messages. Raises ResultError."""
    first, _, rest = content.partition(b"\n")
    try:
        _check_schema(msgspec.json.decode(first, type=_Schema).schema, PLAN_SCHEMA, path)
        header = msgspec.json.decode(first, type=PlanHeader)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path}:1: no plan header: {exc}; draw the plan again with the same --seed") from exc
    return header, _lines(path, rest, Slot, first_line=2)


def write_run(folder: Path, run: Run) -> Path:
    """Write run.json in one step, so that a reader never sees half of it."""
    return write_json(folder / RUN_FILE, run)


def write_json(path: Path, value: msgspec.Struct) -> Path:
    """Write a file of one value in one step."""
    draft = path.with_suffix(".json.tmp")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    return draft.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ResultError(
            f"cannot read {path}: {exc.strerror}; name the folder of a finished run (it holds {RUN_FILE})"
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
            raise ResultError(f"{path}:{number}: {exc}; restore the file or measure again") from exc
    if torn:
        try:
            decoded.append(decoder.decode(torn))
        except msgspec.DecodeError:
            return decoded  # the run was killed while it wrote this line
    return decoded
