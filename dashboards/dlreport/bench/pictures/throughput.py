"""Images per second over batch size; the larger the bubble, the more memory was in use."""

import math
from collections.abc import Sequence
from pathlib import Path

from dlclient.bench_result import Point
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dlreport.bench.pictures.panel import MOST_SERIES, Grid, batch_axis, key, log_axis
from dlreport.bench.pictures.times import shown
from dlreport.bench.variant import Variant
from dlreport.bench.view import BenchView, batch_sizes, chunks, images_per_s, memory_bytes, models, same_place
from dlreport.quantity import gigabytes, significant
from dlreport.series import color, handle
from dlreport.style import QUIET, Frame, Picture, clip, save, sheet

_LARGEST_POINTS = 22.0
"""Diameter of the largest bubble."""


def draw_throughput(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """A picture a place whose memory is known, a panel every few networks; none where no memory is known."""
    places = [place for place in shown(view) if any(_memory(view, point) for point in place.points)]
    return [_draw(view, place, number, frame, folder) for number, place in enumerate(places, start=1)]


def _memory(view: BenchView, point: Point) -> int | None:
    return memory_bytes(point) or view.memory.get(same_place(point.setting))


def _draw(view: BenchView, place: Variant, number: int, frame: Frame, folder: Path) -> Picture:
    names = sorted(
        models(place.points), key=lambda model: -max((images_per_s(one) or 0.0 for one in place.of(model)), default=0.0)
    )
    names = [model for model in names if any(images_per_s(one) and _memory(view, one) for one in place.of(model))]
    groups = chunks(names, MOST_SERIES)
    grid = Grid(len(groups), 1, height=2.8, top=0.5, bottom=0.52, left=0.8)
    title = f"Throughput against batch: {clip(place.label, 50)}"
    subtitle = f"{clip(place.hardware, 40)}; higher is faster; area of a bubble: memory in use"
    drawn = sheet(title, subtitle, frame, grid.plot_height_in)
    most = max(_memory(view, point) or 0 for model in names for point in place.of(model))
    said = []
    for row, group in enumerate(groups):
        axes = grid.axes(drawn, row, 0)
        points = [point for model in group for point in place.of(model)]
        batch_axis(axes, batch_sizes(points))
        log_axis(axes, [rate for point in points if (rate := images_per_s(point))], room=1.6)
        axes.set_ylabel("images/s (logarithmic)")
        said += [_draw_line(view, axes, place.of(model), line, most) for line, model in enumerate(group)]
        key(axes, [handle(line, model) for line, model in enumerate(group)], most=4)
        _bubble_key(axes, most)
    return save(drawn, folder, f"throughput-{number}", title, f"{title}. {'; '.join(said)}.")


def _draw_line(view: BenchView, axes: Axes, points: Sequence[Point], number: int, most: int) -> str:
    told = [(point.setting.batch_size, rate, point) for point in points if (rate := images_per_s(point))]
    axes.plot(
        [size for size, _, _ in told], [rate for _, rate, _ in told], color=color(number), linewidth=1.3, zorder=2
    )
    words = []
    for size, rate, point in told:
        memory = _memory(view, point)
        axes.plot(
            size, rate, "o", color=color(number), alpha=0.55 if memory else 1.0, zorder=3,
            markersize=_diameter(memory, most) if memory else 3, markeredgecolor="white" if memory else color(number),
            markerfacecolor="none" if not view.sure(point) else color(number), markeredgewidth=0.6,
        )  # fmt: skip
        words.append(f"batch {size} {significant(rate)} images/s" + (f", {gigabytes(memory)} GB" if memory else ""))
    return f"{points[0].setting.model}: {', '.join(words)}"


def _diameter(memory: int, most: int) -> float:
    """In points, so that areas are as the bytes."""
    return max(2.5, _LARGEST_POINTS * math.sqrt(memory / most))


def _bubble_key(axes: Axes, most: int) -> None:
    """What two sizes of a bubble stand for, beside the key of the networks."""
    names = axes.get_legend()
    handles = [
        Line2D(
            [], [], color=QUIET, marker="o", linestyle="", alpha=0.45, markersize=_diameter(int(share * most), most),
            label=f"{gigabytes(share * most)} GB",
        )
        for share in (1.0, 0.25)
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="lower right", frameon=False, fontsize=8.5, labelspacing=0.9, borderpad=0.9, handletextpad=1.0
    )  # fmt: skip
    if names is not None:
        axes.add_artist(names)
