"""One network across devices: a panel a network, a line a place, the published ones of other hardware in grey."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dlreport.bench.beside import Beside, deepdetect_rows
from dlreport.bench.pictures.panel import (
    MOST_SERIES,
    Grid,
    batch_axis,
    dashes,
    draw_series,
    key,
    key_height_in,
    log_axis,
    marks_handles,
    panel_title,
)
from dlreport.bench.pictures.times import MOST_PICTURES, batches_of, time_series
from dlreport.bench.variant import Variant
from dlreport.bench.view import BenchView, chunks, models, per_image_s
from dlreport.quantity import milliseconds
from dlreport.series import handle
from dlreport.style import QUIET, Frame, Picture, clip, save, sheet

_PANELS = 9
_COLUMNS = 3
_MOST_PLACES = 3
"""Own lines beside published ones, so that a panel holds no more than can be told apart."""


def draw_across(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """Pictures of up to nine networks; none where there is but one place and nothing was published."""
    published = deepdetect_rows(view)
    places = [place for place in view.speed_variants if batches_of(place) > 1]
    if not places or (len(places) < 2 and not published):
        return []
    most = _MOST_PLACES if published else MOST_SERIES
    tasks = [
        (places[start : start + most], names)
        for start in range(0, len(places), most)
        for names in chunks(_drawable(places[start : start + most]), _PANELS)
    ]
    return [
        _draw(view, part, names, published, number, frame, folder)
        for number, (part, names) in enumerate(tasks[:MOST_PICTURES], start=1)
    ]


def _drawable(places: Sequence[Variant]) -> tuple[str, ...]:
    """The networks that have a figure at any of the places."""
    return models(point for place in places for point in place.points if per_image_s(point))


def _draw(
    view: BenchView,
    places: Sequence[Variant],
    names: Sequence[str],
    published: Sequence[Beside],
    number: int,
    frame: Frame,
    folder: Path,
) -> Picture:
    columns = min(_COLUMNS, len(names))
    grid = Grid(-(-len(names) // columns), columns, height=1.55, top=0.3, bottom=0.5, left=0.66)
    hardware = list(dict.fromkeys(row.hardware for row in published if row.model in names))
    handles = [handle(place, one.label) for place, one in enumerate(places)]
    handles += [_published_handle(place, label) for place, label in enumerate(hardware)]
    series = [time_series(view, place.label, place.of(model)) for place in places for model in names]
    handles += marks_handles(series)
    head = key_height_in(handles, _COLUMNS)
    title = "One network across devices"
    subtitle = "Time per image over batch size; lower is faster" + (
        "; grey: published, of other, older hardware" if hardware else ""
    )
    drawn = sheet(title, subtitle, frame, grid.plot_height_in + head)
    for place, model in enumerate(names):
        axes = grid.axes(drawn, place // columns, place % columns, head_in=head)
        _panel(view, axes, model, places, [row for row in published if row.model == model], hardware)
        if place % columns:
            axes.set_ylabel("")
        if place == 0:
            key(axes, handles, most=_COLUMNS, above_in=grid.top + 0.05)
    said = "; ".join(
        f"{model}, {place.label}: "
        + ", ".join(
            f"batch {size} {milliseconds(ms / 1e3)} ms" for size, ms, _ in time_series(view, "", place.of(model)).points
        )
        for model in names
        for place in places
    )
    return save(drawn, folder, f"across-{number}", title, f"{title}. {said}.")


def _panel(
    view: BenchView,
    axes: Axes,
    model: str,
    places: Sequence[Variant],
    published: Sequence[Beside],
    hardware: Sequence[str],
) -> None:
    series = [time_series(view, place.label, place.of(model)) for place in places]
    lines = {
        row.hardware: [(size, value * 1e3) for size, value in sorted(row.values_s.items()) if value is not None]
        for row in published
    }
    times = [ms for one in series for _, ms, _ in one.points] + [ms for line in lines.values() for _, ms in line]
    sizes = [size for one in series for size in (*(size for size, _, _ in one.points), *one.failed)]
    sizes += [size for line in lines.values() for size, _ in line]
    batch_axis(axes, sizes, most_ticks=5)
    log_axis(axes, times)
    axes.set_ylabel("ms per image (log.)")
    axes.set_xlabel("batch size (log.)")
    panel_title(axes, clip(model, 24, tail=8))
    for label, line in lines.items():
        if line:
            axes.plot(
                *zip(*line, strict=True), color=QUIET, linewidth=1.2, linestyle=dashes(hardware.index(label)), zorder=1
            )
    draw_series(axes, series)


def _published_handle(number: int, label: str) -> Line2D:
    return Line2D(
        [], [], color=QUIET, linewidth=1.2, linestyle=dashes(number), label=f"{clip(label, 30, tail=10)} (published)"
    )
