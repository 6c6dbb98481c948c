"""What the networks cost: multiply-adds, parameters and weights, beside what a batch of one takes. Pure functions."""

from dlclient.bench_result import Point

from dlreport.bench.cell import figure
from dlreport.bench.network import Cost, cost
from dlreport.bench.view import BenchView, best, images_per_s, models, per_image_s
from dlreport.quantity import megabytes, milliseconds, significant
from dlreport.table import Cell, Column, Row, Table, missing, name


def costs(view: BenchView) -> dict[str, Cost]:
    """Of every network that has a figure of speed, in the order of the bench."""
    return {
        model: cost(tuple(point for point in view.points if point.setting.model == model))
        for model in models(view.speed)
    }


def cost_table(view: BenchView) -> Table | None:
    """A row a network; None where nothing is known of any."""
    found = costs(view)
    if not any(one.macs or one.parameters for one in found.values()):
        return None
    columns = (
        Column("model", "network", numeric=False),
        Column("macs", "multiply-adds", "10^9 per image"),
        Column("parameters", "parameters", "10^6"),
        Column("weights_bytes", "weights, measured", "MB"),
        Column("least_s", "least time", "ms/image"),
        Column("least_where", "where", numeric=False),
        Column("macs_per_s", "work done there", "10^9 multiply-adds/s"),
        Column("source", "multiply-adds and parameters by", numeric=False),
        Column("published_as", "published as", numeric=False),
    )
    rows = tuple(Row(_cells(view, model, one)) for model, one in found.items())
    return Table("cost", "What the networks cost", columns, rows)


def _cells(view: BenchView, model: str, one: Cost) -> tuple[Cell, ...]:
    cells = [
        name(model),
        _number(one.macs, 1e9),
        _number(one.parameters, 1e6),
        missing() if one.model_bytes is None else Cell(one.model_bytes, megabytes(one.model_bytes)),
    ]
    fastest = best(
        (point for point in view.speed if point.setting.model == model and per_image_s(point)),
        lambda point: 1 / (per_image_s(point) or 1.0),
    )
    seconds = per_image_s(fastest) if fastest else None
    rate = images_per_s(fastest) if fastest else None
    cells.append(figure(fastest, seconds, milliseconds(seconds or 0.0)))
    cells.append(name(_where(view, fastest)) if fastest else missing(""))
    work = rate * one.macs if rate and one.macs else None
    cells.append(figure(fastest, work, significant((work or 0.0) / 1e9)))
    return (*cells, name(one.source), name(one.published_as))


def _number(value: float | None, unit: float) -> Cell:
    return missing() if value is None else Cell(round(value), significant(value / unit, 4))


def _where(view: BenchView, point: Point) -> str:
    label = next(variant.label for variant in view.speed_variants if point in variant.points)
    return f"batch {point.setting.batch_size}, {label}"
