"""Networks as dots in a plane: accuracy against throughput with the Pareto front, time against multiply-adds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from dlreport.bench.busy import percent
from dlreport.bench.cost_table import costs
from dlreport.bench.pictures.panel import MOST_SERIES, key, log_axis, spread
from dlreport.bench.pictures.times import MOST_PICTURES
from dlreport.bench.right import Standing, standings
from dlreport.bench.view import BenchView, per_image_s
from dlreport.quantity import milliseconds, plain, significant
from dlreport.series import color, handle, mark
from dlreport.style import (
    BLUE,
    INK,
    QUIET,
    VERMILLION,
    Frame,
    Picture,
    Sheet,
    clip,
    clip_model,
    round_ticks,
    save,
    sheet,
)

_MOST_LABELS = 30
_FEWEST = 3
"""Networks that show a relation."""


@dataclass(frozen=True)
class _Label:
    x: float
    y: float
    text: str


def draw_tradeoff(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """A picture a place where three networks or more have both figures."""
    found = [(place.label, place.hardware, standings(view, place)) for place in view.speed_variants]
    told = [one for one in found if len(one[2]) >= _FEWEST][:MOST_PICTURES]
    return [_draw_tradeoff(*one, number, frame, folder) for number, one in enumerate(told, start=1)]


def draw_cost(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """Time per image at the smallest batch over multiply-adds; none where those of fewer than three networks are known."""
    work = {model: one.macs for model, one in costs(view).items() if one.macs}
    if len(work) < _FEWEST:
        return []
    title = "Time against work"
    drawn = sheet(
        title, "Time per image at the smallest batch, over the network's multiply-adds; lower is faster", frame, 4.4
    )
    axes = drawn.axes(left=0.7, right=0.4, top=0.4)
    told, said, handles = [], [], []
    for number, place in enumerate(view.speed_variants[:MOST_SERIES]):
        for model, macs in work.items():
            first = next((point for point in place.of(model) if per_image_s(point)), None)
            seconds = per_image_s(first) if first else None
            if first is None or seconds is None:
                continue
            axes.plot(
                macs / 1e9, seconds * 1e3, mark(number), color=color(number), markersize=7, zorder=3,
                markerfacecolor="white" if first.reasons else color(number),
            )  # fmt: skip
            told.append(_Label(macs / 1e9, seconds * 1e3, clip_model(model) if number == 0 else ""))
            said.append(f"{model}, {place.label}: {significant(macs / 1e9)} x 10^9, {milliseconds(seconds)} ms")
        handles.append(handle(number, place.label))
        handles[-1].set_linestyle("")
    if not told:
        return []
    _log_x(axes, [one.x for one in told])
    log_axis(axes, [one.y for one in told])
    spread(axes)
    axes.set_xlabel("multiply-adds per image, 10^9 (logarithmic)")
    axes.set_ylabel("ms per image (logarithmic)")
    _name(drawn, axes, told)
    if len(handles) > 1:
        key(axes, handles)
    return [save(drawn, folder, "cost", title, f"{title}. {'; '.join(said)}.")]


def _draw_tradeoff(
    label: str, hardware: str, found: Sequence[Standing], number: int, frame: Frame, folder: Path
) -> Picture:
    title = f"Accuracy against throughput: {clip(label, 44)}"
    subtitle = f"{clip(hardware, 40)}; up and to the right is better; line: no network is better in both"
    drawn = sheet(title, subtitle, frame, 4.3)
    axes = drawn.axes(left=0.7, right=0.5, top=0.4)
    for one in found:
        _draw_standing(axes, one)
    front = sorted((one.rate, one.rightness.top1 * 100) for one in found if one.front)
    axes.plot(*zip(*front, strict=True), color=VERMILLION, linewidth=1.4, linestyle=(0, (4, 2)), zorder=1)
    shares = [one.rightness.top1 * 100 for one in found]
    room = max(max(shares) - min(shares), 2.0) * 0.14
    axes.set_ylim(max(0.0, min(shares) - room), min(100.0, max(shares) + room))
    axes.yaxis.grid(visible=True)
    _log_x(axes, [one.rate for one in found])
    spread(axes)
    axes.set_xlabel("most images/s at any batch size (logarithmic)")
    axes.set_ylabel("top-1, % (not from 0)")
    _name(drawn, axes, [_Label(one.rate, one.rightness.top1 * 100, clip_model(one.model)) for one in found])
    key(axes, _tradeoff_handles(found))
    said = "; ".join(
        f"{one.model}: {significant(one.rate)} images/s, top-1 {percent(one.rightness.top1)} % ({one.rightness.source})"
        + (", on the front" if one.front else "")
        for one in found
    )
    return save(drawn, folder, f"tradeoff-{number}", title, f"{title}. {said}.")


def _draw_standing(axes: Axes, one: Standing) -> None:
    shape = "o" if one.rightness.measured else "D"
    share = one.rightness.top1 * 100
    if one.rightness.interval is not None:
        low, high = one.rightness.interval
        axes.plot([one.rate] * 2, [low * 100, high * 100], color=BLUE, linewidth=1.2, zorder=2)
    axes.plot(
        one.rate, share, shape, color=BLUE if one.rightness.measured else QUIET, markersize=7 if shape == "o" else 6, zorder=3,
        markerfacecolor="white" if one.point.reasons else None,
    )  # fmt: skip


def _tradeoff_handles(found: Sequence[Standing]) -> list[Line2D]:
    handles = []
    if any(one.rightness.measured for one in found):
        handles.append(Line2D([], [], color=BLUE, marker="o", linestyle="", markersize=7, label="top-1 measured here"))
    if any(not one.rightness.measured for one in found):
        handles.append(Line2D([], [], color=QUIET, marker="D", linestyle="", markersize=6, label="top-1 as published"))
    handles.append(Line2D([], [], color=VERMILLION, linewidth=1.4, linestyle=(0, (4, 2)), label="Pareto front"))
    return handles


def _log_x(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    room = max(high / low, 2.0) ** 0.1
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room * room)
    axes.xaxis.set_major_locator(FixedLocator(round_ticks(low / room, high * room * room)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def _name(drawn: Sheet, axes: Axes, labels: Sequence[_Label]) -> None:
    """Names beside the dots, moved up or down where they would lie on one another or on a dot. Call when the limits are set."""
    per_point = drawn.figure.dpi / 72
    origin = axes.transAxes.transform((0, 0))
    spots = [(one, *(axes.transData.transform((one.x, one.y)) - origin)) for one in labels]
    taken = [(x - 4 * per_point, x + 4 * per_point, y) for _, x, y in spots]
    for one, x, y in sorted((spot for spot in spots if spot[0].text), key=lambda spot: (spot[2], spot[1]))[
        :_MOST_LABELS
    ]:
        long = len(one.text) * 4.3 * per_point
        on_left = x + long + 8 * per_point > axes.bbox.width
        left = x - long - 7 * per_point if on_left else x + 7 * per_point
        at = min(_free(taken, left, long, y, 9.0 * per_point), axes.bbox.height)
        taken.append((left, left + long, at))
        axes.annotate(
            one.text, (one.x, one.y), ((-6 if on_left else 6), (at - y) / per_point), textcoords="offset points", fontsize=7.5,
            color=INK, ha="right" if on_left else "left", va="center", zorder=4,
        )  # fmt: skip


def _free(taken: Sequence[tuple[float, float, float]], left: float, long: float, y: float, step: float) -> float:
    """The height nearest to y at which no other name is in the way."""
    for move in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5):
        at = y + move * step * 0.55
        if not any(left < end and start < left + long and abs(at - other) < step for start, end, other in taken):
            return at
    return y
