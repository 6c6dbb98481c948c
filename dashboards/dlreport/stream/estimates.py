"""A mean or a percentile with its 95 % confidence interval, as cells of a table. Pure functions."""

from dlclient.results import Latency, SendLag

from dlreport.quantity import latency_text, milliseconds
from dlreport.table import Cell, Column, missing

HEADINGS = {"mean": "mean", "p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "largest": "largest"}
"""The figures of a Latency, as people call them."""


def estimate_columns(figure: str, *, printed: bool = True) -> tuple[Column, ...]:
    """The figure, and (for programs) the ends of its interval; no interval for the largest, which is what it is."""
    column = Column(f"{figure}_s", HEADINGS[figure], "ms", printed=printed)
    if figure == "largest":
        return (column,)
    ends = (
        Column(f"{figure}_{end}_s", f"{HEADINGS[figure]}, {end} end", "ms", printed=False) for end in ("low", "high")
    )
    return (column, *ends)


def estimate_cells(times: Latency | SendLag, figure: str, samples: int) -> tuple[Cell, ...]:
    """Under those columns; the interval is a note at the figure."""
    told: float | None = getattr(times, figure, None)
    interval = (getattr(times, "intervals", None) or {}).get(figure)
    text = latency_text(told, samples)
    if isinstance(times, SendLag) and not hasattr(times, figure):
        cell = Cell(None, "")
    elif told is None:
        cell = missing(text)
    else:
        cell = Cell(told, text, note=interval_text(interval) if interval else "")
    if figure == "largest":
        return (cell,)
    low, high = interval or (None, None)
    return (cell, Cell(low, ""), Cell(high, ""))


def interval_text(interval: tuple[float, float]) -> str:
    """Seconds as [milliseconds, milliseconds]."""
    low, high = interval
    return f"[{milliseconds(low)}, {milliseconds(high)}]"
