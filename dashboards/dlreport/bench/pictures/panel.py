"""Panels: the small pictures in a picture, and the axes and keys that they share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import blended_transform_factory

from dlreport.quantity import plain
from dlreport.series import color, mark
from dlreport.style import INK, LINE, QUIET, WIDTH_IN, Sheet, clip, round_ticks

MOST_SERIES = 5
"""Lines that a person can tell apart in one panel."""


@dataclass(frozen=True)
class Series:
    """A line: (batch size, figure, whether it can be quoted), and the batch sizes that failed."""

    label: str
    points: tuple[tuple[int, float, bool], ...]
    failed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Grid:
    """Panels side by side on a sheet. Inches: room around each for its labels, and above all for a key."""

    rows: int
    columns: int
    height: float = 2.1
    left: float = 0.62
    right: float = 0.16
    top: float = 0.34
    bottom: float = 0.5

    @property
    def plot_height_in(self) -> float:
        """Of all panels with their room."""
        return self.rows * (self.height + self.top + self.bottom)

    def axes(self, drawn: Sheet, row: int, column: int, *, head_in: float = 0.0) -> Axes:
        """A panel's axes; `head_in`: room kept above all panels."""
        figure = drawn.figure
        height = figure.get_figheight()
        foot = height - drawn.plot_height_in - _TITLE_IN
        width = (WIDTH_IN - 2 * _MARGIN_IN) / self.columns
        cell = (drawn.plot_height_in - head_in) / self.rows
        low = foot + (self.rows - 1 - row) * cell + self.bottom
        return figure.add_axes(
            (
                (_MARGIN_IN + column * width + self.left) / WIDTH_IN,
                low / height,
                (width - self.left - self.right) / WIDTH_IN,
                (cell - self.bottom - self.top) / height,
            )
        )


_TITLE_IN = 0.74
_MARGIN_IN = 0.12


def draw_series(axes: Axes, series: Sequence[Series]) -> None:
    """Lines with marks; a hollow mark is a figure that is none to quote, a cross at the top a batch that failed.

    Call when the limits are set: they are widened to have room for the crosses.
    """
    losers = [number for number, one in enumerate(series) if one.failed]
    _make_room(axes, 0.075 * len(losers))
    for number, one in enumerate(series):
        line = [(size, figure) for size, figure, sure in one.points if sure]
        if line:
            axes.plot(*zip(*line, strict=True), color=color(number), linewidth=1.5, zorder=2)
        for size, figure, sure in one.points:
            axes.plot(
                size, figure, mark(number), color=color(number), markersize=5, zorder=3,
                markerfacecolor=color(number) if sure else "white", markeredgewidth=1.2 if not sure else 0.5,
                markeredgecolor=color(number) if not sure else "white",
            )  # fmt: skip
        for size in one.failed:
            axes.plot(
                size, 0.965 - 0.07 * losers.index(number), "x", color=color(number), markersize=6, markeredgewidth=1.8,
                transform=axes.get_xaxis_transform(), clip_on=False, zorder=4,
            )  # fmt: skip


