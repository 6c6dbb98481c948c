"""The tables of a comparison."""

from dlreport.compare.comparison import Compared, Comparison
from dlreport.compare.difference import RATE, Change
from dlreport.quantity import milliseconds, significant
from dlreport.table import Cell, Column, Row, Table, missing, name

_OUTCOME_TONES = {"slower": "error", "cannot tell": "missing"}


def differences(comparison: Comparison) -> Table:
    """A row for each figure of each point that both results have."""
    doubts = any(point.doubts for point in comparison.points)
    columns = (
        Column("point", "model", numeric=False),
        Column("detail", "phase" if comparison.kind == "stream" else "point", numeric=False),
        Column("figure", "figure", numeric=False),
        Column("unit", "unit", numeric=False, printed=False),
        Column("a", "A"),
        Column("b", "B"),
        Column("change_fraction", "change", "%"),
        Column("change_low_fraction", "low end", "%", printed=False),
        Column("change_high_fraction", "high end", "%", printed=False),
        Column("outcome", "B is", numeric=False),
        Column("paired", "paired", numeric=False, printed=False),
        *((Column("doubt", "not to rely on", numeric=False),) if doubts else ()),
    )
    rows = tuple(
        Row((*_cells(point, change), *((_doubt(point),) if doubts else ())), point.group, point.phase, point.strong)
        for point, change in comparison.changes
    )
    stamped = f" ({', '.join(comparison.stamps)})" if comparison.stamps else ""
    return Table("differences", f"What differs, point by point{stamped}", columns, rows)


def lone_points(comparison: Comparison) -> Table | None:
    """What only one of them has; None where both have the same."""
    columns = (
        Column("point", "point", numeric=False),
        Column("only_in", "figures only in", numeric=False),
        Column("why", "because", numeric=False),
    )
    rows = tuple(
        Row((name(one.name), name(one.letter), Cell(one.why, one.why, "error" if one.failed else "")))
        for one in comparison.lone
    )
    return Table("only_in_one", "Only in one of them", columns, rows) if rows else None


def change_text(change: Change) -> str:
    """+10.2 % [+8.1, +12.4]: the change and its 95 % interval."""
    if change.change is None:
        return "n/a"
    return f"{_percent(change.change)} % {interval_text(change)}".strip()


def interval_text(change: Change) -> str:
    """Percent, in brackets; "" where there is none."""
    if change.interval is None:
        return ""
    low, high = change.interval
    return f"[{_percent(low)}, {_percent(high)}]"


def figure_text(figure: str, value: float | None) -> str:
    """With its unit."""
    if value is None:
        return "n/a"
    return f"{significant(value)} /s" if figure == RATE else f"{milliseconds(value)} ms"


def _cells(point: Compared, change: Change) -> tuple[Cell, ...]:
    low, high = change.interval or (None, None)
    tone = _OUTCOME_TONES.get(change.outcome, "")
    return (
        name(point.group),
        name(point.detail),
        name(change.figure),
        name("1/s" if change.figure == RATE else "s"),
        _figure(change.figure, change.a),
        _figure(change.figure, change.b),
        missing("n/a")
        if change.change is None
        else Cell(change.change, _percent(change.change), note=interval_text(change)),
        Cell(low, ""),
        Cell(high, ""),
        Cell(change.outcome, change.outcome, "error" if tone == "error" else "missing" if tone else ""),
        name("yes" if change.paired else "no"),
    )


def _figure(figure: str, value: float | None) -> Cell:
    return missing("n/a") if value is None else Cell(value, figure_text(figure, value))


def _doubt(point: Compared) -> Cell:
    text = "; ".join(point.doubts)
    return Cell(text, text, "error" if text else "")


def _percent(part: float) -> str:
    """Signed, with one decimal below 100 %: a change of less than 0.05 % has none to speak of."""
    return f"{100 * part:+,.{1 if abs(part) < 1 else 0}f}"
