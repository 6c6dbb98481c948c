"""Time per image over batch size, network by network: logarithmic and linear, with lines at 10, 25 and 100 images a second."""

from pathlib import Path

from dlclient.bench_result import Point

from dlreport.bench.pictures.panel import (
    MOST_SERIES,
    Grid,
    Series,
    batch_axis,
    draw_series,
    key,
    key_height_in,
    linear_axis,
    log_axis,
    marks_handles,
    reference_lines,
)
from dlreport.bench.sweep import unswept
from dlreport.bench.variant import Variant
from dlreport.bench.view import BenchView, batch_sizes, chunks, models, per_image_s
from dlreport.quantity import milliseconds
from dlreport.series import handle
from dlreport.style import Frame, Picture, clip, save, sheet

MOST_PICTURES = 4
"""Of one kind: more would not be looked at; the tables hold all."""

_LINES_PER_S = (10, 25, 100)
_TITLE = "Time per image"


def time_series(view: BenchView, label: str, points: tuple[Point, ...]) -> Series:
    """Milliseconds per image by batch size."""
    told = tuple(
        (point.setting.batch_size, seconds * 1e3, view.sure(point))
        for point in points
        if (seconds := per_image_s(point)) is not None
    )
    return Series(label, told, tuple(point.setting.batch_size for point in points if point.failure is not None))


def shown(view: BenchView) -> list[Variant]:
    """The places that are drawn: those with a network at two batch sizes, the first few."""
    return [one for one in unswept(view) if batches_of(one) > 1][:MOST_PICTURES]


def batches_of(place: Variant) -> int:
    """At how many batch sizes it has figures."""
    return len(batch_sizes(point for point in place.points if per_image_s(point)))


def draw_times(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """A picture a place; a row of panels for every few networks, the fastest first."""
    return [_draw(view, variant, number, frame, folder) for number, variant in enumerate(shown(view), start=1)]


def _draw(view: BenchView, variant: Variant, number: int, frame: Frame, folder: Path) -> Picture:
    lines = [time_series(view, model, variant.of(model)) for model in models(variant.points)]
    lines = sorted((one for one in lines if one.points), key=lambda one: min(ms for _, ms, _ in one.points))
    by_name = {one.label: one for one in lines}
    groups = [[by_name[label] for label in part] for part in chunks(list(by_name), MOST_SERIES)]
    keys = [[handle(place, one.label) for place, one in enumerate(group)] + marks_handles(group) for group in groups]
    grid = Grid(len(groups), 2, height=2.15, top=0.15 + max(map(key_height_in, keys)), bottom=0.52, right=0.42)
    title = f"{_TITLE}: {clip(variant.label, 60)}"
    subtitle = f"{clip(variant.hardware, 60)}; lower is faster; dashed: 10, 25 and 100 images/s"
    drawn = sheet(title, subtitle, frame, grid.plot_height_in)
    sizes = batch_sizes(variant.points)
    for row, group in enumerate(groups):
        times = [ms for one in group for _, ms, _ in one.points]
        for column in (0, 1):
            axes = grid.axes(drawn, row, column)
            batch_axis(axes, sizes)
            if column == 0:
                log_axis(axes, times)
                axes.set_ylabel("ms per image (logarithmic)")
                key(axes, keys[row])
            else:
                linear_axis(axes, times)
                axes.set_ylabel("ms per image")
            draw_series(axes, group)
            reference_lines(axes, {f"{rate}/s": 1e3 / rate for rate in _LINES_PER_S})
    said = "; ".join(
        f"{one.label}: " + ", ".join(f"batch {size} {milliseconds(ms / 1e3)} ms" for size, ms, _ in one.points)
        for one in lines
    )
    return save(drawn, folder, f"times-{number}", title, f"{title}. {said}.")
