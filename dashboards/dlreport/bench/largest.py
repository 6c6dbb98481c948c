"""The largest batch that fits, network by network. Pure functions."""

from dlclient.bench_result import MaxBatch, Point

from dlreport.bench.cell import failed, figure
from dlreport.bench.variant import Variant, variants
from dlreport.bench.view import BenchView, models
from dlreport.quantity import count, gigabytes
from dlreport.table import Cell, Column, Row, Table, missing, name


def largest_variants(view: BenchView) -> tuple[Variant, ...]:
    """Where a largest batch was looked for."""
    return variants(view.of("max-batch"), view.bench)


def largest_table(view: BenchView) -> Table | None:
    """A row a place and network; None where nobody asked."""
    rows = tuple(
        Row((name(place.label), name(place.hardware), name(model), *_cells(point)), place.label)
        for place in largest_variants(view)
        for model in models(place.points)
        for point in place.of(model)
    )
    if not rows:
        return None
    columns = (
        Column("measured_on", "measured on", numeric=False),
        Column("hardware", "hardware", numeric=False, printed=False),
        Column("model", "network", numeric=False),
        Column("largest", "largest batch"),
        Column("smallest_failed", "smallest that failed"),
        Column("limit_bytes", "memory allowed", "GB"),
        Column("tries", "tries", numeric=False),
    )
    return Table("largest", "Largest batch that fits", columns, rows)


def largest_text(found: MaxBatch) -> str:
    """The batch; with a mark where the search ended before anything failed."""
    return count(found.largest) if found.smallest_failed is not None else f"at least {count(found.largest)}"


def _cells(point: Point) -> tuple[Cell, ...]:
    found = point.max_batch
    if point.failure is not None:
        return failed(point), missing(""), missing(""), missing("")
    if found is None:
        return missing(), missing(""), missing(""), missing("")
    none_failed = found.smallest_failed is None
    kinds = dict.fromkeys(kind for _, kind in found.tries)
    tries = "; ".join(
        f"{kind or 'fit'}: {', '.join(count(size) for size, one in found.tries if one == kind)}" for kind in kinds
    )
    return (
        figure(point, found.largest, largest_text(found)),
        missing("none") if none_failed else Cell(found.smallest_failed, count(found.smallest_failed or 0)),
        missing("") if found.limit_bytes is None else Cell(found.limit_bytes, gigabytes(found.limit_bytes)),
        name(tries),
    )
