"""What services have answered. An answered call is a row until it is counted: many at once cost each a fraction of what one costs.

The same rows are counted twice over: by a service's name for the metrics (`Served`), where a service that is made again goes
on, and since the service was made (`Statistics`), for what its API tells of it.
"""

import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import field
from msgspec.structs import astuple


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Where a call's time went after the front end had chosen its worker, in seconds."""

    wire: float
    """The way to the worker and back; the others are the worker's own account."""
    decode: float
    queue: float
    demote: float
    load: float
    forward: float
    post: float


STAGES = Timing.__struct_fields__
CALL_BUCKETS_S = (
    0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075,
    0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0,
)  # fmt: skip
STAGE_BUCKETS_S = (0.00005, 0.0001, 0.0002, *CALL_BUCKETS_S)
ERROR_BUCKETS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
"""Of predictions: |predicted - actual| / actual."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MOST_ROWS = 256
"""Answered calls that wait to be counted: so few that counting them delays nobody."""
Row = tuple[int, int, str, int, float | None, float, float, Timing]
"""An answered call: its images, those of its forward, the temperature that it found, its worker, how far off the prediction
was (None: there was none), seconds until its answer was there and until it was sent, and those of its stages."""


S = TypeVar("S", bound=msgspec.Struct)


class Histogram:
    """Counts per bucket and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Count them all: in order, so that a bucket is looked for once for all that it holds."""
        ordered, counted = sorted(values), 0
        while counted < len(ordered):
            bucket = bisect_left(self.bounds, ordered[counted])
            upto = bisect_right(ordered, self.bounds[bucket]) if bucket < len(self.bounds) else len(ordered)
            self.counts[bucket] += upto - counted
            counted = upto
        self.total += sum(values)


def summed(one: Any, other: Any) -> Any:
    """What was counted in two places: numbers added up, in lists place by place, in dicts key by key."""
    if isinstance(one, dict):
        return one | {key: summed(one[key], value) if key in one else value for key, value in other.items()}
    if isinstance(one, list):
        return [summed(mine, more) for mine, more in zip(one, other, strict=True)]
    return one + other


def _added(one: S, other: S) -> S:
    return type(one)(*map(summed, astuple(one), astuple(other)))


class BatchTotals(msgspec.Struct):
    """Of the forwards of one batch size: how many, and seconds summed over them."""

    executions: float = 0.0
    decode_s: float = 0.0
    forward_s: float = 0.0
    post_s: float = 0.0

    @property
    def count(self) -> int:
        """Of whole forwards."""
        return max(1, round(self.executions))

    def __add__(self, other: "BatchTotals") -> "BatchTotals":
        return _added(self, other)


class Statistics(msgspec.Struct):
    """Totals over a service's life: counts, and seconds per call summed. Right once its `Served` is settled."""

    images: int = 0
    success: int = 0
    failure: int = 0
    success_s: float = 0.0
    failure_s: float = 0.0
    stages_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """Of answered calls, by stage."""
    batches: dict[int, BatchTotals] = field(default_factory=lambda: defaultdict(BatchTotals))
    """By batch size. A forward that answered several calls counts in parts, so all its parts make one."""
    last_at: float = 0.0
    """When the last call was answered, in seconds since 1970; 0: never."""

    @property
    def predict_s(self) -> float:
        """In all calls."""
        return self.success_s + self.failure_s

    @property
    def transform_s(self) -> float:
        """Decoding and resizing, as DeepDetect's `transform`."""
        return self.stages_s["decode"]

    @property
    def executions(self) -> int:
        """Forwards that answered calls."""
        return round(sum(batch.executions for batch in self.batches.values()))

    def __add__(self, other: "Statistics") -> "Statistics":
        both = _added(self, other)
        both.last_at = max(self.last_at, other.last_at)
        return both

    def as_deepdetect(self) -> dict[str, int | float]:
        """`service_stats`: counts as integers; averages are -1 before the first call, as there."""
        calls = self.success + self.failure
        predict_ms = self.predict_s * 1e3 / calls if calls else -1.0
        transform_ms = self.transform_s * 1e3 / calls if calls else -1.0
        return {
            "inference_count": self.images,
            "predict_success": self.success,
            "predict_failure": self.failure,
            "predict_count": calls,
            "avg_batch_size": self.images / calls if calls else -1.0,
            "avg_predict_duration_ms": predict_ms,
            "avg_predict_duration_s": predict_ms / 1e3,
            "avg_predict_duration": predict_ms / 1e3,
            "avg_transform_duration_ms": transform_ms,
            "avg_transform_duration_s": transform_ms / 1e3,
            "avg_transform_duration": transform_ms / 1e3,
            "total_predict_duration_ms": self.predict_s * 1e3,
            "total_transform_duration_ms": self.transform_s * 1e3,
        }


