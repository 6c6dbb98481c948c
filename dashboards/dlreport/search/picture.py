"""The latency/throughput curve: latency over the rate that was offered, which rates meet the objective, and the answer."""

from collections.abc import Sequence
from pathlib import Path

from dlclient.search_result import Point
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from dlreport.quantity import milliseconds, plain, significant
from dlreport.search.tables import MEETS
from dlreport.search.view import SearchView
from dlreport.style import (
    BLACK,
    BLUE,
    GREEN,
    INK,
    LINE,
    PURPLE,
    QUIET,
    VERMILLION,
    Frame,
    Picture,
    clip,
    house_style,
    key_above,
    log_axis,
    save,
    sheet,
)

_WIDE = 8
"""Rates that differ by more than this factor stand on a logarithmic axis."""
_MARKS = {True: ("o", GREEN), False: ("X", VERMILLION), None: ("D", BLACK)}
"""By what was decided: shapes tell them apart without colours."""


def draw_curve(view: SearchView, frame: Frame, folder: Path) -> list[Picture]:
    """The one picture of a search; none where nothing was answered at any rate."""
    points = [point for point in view.result.curve if point.mean_s is not None]
    if not points:
        return []
    title = "Latency over the rate offered"
    subtitle = f"Objective: {clip(view.objective, 70)}"
    with house_style():
        drawn = sheet(title, subtitle, frame, 4.3)
        axes = drawn.axes(left=0.85, bottom=0.5, top=0.36, right=0.3)
        _rate_axis(axes, view)
        _latency_axis(axes, view, points)
        _draw_bound(axes, view)
        _draw_points(axes, points)
        _draw_rates(axes, view)
        _key(axes, view, points)
        return [save(drawn, folder, "curve", title, f"{title}. {_spoken(view, points)}.")]


def _rate_axis(axes: Axes, view: SearchView) -> None:
    rates = [point.rate_per_s for point in view.result.curve]
    rates += [rate for rate in (view.result.rate_per_s, view.result.upper_per_s, view.result.knee_per_s) if rate]
    low, high = min(rates), max(rates)
    if high > _WIDE * low:
        log_axis(axes, "x", low / 1.25, high * 1.25)
        axes.set_xlabel("requests per second offered (logarithmic)")
    else:
        axes.set_xlim(max(0.0, low - 0.1 * high), high * 1.08)
        axes.set_xlabel("requests per second offered")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.xaxis.grid(visible=True, color=LINE, linewidth=0.5)


def _latency_axis(axes: Axes, view: SearchView, points: Sequence[Point]) -> None:
    times = [time for point in points for time in (point.mean_s, point.p50_s) if time]
    if view.bound is not None:
        measured = [view.bound.measured_s(probe) for probe in view.probes]
        times += [view.bound.seconds, *(time for time in measured if time)]
    low, high = max(min(times, default=1e-3), 1e-6) * 1e3, max(max(times, default=1e-3), 1e-6) * 1e3
    room = max(high / low, 4.0)
    log_axis(axes, "y", low / room**0.08, high * room**0.3)
    axes.yaxis.grid(visible=True)
    axes.set_ylabel("response time, ms (logarithmic)")


def _draw_bound(axes: Axes, view: SearchView) -> None:
    """What the first condition on a latency is about, run by run, and where it says stop."""
    bound = view.bound
    if bound is None:
        return
    axes.axhline(bound.seconds * 1e3, color=PURPLE, linewidth=1.2, linestyle=(0, (6, 3)))
    axes.annotate(
        clip(bound.text, 30),
        (0, bound.seconds * 1e3),
        (4, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=QUIET,
        fontsize=8.5,
    )
    for probe in view.probes:
        rate, measured = probe.rate_per_s, bound.measured_s(probe)
        if rate and measured:
            axes.plot(rate, measured * 1e3, "s", color=PURPLE, markersize=5, markerfacecolor="none", zorder=2)


def _draw_points(axes: Axes, points: Sequence[Point]) -> None:
    rates = [point.rate_per_s for point in points]
    axes.plot(rates, [(point.mean_s or 0) * 1e3 for point in points], color=INK, linewidth=1.4, zorder=2)
    medians = [(point.rate_per_s, point.p50_s * 1e3) for point in points if point.p50_s]
    if medians:
        axes.plot(*zip(*medians, strict=True), color=QUIET, linewidth=1.1, linestyle=(0, (1, 1)), zorder=1)
    for point in points:
        marker, color = _MARKS[point.meets]
        axes.plot(
            point.rate_per_s,
            (point.mean_s or 0) * 1e3,
            marker,
            color=color,
            markersize=8,
            markeredgecolor="white" if point.meets is not None else color,
            markerfacecolor=color if point.meets is not None else "white",
            zorder=3,
        )


def _draw_rates(axes: Axes, view: SearchView) -> None:
    """The answer, the bound above it and the knee, as lines; each label at a height of its own, since they are near each other."""
    result = view.result
    answer = {"found": "answer", "always-met": "met up to", "gave-up": "known to meet"}.get(result.found, "")
    lines: list[tuple[float | None, str, str, str | tuple[int, tuple[float, ...]]]] = [
        (result.rate_per_s if answer else None, answer, BLUE, "-"),
        (result.upper_per_s, "known to miss", VERMILLION, (0, (4, 2))),
        (result.knee_per_s, "knee", QUIET, (0, (1, 1.5))),
    ]
    for height, (rate, label, color, dash) in zip((0.97, 0.905, 0.84), lines, strict=True):
        if rate is None:
            continue
        axes.axvline(rate, color=color, linewidth=1.8 if dash == "-" else 1.4, linestyle=dash, zorder=1)
        across = (axes.transData.transform((rate, 1)) - axes.transAxes.transform((0, 0)))[0] / axes.bbox.width
        on_left = across > (
            0.7 if label == "known to miss" else 0.25
        )  # the one above the answer has its label away from it
        axes.annotate(
            f"{label} {significant(rate, 4)}/s",
            (rate, height),
            (-5 if on_left else 5, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if on_left else "left",
            va="center",
            color=color,
            fontsize=9,
            fontweight="bold" if dash == "-" else "normal",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
            zorder=4,
        )


def _key(axes: Axes, view: SearchView, points: Sequence[Point]) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=INK,
            marker=_MARKS[meets][0],
            markersize=8,
            linewidth=1.4,
            markerfacecolor=_MARKS[meets][1] if meets is not None else "white",
            markeredgecolor="white" if meets is not None else BLACK,
            label=f"mean, {MEETS[meets]}",
        )
        for meets in (True, False, None)
        if any(point.meets is meets for point in points)
    ]
    handles.append(Line2D([], [], color=QUIET, linewidth=1.1, linestyle=(0, (1, 1)), label="p50"))
    if view.bound is not None:
        label = f"{'service ' if view.bound.service else ''}{view.bound.figure.replace('p999', 'p99.9')} of each run"
        handles.append(
            Line2D([], [], color=PURPLE, marker="s", markerfacecolor="none", linestyle="", markersize=5, label=label)
        )
    key_above(axes, handles, 1.01)


def _spoken(view: SearchView, points: Sequence[Point]) -> str:
    told = "; ".join(
        f"{significant(point.rate_per_s, 4)}/s: mean {milliseconds(point.mean_s or 0)} ms, {MEETS[point.meets]}"
        for point in points
    )
    knee = view.result.knee_per_s
    return told if knee is None else f"{told}; knee at {significant(knee, 4)}/s"
