"""What crosses between `dlbench` and the process that measures one point: a Job on its standard input, events on a pipe.

The process is `python -m dlclient.bench.child --events-fd N`; what it and the frameworks print goes to the point's log.
"""

import msgspec

from dlclient.bench_result import Failure, Point, Sample, Setting


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a point is measured, and when it is given up. A timed part ends at the first of its maxima, never before its
    minima; where they conflict, the maximum of seconds wins.
    """

    warm_up_min_iterations: int = 3
    warm_up_max_iterations: int = 1000
    warm_up_max_s: float = 30.0
    """Warming up ends when three windows agree within 10 %, or at either maximum: then the point is warned of."""
    min_iterations: int = 12
    max_iterations: int = 1_000_000
    min_s: float = 1.0
    max_s: float = 10.0
    start_timeout_s: float = 120.0
    """Importing the framework and waking the device."""
    prepare_timeout_s: float = 300.0
    """Building or downloading nothing: only preparing and loading the model, compiling included."""
    iteration_timeout_s: float = 120.0
    """One inference or call; a stage of many gets its seconds beside it."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One point to measure."""

    setting: Setting
    budget: Budget = Budget()
    repository: str = ""
    """Folder of model folders."""
    images: str = ""
    """Folder of images; "" the sample photographs."""
    dataset: str = ""
    """Accuracy: folder of labelled images."""
    memory_limit_bytes: int | None = None
    """Largest batch, on a CPU: what the point may take. None: what is available when it begins."""
    most_images: int = 4096
    """Largest batch: where its search ends."""
    different_batches: int | None = None
    """How many of them are made ready, and held in memory, before the clock; None: what the question needs. Largest batch: 1,
    as more than the one that runs would count against the limit."""
    reloads: int = 5
    """Load: how often the model is unloaded and loaded again."""
    drop_page_cache: bool = False
    """In this process: whether the page cache forgets the model's files before each load; it fails where it does not."""
    profile: bool = False
    """Utilization: run a profiler too, after the timed part."""
    every_s: float = 0.1
    """Utilization: between two samples."""
    api_key: str = ""
    """For a server."""


class Entered(msgspec.Struct, frozen=True, tag="entered"):
    """A stage begins; it has that long before it counts as hung."""

    stage: str
    """start, prepare, load, warm-up, measure, search, profile."""
    timeout_s: float


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Of the stage, between 0 and 1."""

    fraction: float


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The last event: the point (without its `started` and `seconds`, which the parent fills in) and its samples."""

    point: Point
    samples: tuple[Sample, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The last event, instead: no figures."""

    failure: Failure


Event = Entered | Progress | Ended | Failed
EVENT = msgspec.json.Decoder(Event)
