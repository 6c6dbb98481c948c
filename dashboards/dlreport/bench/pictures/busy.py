"""How busy the machine was and how much memory it used: against batch size, and over time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlclient.bench_result import Point
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dlreport.bench.busy import watched_variants
from dlreport.bench.pictures.panel import (
    MOST_SERIES,
    Grid,
    Series,
    batch_axis,
    draw_series,
    key,
    linear_axis,
    marks_handles,
)
from dlreport.bench.pictures.times import MOST_PICTURES
from dlreport.bench.variant import Variant
from dlreport.bench.view import BenchView, batch_sizes, chunks, memory_bytes, models, on_gpu
from dlreport.quantity import plain, significant
from dlreport.series import handle
from dlreport.style import BLUE, GREEN, VERMILLION, Frame, Picture, clip, save, sheet

_COLUMNS = 5
_ROWS = 4


@dataclass(frozen=True)
class _Tick:
    """A sample of a point's series: seconds, percent, percent, gigabytes."""

    at_s: float
    cpu: float | None
    gpu: float | None
    memory: float | None


def draw_busy(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """Against batch size: a picture a place with two batch sizes or more, busy on the left, memory on the right."""
    places = [place for place in watched_variants(view) if len(batch_sizes(place.points)) > 1]
    return [
        _draw_by_batch(place, number, frame, folder) for number, place in enumerate(places[:MOST_PICTURES], start=1)
    ]


def draw_over_time(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """Over time: a row a network, a column a batch size; first how busy, then memory."""
    tasks = [
        (place, names)
        for place in watched_variants(view)
        for names in chunks([model for model in models(place.points) if _has_series(place.of(model))], _ROWS)
        if names
    ]
    pictures = []
    for number, (place, names) in enumerate(tasks[: MOST_PICTURES // 2], start=1):
        pictures.append(_draw_time(place, names, f"busy-time-{number}", "busy", frame, folder))
        pictures.append(_draw_time(place, names, f"memory-time-{number}", "memory", frame, folder))
    return pictures


def share_busy(point: Point) -> float | None:
    """Of the device that computed: NVML's of a GPU, else of all cores."""
    used = point.utilization
    if used is None:
        return None
    return used.gpu if on_gpu(point.setting) else used.cpu


def _draw_by_batch(place: Variant, number: int, frame: Frame, folder: Path) -> Picture:
    groups = chunks(models(place.points), MOST_SERIES)
    grid = Grid(len(groups), 2, height=2.2, top=0.5, bottom=0.52)
    device = "GPU" if on_gpu(place.setting) else "CPU, all cores"
    title = f"Utilization and memory against batch: {clip(place.label, 40)}"
    drawn = sheet(title, f"{clip(place.hardware, 60)}; within the timed part", frame, grid.plot_height_in)
    said = []
    for row, group in enumerate(groups):
        busy = [_series(place, model, share_busy, 100.0) for model in group]
        memory = [_series(place, model, memory_bytes, 1e-9) for model in group]
        for column, (series, label) in enumerate(((busy, f"{device} busy, %"), (memory, "memory in use, GB"))):
            axes = grid.axes(drawn, row, column)
            batch_axis(axes, batch_sizes(place.points))
            if column:
                linear_axis(axes, [value for one in series for _, value, _ in one.points])
            else:
                axes.set_ylim(0, 108)
                axes.yaxis.grid(visible=True)
            axes.set_ylabel(label)
            draw_series(axes, series)
            if not column:
                key(
                    axes,
                    [*(handle(at, model) for at, model in enumerate(group)), *marks_handles(busy)],
                )
        said += [
            f"{one.label}: " + ", ".join(f"batch {size} {significant(value)}{unit}" for size, value, _ in one.points)
            for series, unit in ((busy, " % busy"), (memory, " GB"))
            for one in series
        ]
    return save(drawn, folder, f"busy-{number}", title, f"{title}. {'; '.join(said)}.")


def _series(place: Variant, model: str, of: Callable[[Point], float | None], unit: float) -> Series:
    points = place.of(model)
    told = tuple(
        (point.setting.batch_size, value * unit, not point.reasons)
        for point in points
        if point.failure is None and (value := of(point)) is not None
    )
    return Series(model, told, tuple(point.setting.batch_size for point in points if point.failure is not None))


def _has_series(points: Sequence[Point]) -> bool:
    return any(point.utilization and point.utilization.series for point in points)


def _ticks(point: Point) -> list[_Tick]:
    found = point.utilization.series if point.utilization else ()
    return [
        _Tick(
            at_s,
            None if cpu is None else cpu * 100,
            None if gpu is None else gpu * 100,
            None if used is None else used / 1e9,
        )
        for at_s, cpu, gpu, used in found
    ]


def _draw_time(place: Variant, names: Sequence[str], name: str, what: str, frame: Frame, folder: Path) -> Picture:
    sizes = batch_sizes(point for model in names for point in place.of(model) if _has_series([point]))[:_COLUMNS]
    grid = Grid(len(names), len(sizes), height=1.0, top=0.52, bottom=0.4, left=0.46, right=0.06)
    title = f"{'Utilization' if what == 'busy' else 'Memory'} over time: {clip(place.label, 50)}"
    subtitle = "A row a network, a column a batch size; seconds since the timed part began"
    drawn = sheet(title, subtitle, frame, grid.plot_height_in + 0.3)
    points = {(point.setting.model, point.setting.batch_size): point for point in place.points}
    most = max((tick.memory or 0.0 for point in place.points for tick in _ticks(point)), default=0.0)
    for row, model in enumerate(names):
        for column, size in enumerate(sizes):
            axes = grid.axes(drawn, row, column, head_in=0.3)
            _time_panel(axes, points.get((model, size)), what, most)
            if column == 0:
                axes.annotate(
                    clip(model, 44, tail=12), (0, 1), (0, 17), xycoords="axes fraction", textcoords="offset points", fontweight="bold"
                )  # fmt: skip
            axes.annotate(
                f"batch {size}", (1, 1), (0, 2), xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=8
            )  # fmt: skip
            if column == 0:
                axes.set_ylabel("busy, %" if what == "busy" else "GB", fontsize=8.5)
            if row == len(names) - 1:
                axes.set_xlabel("s", fontsize=8.5)
            if row == column == 0:
                key(axes, _time_handles(place, what), above_in=0.45)
    return save(drawn, folder, name, title, f"{title}: {', '.join(names)}; batch {', '.join(map(str, sizes))}.")


def _time_panel(axes: Axes, point: Point | None, what: str, most: float) -> None:
    ticks = _ticks(point) if point else []
    axes.yaxis.grid(visible=True)
    axes.tick_params(labelsize=7.5)
    axes.set_ylim(0, 108 if what == "busy" else most * 1.1 or 1.0)
    if not ticks:
        reason = "failed" if point is not None and point.failure is not None else "not watched"
        axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", fontsize=8)
        return
    lines: dict[str, tuple[list[float | None], str]] = {
        "cpu": ([tick.cpu for tick in ticks], GREEN),
        "gpu": ([tick.gpu for tick in ticks], BLUE),
    }
    if what == "memory":
        lines = {"memory": ([tick.memory for tick in ticks], VERMILLION)}
    for values, color in lines.values():
        if any(value is not None for value in values):
            axes.plot(
                [tick.at_s for tick in ticks], [float("nan") if value is None else value for value in values], color=color, linewidth=1.2
            )  # fmt: skip
    axes.xaxis.set_major_formatter(lambda value, _: plain(value))


def _time_handles(place: Variant, what: str) -> list[Line2D]:
    if what == "memory":
        where = "of the device, in use" if on_gpu(place.setting) else "resident"
        return [Line2D([], [], color=VERMILLION, linewidth=1.5, label=f"memory {where}")]
    handles = [Line2D([], [], color=GREEN, linewidth=1.5, label="CPU, all cores")]
    if on_gpu(place.setting):
        handles.append(Line2D([], [], color=BLUE, linewidth=1.5, label="GPU"))
    return handles