class Served:
    """What all services of one name have answered. Right once it is `settled`."""

    __slots__ = (
        "_rows", "_whose", "batch_size", "busy_s", "cache", "call_s", "codes", "images", "prediction", "stages",
    )  # fmt: skip

    def __init__(self) -> None:
        self.codes: dict[int, int] = defaultdict(int)
        self.images = 0
        self.cache: dict[str, int] = defaultdict(int)
        self.busy_s: dict[int, float] = defaultdict(float)
        """By worker: loading and running what it was asked for."""
        self.call_s = Histogram(CALL_BUCKETS_S)
        self.batch_size = Histogram(BATCH_BUCKETS)
        self.prediction = Histogram(ERROR_BUCKETS)
        self.stages = {stage: Histogram(STAGE_BUCKETS_S) for stage in STAGES}
        self._rows: list[Row] = []
        self._whose = Statistics()
        """Where the rows count too."""

    def succeeded(self, statistics: Statistics, row: Row) -> None:
        """A call was answered."""
        if statistics is not self._whose:  # a service was made again; calls of the one before may still come in between
            self.settled()
            self._whose = statistics
        statistics.last_at = time.time()
        self._rows.append(row)
        if len(self._rows) >= MOST_ROWS:
            self.settled()

    def failed(self, statistics: Statistics, code: int, total_s: float) -> None:
        """A call got an error."""
        self.codes[code] += 1
        self.call_s.observe((total_s,))
        statistics.failure += 1
        statistics.failure_s += total_s

    def settled(self) -> "Served":
        """This, with every call counted, here and in the statistics of its service."""
        if self._rows:
            rows, self._rows = self._rows, []
            images, sizes, cache, workers, off, there_s, sent_s, timings = zip(*rows, strict=True)
            stages = dict(zip(STAGES, zip(*map(astuple, timings), strict=True), strict=True))
            self.codes[200] += len(rows)
            self.images += sum(images)
            for temperature, calls in Counter(cache).items():
                self.cache[temperature] += calls
            self.call_s.observe(sent_s)
            self.batch_size.observe(sizes)
            self.prediction.observe([one for one in off if one is not None])
            for stage, values in stages.items():
                self.stages[stage].observe(values)
                self._whose.stages_s[stage] += sum(values)
            self._whose.images += sum(images)
            self._whose.success += len(rows)
            self._whose.success_s += sum(there_s)
            # A batch's stages stand in each of its calls: count this call's share.
            shares = [mine / max(1, size) for mine, size in zip(images, sizes, strict=True)]
            self._share(workers, sizes, shares, stages)
        return self

    def _share(
        self,
        workers: Iterable[int],
        sizes: Iterable[int],
        shares: Iterable[float],
        stages: Mapping[str, Sequence[float]],
    ) -> None:
        columns = (stages[stage] for stage in ("decode", "load", "forward", "post"))
        for worker, size, share, decode_s, load_s, forward_s, post_s in zip(
            workers, sizes, shares, *columns, strict=True
        ):
            self.busy_s[worker] += (load_s + forward_s) * share
            batch = self._whose.batches[size]
            batch.executions += share
            batch.decode_s += decode_s * share
            batch.forward_s += forward_s * share
            batch.post_s += post_s * share

    # ---- several front ends

    def plain(self) -> list[Any]:
        """All counts, in nothing but lists, dicts and numbers; see `of`."""
        histograms = [[histogram.counts, histogram.total] for histogram in self._histograms()]
        return [self.codes, self.images, self.cache, self.busy_s, histograms]

    @classmethod
    def of(cls, plain: list[Any]) -> "Served":
        """What has these counts."""
        served = cls()
        served.codes, served.images, served.cache, served.busy_s, histograms = plain
        for histogram, (counts, total) in zip(served._histograms(), histograms, strict=True):
            histogram.counts, histogram.total = counts, total
        return served

    def _histograms(self) -> list[Histogram]:
        return [self.call_s, self.batch_size, self.prediction, *self.stages.values()]
