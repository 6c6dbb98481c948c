"""Response time against service time against send lag, percentile by percentile: where the three part, requests waited to be sent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dlclient.results import Latency, SendLag
from dlclient.statistics import PERCENTILE_FLOORS
from matplotlib.axes import Axes
from numpy.typing import NDArray

from dlreport.quantity import count, milliseconds
from dlreport.stream.view import PhaseView, StreamView
from dlreport.style import (
    BLACK,
    LINE,
    ORANGE,
    PURPLE,
    QUIET,
    Frame,
    Picture,
    Sheet,
    clip,
    key_above,
    log_axis,
    phase_colors,
    save,
    sheet,
)

_TITLE = "What users waited, and what of it the server took"
_PANEL_IN = 2.5
_MOST_POINTS = 500
_SHARES = {0.0: "least", 0.5: "p50", 0.9: "p90", 0.99: "p99", 0.999: "p99.9", 0.9999: "p99.99", 0.99999: "p99.999"}


@dataclass(frozen=True, slots=True)
class _Look:
    """Of one clock's line: a colour, and a dash that tells it from the others without colours too."""

    name: str
    color: str
    dash: str | tuple[int, tuple[float, ...]]
    width: float
    """In points: wide below narrow, so that lines upon each other are both seen."""


_LOOKS = (
    _Look("response: from when it was due", PURPLE, "-", 4.2),
    _Look("service: from its send", BLACK, (0, (5, 2)), 1.5),
    _Look("send lag: from due to sent", ORANGE, (0, (1, 0.8)), 2.4),
)


def draw_clocks(view: StreamView, frame: Frame, folder: Path) -> list[Picture]:
    """One panel a phase, of an open loop; none of a closed one, where they are the same, nor where nothing was answered."""
    phases = [phase for phase in view.phases if phase.good_latency_s.size]
    if not view.is_open or not phases:
        return []
    height = _PANEL_IN * len(phases) + 0.45
    drawn = sheet(_TITLE, "Time by percentile; pale: beyond what so many answers can tell", frame, height)
    low, high = _limits(phases)
    most = max(phase.good_latency_s.size for phase in phases)
    colors = phase_colors([one.name for one in view.phases])
    for number, phase in enumerate(phases):
        axes = _panel(drawn, number, len(phases), height)
        log_axis(axes, "y", low, high)
        _percentile_axis(axes, most)
        for look, times_s in zip(_LOOKS, _times(phase), strict=True):
            _draw(axes, look, np.sort(times_s))
        axes.set_ylabel("time, ms (logarithmic)")
        axes.set_title(
            clip(phase.label, 40), loc="left", color=colors[phase.name], fontweight="bold", fontsize=10.5, pad=4
        )
        axes.set_title(f"{count(phase.good_latency_s.size)} answers", loc="right", color=QUIET, fontsize=9, pad=4)
        if number == 0:
            _key(axes)
        if number == len(phases) - 1:
            axes.set_xlabel("percentile of the answers, spread towards the slowest")
    alt = "; ".join(f"{phase.label}: {_spoken(phase)}" for phase in phases)
    return [save(drawn, folder, "clocks", _TITLE, f"{_TITLE}. {alt}.")]


def _times(phase: PhaseView) -> tuple[NDArray[np.float64], ...]:
    return phase.good_latency_s, phase.good_service_s, phase.good_send_lag_s


def _limits(phases: Sequence[PhaseView]) -> tuple[float, float]:
    """Of the time axis, ms; a send lag of less than 10 us is none that anybody needs to see."""
    times_ms = np.concatenate([one for phase in phases for one in _times(phase)]) * 1e3
    low, high = max(float(times_ms.min()), 0.01), max(float(times_ms.max()), 0.01)
    room = max(high / low, 4.0) ** 0.06
    return low / room, high * room


def _panel(drawn: Sheet, number: int, panels: int, height: float) -> Axes:
    below = (panels - 1 - number) * _PANEL_IN
    return drawn.axes(left=0.85, bottom=0.5 + below, top=height - 0.5 - below - (_PANEL_IN - 0.55), right=0.3)


def _nines(share: float) -> float:
    return -math.log10(1 - share)


def _percentile_axis(axes: Axes, answers: int) -> None:
    last = _nines(1 - 0.5 / answers)
    shown = {share: label for share, label in _SHARES.items() if _nines(share) <= last}
    axes.set_xlim(0, last * 1.02)
    axes.set_xticks([_nines(share) for share in shown], labels=list(shown.values()))
    axes.xaxis.grid(visible=True, color=LINE, linewidth=0.5)
    axes.yaxis.grid(visible=True)


def _draw(axes: Axes, look: _Look, ordered_s: NDArray[np.float64]) -> None:
    """The part that the sample rule allows in full colour, the rest pale."""
    size = ordered_s.size
    wanted = np.linspace(0, _nines(1 - 0.5 / size), min(size, _MOST_POINTS))
    ranks = np.unique(np.clip(np.ceil((1 - 10.0**-wanted) * size).astype(np.int64) - 1, 0, size - 1))
    nines = -np.log10(1 - (ranks + 0.5) / size)
    times_ms = np.maximum(ordered_s[ranks] * 1e3, 1e-3)
    told = max((share for share, floor in PERCENTILE_FLOORS.items() if size >= floor), default=0.0)
    sure = int(np.searchsorted(nines, _nines(told), side="right"))
    axes.plot(
        nines[max(sure - 1, 0) :], times_ms[max(sure - 1, 0) :], color=look.color, alpha=0.4, linewidth=look.width
    )
    axes.plot(nines[:sure], times_ms[:sure], color=look.color, linestyle=look.dash, linewidth=look.width)


def _key(axes: Axes) -> None:
    handles = [
        axes.plot([], [], color=look.color, linestyle=look.dash, linewidth=look.width, label=look.name)[0]
        for look in _LOOKS
    ]
    key_above(axes, handles, 1.13)


def _spoken(phase: PhaseView) -> str:
    total = phase.total
    told: list[tuple[str, Latency | SendLag | None]] = [
        ("response", total.latency_s),
        ("service", total.service_s),
        ("send lag", total.send_lag_s),
    ]
    medians = [f"{name} {milliseconds(times.p50)} ms" for name, times in told if times and times.p50 is not None]
    return f"p50 {', '.join(medians)}" if medians else "too few answers for a percentile"
