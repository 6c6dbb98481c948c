"""A row a network, a mark a place: what batching gains, throughput against device, the largest batch that fits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlclient.bench_result import Point
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dlreport.bench.grid import gains
from dlreport.bench.largest import largest_text, largest_variants
from dlreport.bench.pictures.panel import MOST_SERIES, Series, key, key_height_in, marks_handles, spread
from dlreport.bench.pictures.times import MOST_PICTURES
from dlreport.bench.sweep import unswept
from dlreport.bench.variant import Variant
from dlreport.bench.view import BenchView, best, images_per_s, models
from dlreport.quantity import plain, ratio, significant
from dlreport.series import color, handle, mark
from dlreport.style import INK, LINE, QUIET, Frame, Picture, clip_model, round_ticks, save, sheet

_MOST_ROWS = 40
_ROW_IN = 0.34


@dataclass(frozen=True)
class Mark:
    """A figure of a network at a place. `value` None: it failed there. `sure` false: not to quote."""

    value: float | None
    text: str
    sure: bool = True


@dataclass(frozen=True)
class _Drawing:
    name: str
    title: str
    subtitle: str
    axis: str


def draw_gain(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """Time per image at the smallest batch over that at the best one."""
    drawing = _Drawing(
        "gain", "Gain from batching", "Time per image at the smallest batch over that at the best; further right gains more",
        "times as fast per image (logarithmic)",
    )  # fmt: skip

    def marks(place: Variant) -> dict[str, Mark]:
        return {
            gain.model: Mark(
                gain.times,
                f"{ratio(gain.times)} at {gain.best.setting.batch_size}",
                not (gain.first.reasons or gain.best.reasons),
            )
            for gain in gains([place])
        }

    return _draw_all(drawing, view.speed_variants, marks, frame, folder)


def draw_devices(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """The most images per second of each network at each place; none where there is but one place."""
    places = unswept(view)
    if len(places) < 2:
        return []
    elsewhere = len({(place.setting.device, place.setting.target) for place in places}) > 1
    drawing = _Drawing(
        "devices", "Throughput against device" if elsewhere else "Throughput, setting by setting",
        "The most images per second at any batch size (given beside it); further right is faster", "images/s (logarithmic)",
    )  # fmt: skip

    def marks(place: Variant) -> dict[str, Mark]:
        found = {}
        for model in models(place.points):
            top = best(place.of(model))
            rate = images_per_s(top) if top else None
            if top is not None and rate:
                found[model] = Mark(rate, f"{significant(rate)} at {top.setting.batch_size}", not top.reasons)
            else:
                found[model] = Mark(None, "failed")
        return found

    return _draw_all(drawing, places, marks, frame, folder)


def draw_largest(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """The largest batch of each network at each place; 0, where not even one image fits, is drawn as what failed."""
    drawing = _Drawing(
        "largest", "Largest batch that fits", "Found by doubling, then bisection", "images per batch (logarithmic)"
    )

    def mark_of(point: Point) -> Mark:
        found = point.max_batch
        if found is None or not found.largest:
            return Mark(None, "failed" if found is None else "none fits")
        return Mark(found.largest, largest_text(found), not point.reasons)

    def marks(place: Variant) -> dict[str, Mark]:
        return {point.setting.model: mark_of(point) for point in place.points}

    return _draw_all(drawing, largest_variants(view), marks, frame, folder)


def _draw_all(
    drawing: _Drawing,
    found: Sequence[Variant],
    marks: Callable[[Variant], dict[str, Mark]],
    frame: Frame,
    folder: Path,
) -> list[Picture]:
    """A picture of up to a few places each."""
    told = [(place.label, marks(place)) for place in found]
    told = [(label, of) for label, of in told if any(one.value for one in of.values())]
    parts = [told[start : start + MOST_SERIES] for start in range(0, len(told), MOST_SERIES)][:MOST_PICTURES]
    return [_draw(drawing, part, number, frame, folder) for number, part in enumerate(parts, start=1)]


def _draw(
    drawing: _Drawing, told: Sequence[tuple[str, dict[str, Mark]]], number: int, frame: Frame, folder: Path
) -> Picture:
    names = list(dict.fromkeys(name for _, of in told for name in of))

    def strongest(name: str) -> float:
        return max((of[name].value or 0.0 for _, of in told if name in of), default=0.0)

    names = sorted(names, key=strongest)[-_MOST_ROWS:]
    per_row = _ROW_IN * (1.0 if len(told) == 1 else 0.6 + 0.28 * len(told))
    handles = _handles(told)
    top = 0.1 + key_height_in(handles)
    drawn = sheet(drawing.title, drawing.subtitle, frame, 0.7 + top + per_row * len(names))
    axes = drawn.axes(left=0.45 + 0.083 * max(len(clip_model(name)) for name in names), right=0.95, top=top)
    _axis(axes, [one.value for _, of in told for one in of.values() if one.value], drawing.axis)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), labels=[clip_model(name) for name in names])
    axes.tick_params(axis="y", length=0)
    for height in range(len(names)):
        axes.axhline(height, color=LINE, linewidth=0.6, zorder=0)
    for place, (_, of) in enumerate(told):
        shift = (place - (len(told) - 1) / 2) * -min(0.4, 0.72 / len(told)) if len(told) > 1 else 0.0
        for height, name in enumerate(names):
            if name in of:
                _draw_mark(axes, of[name], place, height + shift)
    key(axes, handles)
    said = "; ".join(
        f"{name}, {label}: {of[name].text}" for name in reversed(names) for label, of in told if name in of
    )
    return save(drawn, folder, f"{drawing.name}-{number}", drawing.title, f"{drawing.title}. {said}.")


def _draw_mark(axes: Axes, one: Mark, place: int, height: float) -> None:
    if one.value is None:
        axes.plot(
            0.012, height, "x", color=color(place), markersize=6, markeredgewidth=1.8, transform=axes.get_yaxis_transform(), zorder=3
        )  # fmt: skip
    else:
        axes.plot(
            one.value, height, mark(place), color=color(place), markersize=7, zorder=3,
            markerfacecolor=color(place) if one.sure else "white",
        )  # fmt: skip
    at, coordinates = (0.012, axes.get_yaxis_transform()) if one.value is None else (one.value, axes.transData)
    axes.annotate(
        one.text, (at, height), (8, 0), xycoords=coordinates, textcoords="offset points", va="center", fontsize=7.5,
        color=INK if one.sure else QUIET,
    )  # fmt: skip


def _axis(axes: Axes, values: Sequence[float], label: str) -> None:
    low, high = min(values), max(values)
    room = max((high / low) ** 0.07, 1.3 / (high / low) ** 0.5, 1.05)
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(FixedLocator(round_ticks(low / room, high * room)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.set_xlabel(label)
    axes.spines["left"].set_visible(False)
    spread(axes)


def _handles(told: Sequence[tuple[str, dict[str, Mark]]]) -> list[Line2D]:
    """The places, and what hollow marks and crosses mean."""
    handles = [handle(place, label) for place, (label, _) in enumerate(told)]
    for one in handles:
        one.set_linestyle("")
    values = [one for _, of in told for one in of.values()]
    series = Series(
        "", tuple((1, 1.0, one.sure) for one in values if one.value), tuple(1 for one in values if one.value is None)
    )
    return handles + marks_handles([series])
