"""Threads by batch size: the figure of every setting, darker where it is more images per second, the best one framed."""

from collections.abc import Sequence
from pathlib import Path

from dlclient.bench_result import Point
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from dlreport.bench.pictures.panel import Grid
from dlreport.bench.pictures.times import MOST_PICTURES
from dlreport.bench.sweep import Sweep, row_label, sweeps
from dlreport.bench.view import BenchView, images_per_s
from dlreport.quantity import significant
from dlreport.style import BLUE, INK, QUIET, VERMILLION, Frame, Picture, clip, save, sheet

_PALE_TO_BLUE = LinearSegmentedColormap.from_list("pale-to-blue", ["#F4F8FB", "#9CC9E3", BLUE])
_PER_PICTURE = 4
_ROW_IN = 0.34


def draw_heat(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """Up to four sweeps a picture; none without a sweep that has a figure."""
    found = [one for one in sweeps(view) if one.best is not None]
    parts = [found[start : start + _PER_PICTURE] for start in range(0, len(found), _PER_PICTURE)][:MOST_PICTURES]
    return [_draw(part, number, frame, folder) for number, part in enumerate(parts, start=1)]


def _draw(part: Sequence[Sweep], number: int, frame: Frame, folder: Path) -> Picture:
    columns = 1 if len(part) == 1 else 2
    tall = max(len(one.rows) for one in part)
    wide = max(len(row_label(row)) for one in part for row in one.rows)
    grid = Grid(
        -(-len(part) // columns), columns, height=_ROW_IN * tall, top=0.52, bottom=0.55, left=0.5 + 0.075 * wide, right=0.15
    )  # fmt: skip
    title = "Threads by batch"
    drawn = sheet(
        title,
        "Images per second of every setting; framed: the best; x: failed; in brackets: not to quote",
        frame,
        grid.plot_height_in,
    )
    for place, one in enumerate(part):
        _panel(grid.axes(drawn, place // columns, place % columns), one)
    said = "; ".join(f"{one.model}, {one.label}: best {_best_words(one)}" for one in part)
    return save(drawn, folder, f"heat-{number}", title, f"{title}. {said}.")


def _best_words(one: Sweep) -> str:
    best = one.best
    assert best is not None
    rate = images_per_s(best) or 0.0
    threads = row_label((best.setting.threads, best.setting.affinity))
    return f"{significant(rate)} images/s: threads {threads}, batch {best.setting.batch_size}"


def _panel(axes: Axes, one: Sweep) -> None:
    most = max(images_per_s(point) or 0.0 for point in one.points if not point.reasons or point is one.best)
    for y, row in enumerate(one.rows):
        for x, size in enumerate(one.columns):
            point = one.at(row, size)
            if point is not None:
                _draw_cell(axes, x, y, point, most, best=point is one.best)
    axes.set_xlim(-0.5, len(one.columns) - 0.5)
    axes.set_ylim(-0.5, len(one.rows) - 0.5)
    axes.set_xticks(range(len(one.columns)), labels=[str(size) for size in one.columns])
    axes.set_yticks(range(len(one.rows)), labels=[row_label(row) for row in one.rows])
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("batch size")
    axes.set_ylabel("threads")
    axes.annotate(
        clip(f"{one.model}, {one.label}", 50, tail=14), (0, 1), (0, 17), xycoords="axes fraction", textcoords="offset points",
        fontsize=9.5, fontweight="bold",
    )  # fmt: skip
    axes.annotate(
        f"best: {clip(_best_words(one), 52)}", (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=QUIET
    )  # fmt: skip


def _draw_cell(axes: Axes, x: int, y: int, point: Point, most: float, *, best: bool) -> None:
    """The figure of a setting; `most`: that of the darkest."""
    rate = images_per_s(point)
    share = min(1.0, (rate or 0.0) / most)
    pale = rate is None or bool(point.reasons)
    text = "x" if rate is None else f"({significant(rate)})" if point.reasons else significant(rate)
    face = "white" if pale else _PALE_TO_BLUE(share)
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=1.5))
    axes.text(
        x, y, text, ha="center", va="center", fontsize=8.5, fontweight="bold" if best else "normal",
        color=QUIET if pale else "white" if share > 0.75 else INK,
    )  # fmt: skip
    if best:
        frame = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, edgecolor=VERMILLION, linewidth=2.2, zorder=3)
        axes.add_patch(frame)
