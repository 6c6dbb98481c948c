"""How the latencies of each phase are spread: the share of requests answered within a time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dlreport.quantity import count, milliseconds
from dlreport.stream.view import PhaseView, StreamView
from dlreport.style import INK, LINE, Frame, Picture, clip, log_axis, phase_colors, save, sheet

_MOST_POINTS = 2000
"""A curve of more points looks the same and makes the page heavy; the ends and every step between are kept evenly."""
_TITLE = "How long requests took"
_LEFT_SHARES = (0.5, 0.73)
_RIGHT_SHARES = ((0.25, 0.48), (0.01, 0.24), (0.51, 0.74))
"""The bands of the share axis in which names stand; a curve rises to the right, so left of its lowest point in a band and
right of its highest there is room."""


@dataclass(frozen=True, slots=True)
class _Curve:
    phase: PhaseView
    color: str
    latency_ms: NDArray[np.float64]

    @property
    def median_ms(self) -> float:
        return float(self.latency_ms[(self.latency_ms.size - 1) // 2])


def draw_distributions(view: StreamView, frame: Frame, folder: Path) -> list[Picture]:
    """One cumulative curve a phase over a logarithmic axis; none where nothing was answered."""
    colors = phase_colors([phase.name for phase in view.phases])
    curves = [
        _Curve(phase, colors[phase.name], np.maximum(np.sort(phase.good_latency_s) * 1e3, 1e-3))
        for phase in view.phases
        if phase.good_latency_s.size
    ]
    if not curves:
        return []
    curves.sort(key=lambda curve: curve.median_ms)
    drawn = sheet(_TITLE, "Share of requests answered within a time; further left is faster", frame, 3.5)
    axes = drawn.axes(left=0.8)
    low = min(float(curve.latency_ms[0]) for curve in curves)
    high = max(float(curve.latency_ms[-1]) for curve in curves)
    room = max((high / low) ** 0.15, 1.75)
    log_axis(axes, "x", low / room, high * room)
    _share_axis(axes)
    for curve in curves:
        _draw(axes, curve)
    _label(axes, curves)
    axes.set_xlabel("latency, ms (logarithmic)")
    alt = "; ".join(f"{curve.phase.label}: half within {milliseconds(curve.median_ms / 1e3)} ms" for curve in curves)
    return [save(drawn, folder, "distributions", _TITLE, f"{_TITLE}. {alt}.")]


def _share_axis(axes: Axes) -> None:
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1], labels=["0 %", "25 %", "50 %", "75 %", "90 %", "100 %"])
    axes.set_ylabel("share of requests")
    axes.yaxis.grid(visible=True)
    axes.xaxis.grid(visible=True, color=LINE, linewidth=0.5)


def _draw(axes: Axes, curve: _Curve) -> None:
    size = curve.latency_ms.size
    ranks = np.unique(np.linspace(0, size - 1, min(size, _MOST_POINTS)).round().astype(np.int64))
    shares = (ranks + 1) / size
    times = curve.latency_ms[ranks]
    axes.step(
        np.concatenate(([times[0]], times)),
        np.concatenate(([0.0], shares)),
        where="post",
        color=curve.color,
        linewidth=2.2,
    )
    latency = curve.phase.total.latency_s
    for share, seconds in ((0.5, latency.p50), (0.9, latency.p90), (0.99, latency.p99)):
        if seconds is not None:
            axes.plot(
                seconds * 1e3,
                share,
                "o",
                color=curve.color,
                markersize=6.5,
                markeredgecolor="white",
                markeredgewidth=1.2,
            )


def _label(axes: Axes, curves: list[_Curve]) -> None:
    """The fastest curve is named on the left of all curves, the others on the right, where no curve is in the way."""
    first, *others = curves
    if others:
        left = min(_at(curve, _LEFT_SHARES[0]) for curve in curves)
        _name(axes, first, left, _LEFT_SHARES[1], left=True)
    for (_, high), curve in zip(_RIGHT_SHARES, reversed(others or curves), strict=False):
        right = max(_at(one, high) for one in curves)
        _name(axes, curve, right, high, left=False)


def _at(curve: _Curve, share: float) -> float:
    return float(np.quantile(curve.latency_ms, share, method="inverted_cdf"))


def _name(axes: Axes, curve: _Curve, latency_ms: float, share: float, *, left: bool) -> None:
    latency = curve.phase.total.latency_s
    told = [("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99)]
    figures = [f"{name} {milliseconds(seconds)} ms" for name, seconds in told if seconds is not None]
    text = "\n".join(figures) or f"{count(curve.latency_ms.size)} answers:\ntoo few for percentiles"
    box = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    offset, side = (-12, "right") if left else (12, "left")
    axes.annotate(
        clip(curve.phase.label, 30),
        (latency_ms, share),
        (offset, 0),
        textcoords="offset points",
        ha=side,
        va="top",
        color=curve.color,
        fontweight="bold",
        fontsize=11.5,
        bbox=box,
    )
    axes.annotate(
        text,
        (latency_ms, share),
        (offset, -16),
        textcoords="offset points",
        ha=side,
        va="top",
        color=INK,
        fontsize=8.5,
        linespacing=1.3,
        bbox=box,
    )
