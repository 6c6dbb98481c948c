"""Latency over the course of each phase, every request a dot, failed ones marked: drifts, pauses and bursts show here."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dlreport.quantity import count, plain
from dlreport.stream.view import PhaseView, StreamView
from dlreport.style import BLACK, INK, QUIET, Frame, Picture, Sheet, clip, log_axis, phase_colors, save, sheet

_PANEL_IN = 1.9
_MANY = 3000
"""Dots from which on they are drawn as an image inside the SVG: as shapes they would make the page slow."""
_LIKE = 4
"""Phases whose lengths differ by more than this get time axes of their own: the shorter one would shrink to a stroke."""
_TITLE = "Latency over time"


def draw_timeline(view: StreamView, frame: Frame, folder: Path) -> list[Picture]:
    """One panel a phase, all with the same latency axis; none where no request was made."""
    phases = [phase for phase in view.phases if phase.good_due_s.size + phase.failed_due_s.size]
    if not phases:
        return []
    ends_s = [
        max(float(times.max()) for times in (phase.good_due_s, phase.failed_due_s) if times.size) for phase in phases
    ]
    shared = max(ends_s) <= _LIKE * min(ends_s)
    note = "" if shared else "; time axes differ"
    subtitle = f"Each dot is a request, at the time it was due; the line is the running median{note}"
    height = _PANEL_IN * len(phases) + 0.25
    drawn = sheet(_TITLE, subtitle, frame, height)
    low, high = _limits(phases)
    for number, phase in enumerate(phases):
        axes = _panel(drawn, number, len(phases), height)
        log_axis(axes, "y", low, high)
        axes.set_xlim(0, max(max(ends_s) if shared else ends_s[number], 1e-3) * 1.02)
        _draw(axes, phase, phase_colors([one.name for one in view.phases])[phase.name])
        if number == len(phases) - 1:
            axes.set_xlabel("seconds since the phase began")
        elif shared:
            axes.tick_params(axis="x", labelbottom=False)
    alt = "; ".join(f"{phase.label}: {_amounts(phase)}" for phase in phases)
    return [save(drawn, folder, "timeline", _TITLE, f"{_TITLE}. {alt}.")]


def _limits(phases: list[PhaseView]) -> tuple[float, float]:
    """Of the latency axis, ms: all dots, with room above for the marks of failures."""
    latencies = np.concatenate([phase.good_latency_s for phase in phases]) * 1e3
    if not latencies.size:
        return 1.0, 1000.0
    low, high = max(float(latencies.min()), 1e-3), max(float(latencies.max()), 1e-3)
    room = max(high / low, 4.0)
    return low / room**0.1, high * room**0.25


def _panel(drawn: Sheet, number: int, panels: int, height: float) -> Axes:
    below = (panels - 1 - number) * _PANEL_IN
    return drawn.axes(left=0.85, bottom=0.5 + below, top=height - 0.5 - below - (_PANEL_IN - 0.45), right=0.25)


def _draw(axes: Axes, phase: PhaseView, color: str) -> None:
    size = phase.good_due_s.size
    many = size > _MANY
    latency_ms = np.maximum(phase.good_latency_s * 1e3, 1e-3)
    axes.scatter(
        phase.good_due_s,
        latency_ms,
        s=5 if many else 14,
        color=color,
        alpha=0.25 if many else 0.5,
        linewidths=0,
        rasterized=many,
    )
    if size >= 60:
        order = np.argsort(phase.good_due_s, kind="stable")
        axes.plot(*_running_median(phase.good_due_s[order], latency_ms[order]), color=INK, linewidth=1.4)
    if phase.failed_due_s.size:
        axes.plot(
            phase.failed_due_s,
            np.full(phase.failed_due_s.size, 0.93),
            "x",
            color=BLACK,
            markersize=6,
            markeredgewidth=1.5,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    axes.xaxis.set_major_formatter(lambda value, _: plain(value))
    axes.yaxis.grid(visible=True)
    axes.set_ylabel("latency, ms")
    axes.set_title(clip(phase.label, 40), loc="left", color=color, fontweight="bold", fontsize=10.5, pad=4)
    axes.set_title(_amounts(phase), loc="right", color=QUIET, fontsize=9, pad=4)


def _amounts(phase: PhaseView) -> str:
    failed = phase.failed_due_s.size
    answered = f"{count(phase.good_due_s.size)} answered"
    return f"{answered}, {count(failed)} failed (crosses)" if failed else answered


def _running_median(
    due_s: NDArray[np.float64], latency_ms: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Medians of about 40 windows of at least 15 requests that follow one another, at the middle of their times."""
    windows = max(min(40, due_s.size // 15), 1)
    times = [float(np.median(part)) for part in np.array_split(due_s, windows)]
    medians = [float(np.median(part)) for part in np.array_split(latency_ms, windows)]
    return np.array(times), np.array(medians)
