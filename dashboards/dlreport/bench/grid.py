"""DeepDetect's table: time per image, a row a network, a column a batch size; and what batching gains. Pure functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dlclient.bench_result import Point

from dlreport.bench.beside import Beside, deepdetect_rows
from dlreport.bench.cell import NOT_RUN, doubt, figure
from dlreport.bench.variant import Variant
from dlreport.bench.view import BenchView, batch_sizes, best, models, per_image_interval_s, per_image_s
from dlreport.quantity import milliseconds, ratio, significant
from dlreport.table import Cell, Column, Row, Table, missing, name

_PLACE = Column("measured_on", "measured on", numeric=False)
_NETWORK = Column("model", "network", numeric=False)


def times_table(view: BenchView) -> Table | None:
    """Milliseconds per image by place, network and batch, DeepDetect's published ones below; None without a speed point."""
    if not view.speed:
        return None
    sizes, published = batch_sizes(view.speed), deepdetect_rows(view)
    columns = (
        _PLACE,
        Column("hardware", "hardware", numeric=False, printed=False),
        _NETWORK,
        *(Column(f"batch_{size}_s", f"batch {size}", "ms") for size in sizes),
        Column("timed_scope", "timed scope", numeric=False),
        Column("comparability", "class", numeric=False, printed=bool(published)),
        Column("definition", "definition", numeric=False),
        Column("remark", "remark", numeric=False, printed=False),
    )
    rows = [_own_row(variant, model, sizes) for variant in view.speed_variants for model in models(variant.points)]
    rows += [_published_row(one, sizes) for one in published]
    return Table("times", "Time per image by network and batch", columns, tuple(rows))


def gain_table(view: BenchView) -> Table | None:
    """What the best batch gains over the smallest, by place and network; None where no network has two batches."""
    found = gains(view.speed_variants)
    if not found:
        return None
    columns = (
        _PLACE,
        _NETWORK,
        Column("first_batch", "smallest batch"),
        Column("first_s", "there", "ms/image"),
        Column("best_batch", "best batch"),
        Column("best_s", "there", "ms/image"),
        Column("gain", "gain"),
    )
    rows = tuple(
        Row(
            (
                name(gain.variant.label),
                name(gain.model),
                *_batch_cells(gain.first),
                *_batch_cells(gain.best),
                Cell(gain.times, ratio(gain.times), "doubt" if gain.doubtful else "", gain.doubtful),
            ),
            gain.variant.label,
        )
        for gain in found
    )
    return Table("gain", "Gain from batching", columns, rows)


@dataclass(frozen=True)
class Gain:
    """A network at its smallest batch and at that of the least time per image."""

    variant: Variant
    model: str
    first: Point
    best: Point

    @property
    def times(self) -> float:
        """Time per image at the smallest batch over that at the best."""
        return (per_image_s(self.first) or 0.0) / (per_image_s(self.best) or 1.0)

    @property
    def doubtful(self) -> str:
        """What stands beside it, where either figure is none to quote."""
        return doubt(self.first) or doubt(self.best)


def gains(places: Iterable[Variant]) -> list[Gain]:
    """Of every network that has figures at two batch sizes or more."""
    found = []
    for variant in places:
        for model in models(variant.points):
            told = [point for point in variant.of(model) if per_image_s(point)]
            fastest = best(told, lambda point: 1 / (per_image_s(point) or 1.0))
            if len(batch_sizes(told)) > 1 and fastest is not None:
                found.append(Gain(variant, model, told[0], fastest))
    return found


def _own_row(variant: Variant, model: str, sizes: Sequence[int]) -> Row:
    by_size = {point.setting.batch_size: point for point in variant.of(model)}
    scopes = dict.fromkeys(point.scope for point in by_size.values() if point.failure is None)
    throughput = variant.setting.question == "throughput"
    cells = (
        name(variant.label),
        name(variant.hardware),
        name(model),
        *(_time_cell(by_size.get(size)) for size in sizes),
        name(", ".join(scopes)),
        name(""),
        name("wall time / images" if throughput else "mean of a batch / batch size"),
        Cell("the device was simulated" if any(point.simulated for point in by_size.values()) else "", ""),
    )
    return Row(cells, variant.label)


def _time_cell(point: Point | None) -> Cell:
    if point is None:
        return missing(NOT_RUN)
    seconds = per_image_s(point)
    cell = figure(point, seconds, milliseconds(seconds or 0.0), lacking="no figure")
    ends = per_image_interval_s(point)
    if cell.hover or cell.value is None or ends is None:
        return cell
    return replace(cell, hover=f"95 % interval of the mean: {milliseconds(ends[0])} to {milliseconds(ends[1])} ms")


def _published_row(row: Beside, sizes: Sequence[int]) -> Row:
    cells = (
        name(row.place),
        name(row.hardware),
        name(row.model),
        *(_published_cell(row, size) for size in sizes),
        name(row.timed_scope),
        Cell(row.comparability, row.comparability, hover=row.why),
        Cell(row.definition, row.definition, hover=row.remark),
        Cell("; ".join(part for part in (row.remark, row.why) if part), ""),
    )
    return Row(cells, row.place)


def _published_cell(row: Beside, size: int) -> Cell:
    if size not in row.values_s:
        return missing("")
    seconds = row.values_s[size]
    if seconds is None:
        return Cell(None, "x", "missing", hover=f"published: {row.notes.get(size) or 'did not run'}")
    return Cell(seconds, significant(seconds * 1e3), "missing")


def _batch_cells(point: Point) -> tuple[Cell, Cell]:
    seconds = per_image_s(point)
    return (
        Cell(point.setting.batch_size, str(point.setting.batch_size)),
        figure(point, seconds, milliseconds(seconds or 0.0)),
    )
