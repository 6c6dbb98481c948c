"""The result folder of a bench: what `dlbench` and `dd_bench` write, and what the report reads.

    FOLDER/
        run.json          one Bench: what was asked for, the machine, when
        suite.toml        the suite as it ran, all `--set` in it (dlbench)
        points.jsonl      one Point a line, written and synced when the point has ended; the last line of an id counts
        samples/ID.jsonl  a point's raw samples, one Sample a line, in the order in which they began
        logs/ID.log       what a point's process printed, where it failed

Times are seconds as floats, sizes are bytes as integers. A reader ignores fields that it does not know, and refuses a
schema that it does not know.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from dlclient.errors import ResultError
from dlclient.results import RUN_FILE, Environment, Interval, Latency, Reason, read_json, read_latest, read_lines

BENCH_SCHEMA = "dlserve-bench/1"
POINTS_FILE = "points.jsonl"
SAMPLES_DIR = "samples"
LOGS_DIR = "logs"
SUITE_FILE = "suite.toml"

Question = Literal["latency", "throughput", "max-batch", "utilization", "accuracy", "load"]
"""What a point asks: one request in flight; several; the largest batch that fits; how busy the machine is; how right the
answers are; what loading and the first inference take."""

FailureKind = Literal["out-of-memory", "crash", "time-out", "unsupported", "error"]

Scope = Literal["device", "model", "server", "client"]
"""What the clock of `latency_s` is around: the device alone; the engine's call, result on the host; the server's own time
of a call; the client's, from sending to the whole answer."""


class Setting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a point is: all that tells it from the others of its suite."""

    model: str
    engine: str = ""
    """"" where a server decides."""
    device: str = "cpu"
    """"cpu", "cuda:N"; at a server: what it was asked for, "" nothing."""
    question: Question = "latency"
    batch_size: int = 1
    in_flight: int = 1
    """Requests (or inferences) at a time; throughput only. 0: as many as the engine finds best, in `read_back` then."""
    threads: int | None = None
    """CPU threads of the engine; None: the engine's own choice."""
    affinity: str = ""
    """CPUs that the point's process is bound to: "0-3"; "" all."""
    precision: str = ""
    """"" the model's own."""
    target: str = "inproc"
    """"inproc", or the URL of a server."""
    input: str = ""
    """How images reach a server: base64, path, raw, url; in process: "tensor" (ready) or "image" (decoded in the clock)."""
    options: dict[str, str | int | float | bool] = {}
    """Other options of the engine, as `parameters.mllib` has them."""

    @property
    def id(self) -> str:
        """Equal settings have equal ones. 16 hexadecimal digits."""
        # by equality: msgspec omits a default by identity only, so that a setting from a file would have another id
        default = Setting(model="")
        told = {
            name: getattr(self, name)
            for name in self.__struct_fields__
            if getattr(self, name) != getattr(default, name)
        }
        return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()[:16]


class Sample(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One timed iteration: a batch that was inferred, or a call that was answered."""

    began_s: float
    """Since the timed part began."""
    latency_s: float
    server_s: float | None = None
    """The server's own time (DeepDetect's head.time); None: in process, or not told."""
    transform_s: float | None = None
    """Of it: reading, decoding and resizing, where the server tells."""
    error: str = ""
    """Why it does not count."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a point has no figures."""

    kind: FailureKind
    stage: str
    """Where it was: start, prepare, load, warm-up, measure, ..."""
    text: str
    """In a sentence, with what to do."""
    log: str = ""
    """Its file in the result folder; "" none."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What it took to be ready, in seconds. None: the engine does not tell it apart."""

    start_s: float | None = None
    """Importing the framework and waking the device."""
    read_s: float | None = None
    """The model's files, read once beside the load (from the page cache or not: see `page_cache`)."""
    prepare_s: float | None = None
    """Deserializing and checking the model's files and building its skeleton, compiling included where the engine does it then."""
    load_s: float | None = None
    """Bringing the weights onto the device; compiling included where the engine does it then."""
    first_run_s: float | None = None
    """The first inference after that."""
    reload_s: tuple[float, ...] = ()
    """Loads after an unload, skeleton kept."""
    first_runs_s: tuple[float, ...] = ()
    """The first inference after each of those."""
    page_cache: Literal["warm", "dropped", "unknown"] = "unknown"


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Of answers on labelled images, as fractions, with 95 % Wilson intervals."""

    images: int
    top1: float
    top5: float
    top1_interval: Interval
    top5_interval: Interval
    dataset: str
    """Its folder's name and the digest of its names and labels."""


class Utilization(msgspec.Struct, frozen=True, kw_only=True):
    """How busy the machine was inside the timed part. Fractions of 1; None: no counter here tells it."""

    samples: int
    """Of each figure, at `every_s`."""
    every_s: float
    cpu: float | None = None
    """Of all cores, by all processes."""
    process_cpu: float | None = None
    """Of one core, by the point's processes: 2.0 is two cores."""
    process_bytes: int | None = None
    """Largest resident set."""
    gpu: float | None = None
    """Fraction of time in which a kernel ran, as NVML tells."""
    gpu_memory: float | None = None
    """Fraction of time in which the device's memory was read or written, as NVML tells."""
    gpu_memory_bytes: int | None = None
    """Largest use of the device's memory by all processes."""
    sm_activity: float | None = None
    kernel_busy: float | None = None
    """From a profile, in a run of its own."""
    top_operators: tuple[tuple[str, float], ...] = ()
    """Name and fraction of the device's time, from that profile."""
    energy_j: float | None = None
    """In the timed part, by `energy_source`: the counter of the device that computes, where there is one."""
    energy_source: str = ""
    energies_j: dict[str, float] = {}
    """In the timed part, by each counter that there is."""
    series: tuple[tuple[float, float | None, float | None, int | None], ...] = ()
    """(seconds, cpu, gpu, bytes in use on the device, or resident on a CPU), over time."""


class MaxBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The largest batch that fits. `largest` 0: not even one image does."""

    largest: int
    smallest_failed: int | None
    """None: none failed up to the limit of the search."""
    limit_bytes: int | None
    """Of memory, on a CPU: what the search allowed itself."""
    tries: tuple[tuple[int, str], ...]
    """(batch size, "" or its failure's kind), in order."""


class Warming(msgspec.Struct, frozen=True, kw_only=True):
    """What ran before the clock."""

    iterations: int
    seconds: float
    steady: bool | None
    """Whether the last windows agreed; None: nobody asked."""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalog of networks says of a model. None: it does not."""

    parameters: int | None = None
    macs: int | None = None
    """Multiply-adds of one forward of one image."""
    top1: float | None = None
    """Fraction of ImageNet's validation set that published weights get right, by their publisher."""
    top1_source: str = ""
    """Who published it."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One line of points.jsonl: a setting and what came of it."""

    id: str
    setting: Setting
    started: str
    """ISO 8601, UTC."""
    seconds: float
    """That the point took, all in."""
    failure: Failure | None = None
    scope: Scope = "model"
    simulated: bool = False
    read_back: dict[str, str | int | float | bool | None] = {}
    """What the engine really uses, as it told when asked."""
    model_bytes: int | None = None
    """Of weights."""
    card: Card | None = None
    """None: the model is none of the catalog, or nobody looked."""
    load: Load | None = None
    warming: Warming | None = None
    iterations: int = 0
    """Timed, good."""
    errors: int = 0
    """Timed, not good."""
    images: int = 0
    """Of the good ones."""
    wall_s: float | None = None
    """Of the timed part."""
    images_per_s: float | None = None
    """images / wall_s."""
    latency_s: Latency | None = None
    """Per iteration, within `scope`; intervals in it."""
    deviation_s: float | None = None
    """Standard deviation of those."""
    client_s: Latency | None = None
    """At a server: the client's time, where `latency_s` is the server's."""
    client_cost_s: float | None = None
    """What of `client_s` the client itself costs: its p50 against a server that does nothing."""
    transform_s: float | None = None
    """At a DeepDetect: mean time of a call spent in reading, decoding and resizing."""
    outliers: int = 0
    """Samples beyond three standard deviations of the mean: they stay in every figure but those of `compatible`."""
    outlier_largest_s: float | None = None
    compatible: dict[str, float] = {}
    """Figures as other benchmarks define them (dlclient.bench.compatible): named after the benchmark."""
    utilization: Utilization | None = None
    accuracy: Accuracy | None = None
    max_batch: MaxBatch | None = None
    reasons: tuple[Reason, ...] = ()
    """Why its figures cannot be trusted; none: they can."""
    warnings: tuple[Reason, ...] = ()


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """run.json. Written at the start, and again at the end."""

    schema: str
    kind: Literal["bench"]
    program: Literal["dlbench", "dd_bench"]
    name: str
    """Of the suite, or what was asked."""
    title: str
    started: str
    """ISO 8601, UTC."""
    finished: str | None
    """None: it did not come to its end (yet): `--resume` goes on."""
    points: int
    """That the suite has."""
    command: tuple[str, ...]
    environment: Environment
    simulated: bool = False
    """Whether a simulated device answered: the figures then say nothing about real hardware."""
    reproduces: str = ""
    """`system` in dashboards/reference/published.csv of the benchmark that the suite stands for; "" none."""
    server: dict[str, object] = {}
    """Where a server was measured: the head of its /info without the services."""
    machines: dict[str, Environment] = {}
    """Of a merged result (`dlreport merge`): its machines by the names that its points' devices end with ("cpu on bench-1").
    `environment` then holds what all have alike; "see each machine", or 0, where they differ."""


def read_bench(folder: Path) -> Bench:
    """run.json of a bench's result folder. Raises ResultError naming the file and what to do."""
    path = folder / RUN_FILE
    try:
        return read_json(path, Bench, BENCH_SCHEMA)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path} is no result of a bench: {exc}; run the bench again") from exc


def read_points(folder: Path) -> list[Point]:
    """points.jsonl: the last line of each id, in the order in which the ids first came. A torn last line is left out.

    Raises ResultError naming the file, the line and what to do.
    """
    return read_latest(folder / POINTS_FILE, Point)


def samples_file(point_id: str) -> str:
    """Where a point's raw samples are, in the result folder."""
    return f"{SAMPLES_DIR}/{point_id}.jsonl"


def read_point_samples(folder: Path, point_id: str) -> list[Sample]:
    """A point's raw samples. Raises ResultError."""
    return read_lines(folder / samples_file(point_id), Sample)


def encode_lines(values: Iterable[msgspec.Struct]) -> bytes:
    """As the lines of a .jsonl file."""
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)
