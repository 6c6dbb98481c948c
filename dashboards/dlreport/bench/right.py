"""How right the answers are, and which networks no other beats in both accuracy and throughput. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

from dlclient.bench_result import Point

from dlreport.bench.busy import percent
from dlreport.bench.cell import failed, figure
from dlreport.bench.network import Rightness, rightness
from dlreport.bench.variant import Variant, variants
from dlreport.bench.view import BenchView, best, images_per_s, models
from dlreport.quantity import count, significant
from dlreport.table import Cell, Column, Row, Table, missing, name


@dataclass(frozen=True)
class Standing:
    """A network's best throughput at a place, and how right it is. `front`: no other there is better in both."""

    model: str
    point: Point
    rate: float
    rightness: Rightness
    front: bool


def accuracy_table(view: BenchView) -> Table | None:
    """A row a place and network whose answers were compared with labels; None where nobody asked."""
    asked = tuple(
        point
        for point in view.points
        if point.accuracy is not None or (point.failure is not None and point.setting.question == "accuracy")
    )
    if not asked:
        return None
    columns = (
        Column("measured_on", "measured on", numeric=False),
        Column("model", "network", numeric=False),
        Column("images", "images"),
        Column("top1", "top-1", "%"),
        Column("top1_low", "top-1, low end", "%", printed=False),
        Column("top1_high", "top-1, high end", "%", printed=False),
        Column("top5", "top-5", "%"),
        Column("top5_low", "top-5, low end", "%", printed=False),
        Column("top5_high", "top-5, high end", "%", printed=False),
        Column("dataset", "data set", numeric=False),
    )
    rows = tuple(
        Row((name(place.label), name(model), *_accuracy_cells(point)), place.label)
        for place in variants(asked, view.bench)
        for model in models(place.points)
        for point in place.of(model)
    )
    return Table("accuracy", "How right the answers are", columns, rows)


def standings(view: BenchView, place: Variant) -> list[Standing]:
    """Of every network there whose throughput and accuracy are known, fastest first."""
    found = []
    for model in models(place.points):
        fastest = best(place.of(model))
        right = rightness(model, place.setting.precision, view.points)
        rate = images_per_s(fastest) if fastest else None
        if fastest is not None and rate and right is not None:
            found.append((model, fastest, rate, right))
    ahead = pareto([(rate, right.top1) for _, _, rate, right in found])
    rows = [Standing(*one, front=number in ahead) for number, one in enumerate(found)]
    return sorted(rows, key=lambda one: -one.rate)


def pareto(pairs: Sequence[tuple[float, float]]) -> set[int]:
    """The places of those that no other is at least as good as in both and better in one."""
    return {
        number
        for number, (first, second) in enumerate(pairs)
        if not any(a >= first and b >= second and (a, b) != (first, second) for a, b in pairs)
    }


def tradeoff_table(view: BenchView) -> Table | None:
    """A row a place and network with both figures; None where no place has two such networks."""
    places = [(place, standings(view, place)) for place in view.speed_variants]
    rows = tuple(
        Row(
            (
                name(place.label),
                name(one.model),
                figure(one.point, one.rate, significant(one.rate)),
                Cell(one.point.setting.batch_size, str(one.point.setting.batch_size)),
                Cell(one.rightness.top1, percent(one.rightness.top1), "" if one.rightness.measured else "missing"),
                name("yes" if one.front else ""),
                name(one.rightness.source),
            ),
            place.label,
            strong=one.front,
        )
        for place, found in places
        if len(found) > 1
        for one in found
    )
    if not rows:
        return None
    columns = (
        Column("measured_on", "measured on", numeric=False),
        Column("model", "network", numeric=False),
        Column("images_per_s", "most images", "1/s"),
        Column("batch_size", "at batch"),
        Column("top1", "top-1", "%"),
        Column("front", "on the Pareto front", numeric=False),
        Column("top1_source", "top-1 by", numeric=False),
    )
    return Table("tradeoff", "Accuracy against throughput", columns, rows)


def _accuracy_cells(point: Point) -> tuple[Cell, ...]:
    found = point.accuracy
    if found is None:
        return (missing(""), failed(point), *([missing("")] * 6))
    return (
        Cell(found.images, count(found.images)),
        *_share(point, found.top1, found.top1_interval),
        *_share(point, found.top5, found.top5_interval),
        name(found.dataset),
    )


def _share(point: Point, value: float, interval: tuple[float, float]) -> tuple[Cell, Cell, Cell]:
    low, high = interval
    note = f"[{percent(low)}, {percent(high)}]"
    return figure(point, value, percent(value), note=note), Cell(low, percent(low)), Cell(high, percent(high))