def batch_axis(axes: Axes, sizes: Iterable[int], *, most_ticks: int = 8) -> None:
    """A logarithmic axis of batch sizes: ticks are those that were measured, as many as there is room for."""
    found = sorted(set(sizes))
    axes.set_xscale("log", base=2)
    axes.set_xlim(found[0] / 1.35, found[-1] * 1.35)
    step = -(-len(found) // most_ticks)
    axes.xaxis.set_major_locator(FixedLocator(_apart(found[::step])))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.set_xlabel("batch size (logarithmic)")


def log_axis(axes: Axes, values: Iterable[float], *, room: float = 1.35) -> None:
    """A logarithmic vertical axis around positive values, with few round ticks."""
    found = [value for value in values if value > 0] or [1.0]
    low, high = min(found), max(found)
    middle = max(high / low, 3.0) ** 0.5 * room
    center = (low * high) ** 0.5
    axes.set_yscale("log")
    axes.set_ylim(center / middle, center * middle)
    axes.yaxis.set_major_locator(FixedLocator(round_ticks(center / middle, center * middle, most=6)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.yaxis.grid(visible=True)


def linear_axis(axes: Axes, values: Iterable[float], *, room: float = 1.12) -> None:
    """A linear vertical axis from 0."""
    axes.set_ylim(0, max((*values, 1e-9)) * room)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.yaxis.grid(visible=True)


def panel_title(axes: Axes, text: str) -> None:
    """Above its top left corner."""
    axes.set_title(clip(text, 44, tail=12), loc="left", fontsize=9.5, color=INK, fontweight="bold", pad=5)


def key(axes: Axes, handles: Sequence[Line2D], *, most: int = 4, above_in: float = 0.05) -> None:
    """A key above a panel, from the picture's left edge on, in as many columns as fit; names are read row by row."""
    columns = _key_columns(handles, most)
    rows = -(-len(handles) // columns)
    # matplotlib fills column by column: put them so that the rows read in order
    places = [row * columns + column for column in range(columns) for row in range(rows)]
    height = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]  # ours are on no subfigure
    axes.legend(
        handles=[handles[place] for place in places if place < len(handles)], loc="lower left", ncols=columns,
        bbox_to_anchor=(0.16 / WIDTH_IN, 1 + above_in / height),
        bbox_transform=blended_transform_factory(axes.figure.transFigure, axes.transAxes),
        frameon=False, fontsize=8.5, columnspacing=1.2, handlelength=1.6, handletextpad=0.45, borderpad=0.1, labelspacing=0.3,
        borderaxespad=0.0,
    )  # fmt: skip


def key_height_in(handles: Sequence[Line2D], most: int = 4) -> float:
    """What such a key needs."""
    return 0.1 + 0.175 * -(-len(handles) // _key_columns(handles, most))


def _key_columns(handles: Sequence[Line2D], most: int) -> int:
    longest = max((len(str(one.get_label())) for one in handles), default=1)
    return max(1, min(most, len(handles), int((WIDTH_IN - 0.3) / (0.45 + 0.069 * longest))))


def marks_handles(series: Iterable[Series]) -> list[Line2D]:
    """What hollow marks and crosses mean, where there are some."""
    told = list(series)
    handles = []
    if any(not sure for one in told for _, _, sure in one.points):
        handles.append(
            Line2D([], [], color=QUIET, marker="o", markerfacecolor="white", linestyle="", markersize=5, label="hollow: not to quote")
        )  # fmt: skip
    if any(one.failed for one in told):
        handles.append(Line2D([], [], color=QUIET, marker="x", linestyle="", markersize=6, label="failed"))
    return handles


def reference_lines(axes: Axes, lines: Mapping[str, float]) -> None:
    """Dashed lines across where the axis reaches; their names at their right ends, but for one that would lie on another's."""
    low, high = axes.get_ylim()
    named: list[float] = []
    for label, value in lines.items():
        if not low < value < high:
            continue
        axes.axhline(value, color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        height = axes.transLimits.transform(axes.transScale.transform((1, value)))[1]
        if all(abs(height - other) > 0.06 for other in named):
            named.append(height)
            axes.annotate(
                label, (1, value), (3, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center", fontsize=7.5,
                color=QUIET,
            )  # fmt: skip


def dashes(number: int) -> tuple[int, tuple[float, ...]]:
    """Of the n-th published line: they are all grey."""
    patterns: tuple[tuple[float, ...], ...] = ((5, 2), (2, 1.5), (6, 2, 1, 2), (1, 1.2))
    return 0, next(islice(cycle(patterns), number, None))


def spread(axes: Axes) -> None:
    """Light lines down from the ticks of the horizontal axis."""
    axes.xaxis.grid(visible=True, color=LINE, linewidth=0.5)


def _apart(sizes: Sequence[int]) -> list[int]:
    """Those that lie far enough from the one before for their numbers not to touch; the last one stays."""
    kept: list[int] = []
    for size in reversed(sizes):
        if not kept or kept[-1] / size >= 1.25:
            kept.append(size)
    return kept[::-1]


def _make_room(axes: Axes, share: float) -> None:
    """Raise the upper limit so that this share of the axis is above what was there."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low, low * (high / low) ** (1 / (1 - share)))
    else:
        axes.set_ylim(low, low + (high - low) / (1 - share))
