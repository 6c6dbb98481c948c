"""The change of one figure at every point, with its interval: what crosses the line of no change is no difference."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dlreport.compare.comparison import Compared, Comparison
from dlreport.compare.difference import LATENCIES, RATE, Change
from dlreport.compare.tables import change_text
from dlreport.quantity import plain
from dlreport.style import BLUE, INK, QUIET, VERMILLION, Frame, Picture, clip, house_style, key_above, save, sheet

_MOST_ROWS = 30
_ROW_IN = 0.3
_MARKS = {"slower": ("X", VERMILLION), "faster": ("o", BLUE), "no difference": ("D", QUIET)}
"""By outcome: shapes tell them apart without colours."""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    change: Change


def draw_changes(comparison: Comparison, frame: Frame, folder: Path) -> list[Picture]:
    """One picture for the mean, one for the p99 where it is told, one for images per second; none where nothing can be told."""
    pictures = []
    with house_style():
        for figure in (*LATENCIES, RATE):
            rows = [
                _Row(_label(point), change)
                for point, change in comparison.changes
                if change.figure == figure and change.interval is not None
            ]
            if rows and figure in {"mean", "p99", RATE}:
                pictures.append(_draw(figure, rows, frame, folder))
    return pictures


def _draw(figure: str, rows: list[_Row], frame: Frame, folder: Path) -> Picture:
    """Points in the order of the table, from the top; of many only those that changed most."""
    shown = rows
    if len(rows) > _MOST_ROWS:
        most = sorted(rows, key=lambda row: -abs(row.change.change or 0.0))[:_MOST_ROWS]
        shown = [row for row in rows if row in most]
    title = f"What changed from A to B: {figure if figure == RATE else f'{figure} latency'}"
    subtitle = "Change with its 95 % interval; an interval across the line is no difference"
    if len(shown) < len(rows):
        subtitle += f" ({len(shown)} of {len(rows)} points, the largest)"
    drawn = sheet(title, subtitle, frame, 1.0 + _ROW_IN * len(shown))
    longest = max(len(row.name) for row in shown)
    axes = drawn.axes(left=min(0.4 + 0.083 * longest, 3.6), right=0.35, top=0.28)
    for height, row in enumerate(reversed(shown)):
        _draw_row(axes, height, row)
    axes.axvline(0, color=INK, linewidth=1.0, zorder=1)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_yticks(range(len(shown)), labels=[row.name for row in reversed(shown)])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.grid(visible=True)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{'+' if value > 0 else ''}{plain(value)}"))
    better = "right is faster" if figure == RATE else "right is slower"
    axes.set_xlabel(f"change from A to B, % ({better})")
    _key(axes, shown)
    alt = "; ".join(f"{row.name}: {change_text(row.change)}, {row.change.outcome}" for row in shown)
    name = f"changes_{'rate' if figure == RATE else figure}"
    return save(drawn, folder, name, title, f"{title}. {alt}.")


def _draw_row(axes: Axes, height: int, row: _Row) -> None:
    marker, color = _MARKS[row.change.outcome]
    low, high = row.change.interval or (0.0, 0.0)
    axes.plot([100 * low, 100 * high], [height, height], color=color, linewidth=2.2, solid_capstyle="butt", zorder=2)
    axes.plot(
        100 * (row.change.change or 0.0), height, marker, color=color, markersize=7, markeredgecolor="white", zorder=3
    )


def _key(axes: Axes, shown: list[_Row]) -> None:
    there = {row.change.outcome for row in shown}
    handles = [
        Line2D([], [], color=color, marker=marker, linewidth=2.2, markersize=7, markeredgecolor="white", label=f"B is {outcome}" if outcome != "no difference" else outcome)
        for outcome, (marker, color) in _MARKS.items()
        if outcome in there
    ]  # fmt: skip
    key_above(axes, handles, 1.0)


def _label(point: Compared) -> str:
    return clip(point.name, 44, tail=18)
