"""Threads by batch: which of an engine's settings is the best for a network, as DLI tunes them. Pure functions."""

from dataclasses import dataclass

import msgspec
from dlclient.bench_result import Point

from dlreport.bench.cell import outcome
from dlreport.bench.variant import Variant, describe
from dlreport.bench.view import BenchView, batch_sizes, best, images_per_s
from dlreport.quantity import milliseconds, significant
from dlreport.table import Cell, Column, Row, Table, missing, name


@dataclass(frozen=True)
class Sweep:
    """Points of one network at one place that differ in threads, CPUs and batch. `best`: the most images per second, of the
    points that can be quoted if there are any; None: none has a figure."""

    model: str
    label: str
    points: tuple[Point, ...]
    best: Point | None

    @property
    def rows(self) -> tuple[tuple[int | None, str], ...]:
        """(threads, CPUs) of its points, few threads first."""
        found = {(point.setting.threads, point.setting.affinity) for point in self.points}
        return tuple(sorted(found, key=lambda row: (row[0] or 0, row[1])))

    @property
    def columns(self) -> tuple[int, ...]:
        """Batch sizes."""
        return batch_sizes(self.points)

    def at(self, row: tuple[int | None, str], batch_size: int) -> Point | None:
        """The point there; None: there is none."""
        wanted = (*row, batch_size)
        return next(
            (
                point
                for point in self.points
                if (point.setting.threads, point.setting.affinity, point.setting.batch_size) == wanted
            ),
            None,
        )


def row_label(row: tuple[int | None, str]) -> str:
    """Threads and CPUs in words."""
    threads, affinity = row
    said = "engine's own" if threads is None else str(threads)
    return f"{said}, CPUs {affinity}" if affinity else said


def sweeps(view: BenchView) -> list[Sweep]:
    """Every network and place with at least two settings of threads or CPUs and two batch sizes."""
    groups: dict[str, list[Point]] = {}
    for point in view.speed:
        groups.setdefault(
            msgspec.structs.replace(point.setting, threads=None, affinity="", batch_size=1).id, []
        ).append(point)
    kept = [group for group in groups.values() if len({_row(one) for one in group}) > 1 and len(batch_sizes(group)) > 1]
    firsts = [msgspec.structs.replace(group[0].setting, threads=None, affinity="") for group in kept]
    return [
        Sweep(first.model, describe(first, besides=firsts), tuple(group), best(group))
        for group, first in zip(kept, firsts, strict=True)
    ]


def unswept(view: BenchView) -> tuple[Variant, ...]:
    """The places that are no part of a sweep, which has pictures of its own; all, where every one is."""
    swept = {point.id for one in sweeps(view) for point in one.points}
    others = tuple(place for place in view.speed_variants if not all(point.id in swept for point in place.points))
    return others or view.speed_variants


def sweep_table(view: BenchView) -> Table | None:
    """The best point of each sweep; None without any."""
    found = sweeps(view)
    if not found:
        return None
    columns = (
        Column("model", "network", numeric=False),
        Column("measured_on", "where", numeric=False),
        Column("threads", "best threads"),
        Column("affinity", "best CPUs", numeric=False),
        Column("batch_size", "best batch"),
        Column("images_per_s", "images", "1/s"),
        Column("p50_s", "p50", "ms"),
        Column("tried", "settings tried"),
        Column("failed", "failed"),
        Column("outcome", "outcome", numeric=False),
    )
    return Table("sweeps", "Best threads, CPUs and batch", columns, tuple(Row(_cells(one)) for one in found))


def _row(point: Point) -> tuple[int | None, str]:
    return point.setting.threads, point.setting.affinity


def _cells(sweep: Sweep) -> tuple[Cell, ...]:
    lost = sum(point.failure is not None for point in sweep.points)
    end = (Cell(len(sweep.points), str(len(sweep.points))), Cell(lost, str(lost)))
    head = (name(sweep.model), name(sweep.label))
    found = sweep.best
    if found is None:
        return (*head, *([missing("none")] * 5), *end, missing("no figure"))
    rate, median = images_per_s(found), found.latency_s.p50 if found.latency_s else None
    return (
        *head,
        Cell(found.setting.threads, row_label((found.setting.threads, ""))),
        name(found.setting.affinity or "all"),
        Cell(found.setting.batch_size, str(found.setting.batch_size)),
        Cell(rate, significant(rate or 0.0)),
        missing(f"n/a (n={found.iterations})") if median is None else Cell(median, milliseconds(median)),
        *end,
        outcome(found),
    )
