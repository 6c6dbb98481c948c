"""The one visual style of all pictures: colours, type, frame, and how a picture is saved.

Colours are Okabe and Ito's, which stay apart for colour-blind eyes; every series is also labelled in words. A picture
carries its title, what its axes mean and where it comes from, so that it can stand alone. Equal input gives equal files.
"""

import base64
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dlreport.quantity import plain

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"
INK, QUIET, LINE = "#1A1A1A", "#5F6368", "#D9DCE0"

_TEMPERATURES = {"warm": VERMILLION, "host": GREEN, "disk": BLUE}
_OTHERS = (PURPLE, ORANGE, SKY, BLACK)

WIDTH_IN = 7.4
_TITLE_IN = 0.74
_FOOT_IN = 0.34
_PNG_DPI = 200
_STAMP_POINTS = 8.0

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.color": INK,
    "text.parse_math": False,  # names come from data: a $ in one is a $
    "svg.fonttype": "path",  # looks the same wherever it is opened
    "svg.hashsalt": "dlreport",  # without it the ids in an SVG differ each time
    "hatch.linewidth": 0.6,
    "path.simplify": True,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A saved picture. `alt` says in words what it shows."""

    name: str
    title: str
    alt: str
    svg: bytes

    @property
    def data_uri(self) -> str:
        """The SVG inside an address, so that a page can hold it."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg).decode("ascii")


@dataclass(frozen=True, slots=True)
class Frame:
    """What every picture of a report has in common: a foot that says where it is from, and stamps across it."""

    foot: str
    stamps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sheet:
    """A figure with its title and foot, to put axes on. Measures are inches."""

    figure: Figure
    plot_height_in: float

    def axes(self, *, left: float = 0.75, right: float = 0.3, bottom: float = 0.5, top: float = 0.0) -> Axes:
        """Axes that leave these margins inside the plot area; `bottom` holds the tick labels and the axis label."""
        height = self.plot_height_in + _TITLE_IN + _FOOT_IN
        return self.figure.add_axes(
            (
                left / WIDTH_IN,
                (_FOOT_IN + bottom) / height,
                (WIDTH_IN - left - right) / WIDTH_IN,
                (self.plot_height_in - bottom - top) / height,
            )
        )


@contextmanager
def house_style() -> Iterator[None]:
    """Within it, what matplotlib draws has our style; outside nothing has changed."""
    with mpl.rc_context(_RC), warnings.catch_warnings():
        # A name in a script that our font does not have is drawn as boxes; the table beside it has it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def sheet(title: str, subtitle: str, frame: Frame, plot_height_in: float) -> Sheet:
    """An empty picture with title, subtitle, foot and stamps. Call within house_style."""
    height = plot_height_in + _TITLE_IN + _FOOT_IN
    figure = Figure(figsize=(WIDTH_IN, height), facecolor="white")
    FigureCanvasAgg(figure)
    margin = 0.16 / WIDTH_IN
    size = _title_size(title, frame.stamps)
    figure.text(margin, 1 - 0.18 / height, title, fontsize=size, fontweight="bold", va="top")
    figure.text(margin, 1 - 0.49 / height, subtitle, fontsize=9.5, color=QUIET, va="top")
    figure.text(margin, 0.12 / height, clip(frame.foot, 118), fontsize=7, color=QUIET, va="bottom")
    _stamp(figure, frame.stamps, plot_height_in / height)
    return Sheet(figure, plot_height_in)


def save(drawn: Sheet, folder: Path, name: str, title: str, alt: str) -> Picture:
    """Write NAME.png and NAME.svg into the folder. Call within house_style."""
    svg = io.BytesIO()
    drawn.figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None}, dpi=_PNG_DPI)
    (folder / f"{name}.svg").write_bytes(svg.getvalue())
    drawn.figure.savefig(folder / f"{name}.png", format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return Picture(name, title, alt, svg.getvalue())


def phase_colors(phases: Sequence[str]) -> dict[str, str]:
    """A colour for each phase: warm and cold have theirs in every picture, others take what is left."""
    others = [phase for phase in phases if phase not in _TEMPERATURES]
    return _TEMPERATURES | {phase: _OTHERS[number % len(_OTHERS)] for number, phase in enumerate(others)}


def clip(text: str, length: int, tail: int = 0) -> str:
    """Text that fits its place, on one line; `tail` characters of its end are kept: names often differ only there."""
    flat = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(flat) <= length:
        return flat
    return flat[: length - 1 - tail] + "…" + flat[len(flat) - tail :]


def clip_model(name: str) -> str:
    """A model's name, to stand beside its row in a picture."""
    return clip(name, 26, tail=10)


def log_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """Make an axis ("x" or "y") logarithmic over these limits, with few, round ticks."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if which == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    axis.set_major_locator(FixedLocator(round_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def key_above(axes: Axes, handles: Sequence[Artist], height: float) -> None:
    """A key on one line above the axes, from the left edge of their labels; `height` is a share of the axes' own."""
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.09, height),
        ncols=len(handles),
        frameon=False,
        columnspacing=1.4,
        handlelength=2.4,
        handletextpad=0.5,
        borderpad=0.2,
        fontsize=9,
    )


def round_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers within positive limits for a logarithmic axis: as many as fit, at most `most`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in (
        (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
        (1, 1.5, 2, 3, 4, 5, 6, 8),
        (1, 2, 3, 5),
        (1, 2, 5),
        (1, 3),
    ):
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) <= most:
            return ticks
    tens = [10.0**decade for decade in decades if low <= 10.0**decade <= high]
    return tens[:: math.ceil(len(tens) / most)]


def _title_size(title: str, stamps: Sequence[str]) -> float:
    """As large as leaves room for the stamps on the same line: bold letters are about 0.7 of their size wide."""
    room_in = WIDTH_IN - 0.4 - (0.25 + 0.7 * _STAMP_POINTS / 72 * len(" · ".join(stamps)) if stamps else 0.0)
    return min(13.0, room_in * 72 / (0.7 * len(title)))


def _stamp(figure: Figure, stamps: Sequence[str], plot_share: float) -> None:
    """Across the plot, pale, so that no copy of the picture goes without it; and small, dark, at the top right."""
    if not stamps:
        return
    text = " · ".join(stamps)
    height = _FOOT_IN / figure.get_figheight() + plot_share / 2
    figure.text(
        0.53,
        height,
        text,
        fontsize=min(40.0, 600 / len(text)),
        color=BLACK,
        alpha=0.07,
        ha="center",
        va="center",
        rotation=20,
        fontweight="bold",
        zorder=10,
    )
    box = {"boxstyle": "round,pad=0.35", "facecolor": INK, "edgecolor": "none"}
    figure.text(
        1 - 0.2 / WIDTH_IN,
        1 - 0.2 / figure.get_figheight(),
        text,
        fontsize=_STAMP_POINTS,
        color="white",
        ha="right",
        va="top",
        fontweight="bold",
        bbox=box,
    )
