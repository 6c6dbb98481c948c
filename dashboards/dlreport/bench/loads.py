"""What loading a model and its first inference take, cold and again. Pure functions."""

import statistics
from dataclasses import dataclass

from dlclient.bench_result import Load, Point

from dlreport.bench.cell import failed, figure
from dlreport.bench.variant import Variant, variants
from dlreport.bench.view import BenchView, models
from dlreport.quantity import megabytes, milliseconds, ratio
from dlreport.table import Cell, Column, Row, Table, missing, name

_PAGE_CACHE = {
    "warm": "warm: the files lay in memory",
    "dropped": "dropped before",
    "unknown": "unknown",
}


@dataclass(frozen=True)
class LoadTimes:
    """Of a point, in seconds. None: not told."""

    point: Point
    load: Load

    @property
    def cold_s(self) -> float | None:
        """From nothing to the first answer, the framework's start left out."""
        parts = (self.load.prepare_s, self.load.load_s, self.load.first_run_s)
        told = [part for part in parts if part is not None]
        return sum(told) if told else None

    @property
    def again_s(self) -> float | None:
        """Median of loading after an unload, and of the first inference after that."""
        if not self.load.reload_s:
            return None
        first = statistics.median(self.load.first_runs_s) if self.load.first_runs_s else 0.0
        return statistics.median(self.load.reload_s) + first

    @property
    def warm_s(self) -> float | None:
        """An inference with the model ready: the median, else the mean."""
        times = self.point.latency_s
        return None if times is None else times.p50 or times.mean

    @property
    def times_colder(self) -> float | None:
        """First answer over a warm one: both from nothing but the start of the framework."""
        return self.cold_s / self.warm_s if self.cold_s and self.warm_s else None


def load_points(view: BenchView) -> tuple[Point, ...]:
    """The points that asked what loading takes; where none did, what others took on their way: those of the smallest batches."""
    asked = view.of("load")
    if asked:
        return asked
    on_their_way = [point for point in view.speed if point.load is not None and point.load.first_run_s is not None]
    smallest = min((point.setting.batch_size for point in on_their_way), default=1)
    return tuple(point for point in on_their_way if point.setting.batch_size == smallest)


def load_variants(view: BenchView) -> tuple[Variant, ...]:
    """What sets those apart, but for network and batch."""
    return variants(load_points(view), view.bench)


def load_table(view: BenchView) -> Table | None:
    """A row a place and network, stage by stage; None where nothing is known of it."""
    rows = tuple(
        Row((name(place.label), name(model), *_cells(point)), place.label)
        for place in load_variants(view)
        for model in models(place.points)
        for point in place.of(model)
    )
    if not rows:
        return None
    columns = (
        Column("measured_on", "measured on", numeric=False),
        Column("model", "network", numeric=False),
        Column("batch_size", "batch"),
        Column("weights_bytes", "weights", "MB"),
        Column("start_s", "framework's start", "ms"),
        Column("read_s", "reading the files", "ms"),
        Column("prepare_s", "prepare", "ms"),
        Column("load_s", "load", "ms"),
        Column("first_run_s", "first inference", "ms"),
        Column("cold_s", "cold: to the first answer", "ms"),
        Column("again_s", "loaded again", "ms"),
        Column("warm_s", "warm inference", "ms"),
        Column("cold_over_warm", "cold / warm"),
        Column("page_cache", "page cache", numeric=False),
    )
    return Table("loads", "Loading and the first inference", columns, rows)


def _cells(point: Point) -> tuple[Cell, ...]:
    batch = Cell(point.setting.batch_size, str(point.setting.batch_size))
    load = point.load
    if load is None:
        return (batch, missing(""), failed(point) if point.failure else missing(), *([missing("")] * 9))
    times = LoadTimes(point, load)
    stages = (load.start_s, load.read_s, load.prepare_s, load.load_s, load.first_run_s)
    told = (*stages, times.cold_s, times.again_s, times.warm_s)
    again = f"median of {len(load.reload_s)}" if load.reload_s else ""
    cells = [figure(point, value, milliseconds(value or 0.0), lacking="not told") for value in told]
    if again and not cells[6].note:
        cells[6] = figure(point, times.again_s, milliseconds(times.again_s or 0.0), note=again)
    return (
        batch,
        missing() if point.model_bytes is None else Cell(point.model_bytes, megabytes(point.model_bytes)),
        *cells,
        figure(point, times.times_colder, ratio(times.times_colder or 0.0), lacking=""),
        Cell(load.page_cache, _PAGE_CACHE[load.page_cache]),
    )
