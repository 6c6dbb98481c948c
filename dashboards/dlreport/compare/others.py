"""What points of a bench answer besides times: the largest batch, how many answers are right, what a load takes. Pure functions.

The interval of a difference of two shares follows from Wilson's of each by MOVER, which is Newcombe's method 10 (Interval estimation
for the difference between independent proportions, Statistics in Medicine 17, 1998). Both sides saw the same images where the data
sets' digests are equal; the interval does not use it, so it is rather too wide.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from dlclient.bench_result import Point
from dlclient.intervals import mean_interval
from dlclient.results import Interval

from dlreport.compare.difference import mover
from dlreport.compare.settings import detail, varying
from dlreport.quantity import count, milliseconds
from dlreport.table import Cell, Column, Row, Table, missing, name

_COLUMNS = (
    Column("point", "model", numeric=False),
    Column("detail", "point", numeric=False),
    Column("figure", "figure", numeric=False),
    Column("a", "A"),
    Column("b", "B"),
    Column("difference", "difference"),
    Column("difference_low", "low end", printed=False),
    Column("difference_high", "high end", printed=False),
    Column("outcome", "B is", numeric=False),
)


def others_table(pairs: Sequence[tuple[Point, Point]]) -> Table | None:
    """A row for each such answer that both points of a pair have; None where none has."""
    told = varying([point.setting for pair in pairs for point in pair])
    rows = [
        Row((name(pair[0].setting.model), name(detail(pair[0].setting, told)), *cells), pair[0].setting.model)
        for pair in pairs
        for cells in (*_largest(*pair), *_accuracy(*pair), *_loads(*pair))
    ]
    return Table("others", "Other answers", _COLUMNS, tuple(rows)) if rows else None


def share_difference(a: float, b: float, a_interval: Interval, b_interval: Interval) -> Interval:
    """95 % interval of b - a of two shares, from the interval of each."""
    low = b - a - math.hypot(b - b_interval[0], a_interval[1] - a)
    high = b - a + math.hypot(b_interval[1] - b, a - a_interval[0])
    return low, high


def _largest(a: Point, b: Point) -> Iterator[tuple[Cell, ...]]:
    """Counts have no interval: memory either suffices or not."""
    if a.max_batch is None or b.max_batch is None:
        return
    first, second = a.max_batch.largest, b.max_batch.largest
    by = second - first
    outcome = "no difference" if by == 0 else "larger" if by > 0 else "smaller"
    yield (
        name("largest batch"), Cell(first, count(first)), Cell(second, count(second)), Cell(by, f"{by:+,}"),
        Cell(None, ""), Cell(None, ""), Cell(outcome, outcome, "error" if by < 0 else ""),
    )  # fmt: skip


def _accuracy(a: Point, b: Point) -> Iterator[tuple[Cell, ...]]:
    """Percentage points."""
    if a.accuracy is None or b.accuracy is None:
        return
    for figure in ("top1", "top5"):
        first, second = getattr(a.accuracy, figure), getattr(b.accuracy, figure)
        low, high = share_difference(
            first, second, getattr(a.accuracy, f"{figure}_interval"), getattr(b.accuracy, f"{figure}_interval")
        )
        outcome = "no difference" if low <= 0 <= high else "more right" if low > 0 else "less right"
        note = f"[{100 * low:+.1f}, {100 * high:+.1f}]"
        yield (
            name(figure.replace("top", "top-")), Cell(first, f"{100 * first:.1f} %"), Cell(second, f"{100 * second:.1f} %"),
            Cell(second - first, f"{100 * (second - first):+.1f} points", note=note), Cell(low, ""), Cell(high, ""),
            Cell(outcome, outcome, "error" if outcome == "less right" else ""),
        )  # fmt: skip


def _loads(a: Point, b: Point) -> Iterator[tuple[Cell, ...]]:
    """Means of repeated loads, and of the first inference after each; the difference is a part of A's."""
    if a.load is None or b.load is None:
        return
    for figure, first, second in (
        ("reload", a.load.reload_s, b.load.reload_s),
        ("first inference after it", a.load.first_runs_s, b.load.first_runs_s),
    ):
        if first and second:
            yield _mean_cells(figure, first, second)


def _mean_cells(figure: str, a_s: Sequence[float], b_s: Sequence[float]) -> tuple[Cell, ...]:
    a, b = fmean(a_s), fmean(b_s)
    found = [mean_interval(times) for times in (a_s, b_s)]
    ratio = mover(a, b, *((one.low, one.high) if one else None for one in found))
    values = name(figure), Cell(a, f"{milliseconds(a)} ms"), Cell(b, f"{milliseconds(b)} ms")
    change = f"{100 * (b / a - 1):+.1f} %" if a > 0 else ""
    if ratio is None:
        return (
            *values, Cell(b / a - 1 if a > 0 else None, change), Cell(None, ""), Cell(None, ""),
            missing(f"cannot tell (n={len(a_s)}, {len(b_s)})"),
        )  # fmt: skip
    low, high = ratio[0] - 1, ratio[1] - 1
    outcome = "no difference" if low <= 0 <= high else "slower" if low > 0 else "faster"
    return (
        *values, Cell(b / a - 1, change, note=f"[{100 * low:+.1f}, {100 * high:+.1f}]"), Cell(low, ""), Cell(high, ""),
        Cell(outcome, outcome, "error" if outcome == "slower" else ""),
    )  # fmt: skip
