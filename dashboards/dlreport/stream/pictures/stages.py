"""Where a request's time goes: the server's stages, stacked, one picture a phase and one bar a model."""

from dataclasses import dataclass
from pathlib import Path

from dlclient.results import Summary
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from dlreport.quantity import milliseconds, plain
from dlreport.stream.breakdown import Breakdown, Part, break_down
from dlreport.stream.view import PhaseView, StreamView
from dlreport.style import (
    BLUE,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PURPLE,
    QUIET,
    SKY,
    VERMILLION,
    YELLOW,
    Frame,
    Picture,
    clip,
    clip_model,
    save,
    sheet,
)

_LIKE = 4
"""Phases that take longer by more than this get scales of their own: the shorter bars would shrink to strokes."""
_MOST_BARS = 30
_BAR_IN = 0.42
_COLORS = {
    "wire": "#B8BDC4",
    "decode": GREEN,
    "queue": YELLOW,
    "load": BLUE,
    "forward": VERMILLION,
    "post": PURPLE,
    "rest": "#FFFFFF",
}
_UNKNOWN = (SKY, ORANGE)
_LIGHT_INK = {BLUE, VERMILLION}


@dataclass(frozen=True, slots=True)
class _Bar:
    name: str
    breakdown: Breakdown


def draw_stages(view: StreamView, frame: Frame, folder: Path) -> list[Picture]:
    """One picture a phase whose server told its stages; equal scales where they can be compared by eye."""
    bars = {phase.name: _bars(phase, view.services) for phase in view.phases}
    longest = {name: max(bar.breakdown.total_s for bar in own) for name, own in bars.items() if own}
    if not longest:
        return []
    shared = max(longest.values()) <= _LIKE * min(longest.values())
    pictures = []
    for number, phase in enumerate(view.phases):
        if bars[phase.name]:
            scale = max(longest.values()) if shared else longest[phase.name]
            note = "" if shared or len(longest) == 1 else "; each phase has its own scale"
            pictures.append(_draw(phase, bars[phase.name], scale, note, frame, folder, number))
    return pictures


def _bars(phase: PhaseView, services: tuple[str, ...]) -> list[_Bar]:
    """Bottom bar first: the total, then the models from fast to slow."""
    own = []
    for service in services:
        bar = _bar(clip_model(service), phase.phase.services.get(service))
        if bar:
            own.append(bar)
    own.sort(key=lambda bar: bar.breakdown.total_s)
    total = _bar("all models", phase.total)
    return [*([total] if total else []), *own[-_MOST_BARS:]]


def _bar(name: str, summary: Summary | None) -> _Bar | None:
    breakdown = break_down(summary) if summary else None
    return _Bar(name, breakdown) if breakdown else None


def _draw(
    phase: PhaseView, bars: list[_Bar], longest_s: float, note: str, frame: Frame, folder: Path, number: int
) -> Picture:
    title = f"Where the time goes: {clip(phase.label, 30)}"
    subtitle = f"Mean milliseconds of a request in each of the server's stages{note}"
    drawn = sheet(title, subtitle, frame, 1.0 + _BAR_IN * len(bars))
    axes = drawn.axes(left=0.4 + 0.083 * max(len(bar.name) for bar in bars), right=0.9, top=0.28)
    axes.set_xlim(0, max(longest_s * 1.01e3, 1e-3))
    axes.set_ylim(-0.55, len(bars) - 0.45)
    for height, bar in enumerate(bars):
        _draw_bar(axes, height, bar, longest_s)
    axes.set_yticks(range(len(bars)), labels=[bar.name for bar in bars])
    if bars[0].name == "all models":
        axes.get_yticklabels()[0].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.grid(visible=True)
    axes.xaxis.set_major_formatter(lambda value, _: plain(value))
    axes.set_xlabel("mean time of a request, ms")
    _key(axes, bars)
    alt = "; ".join(f"{bar.name}: {_spoken(bar.breakdown)}" for bar in bars)
    return save(drawn, folder, f"stages-{number + 1}-{_file_part(phase.name)}", title, f"{title}. {alt}.")


def _draw_bar(axes: Axes, height: int, bar: _Bar, longest_s: float) -> None:
    left = 0.0
    for part in bar.breakdown.parts:
        width = part.seconds * 1e3
        axes.barh(
            height,
            width,
            left=left,
            height=0.62,
            color=_color(part.stage),
            edgecolor=QUIET if part.stage == "rest" else "white",
            linewidth=0.6 if part.stage == "rest" or part.seconds > 0.02 * longest_s else 0,
        )
        if part.seconds > 0.07 * longest_s:
            ink = "white" if _color(part.stage) in _LIGHT_INK else INK
            axes.text(
                left + width / 2, height, milliseconds(part.seconds), ha="center", va="center", fontsize=8, color=ink
            )
        left += width
    axes.annotate(
        f"{milliseconds(bar.breakdown.total_s)} ms",
        (left, height),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        fontweight="bold",
        annotation_clip=False,
    )


def _key(axes: Axes, bars: list[_Bar]) -> None:
    stages: dict[str, Part] = {part.stage: part for bar in bars for part in bar.breakdown.parts if part.seconds}
    order = [*(stage for stage in _COLORS if stage in stages), *(stage for stage in stages if stage not in _COLORS)]
    handles = [
        Patch(
            facecolor=_color(stage),
            edgecolor=QUIET if stage == "rest" else LINE,
            linewidth=0.6,
            label=clip(stage, 14),
        )
        for stage in order
    ]
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.12, 1.0),
        ncols=min(len(handles), 8),
        frameon=False,
        handlelength=1,
        handleheight=1,
        handletextpad=0.4,
        columnspacing=1.1,
        borderpad=0.2,
        fontsize=9,
    )


def _color(stage: str) -> str:
    return _COLORS.get(stage) or _UNKNOWN[sum(stage.encode()) % len(_UNKNOWN)]


def _spoken(breakdown: Breakdown) -> str:
    return ", ".join(f"{part.stage} {milliseconds(part.seconds)} ms" for part in breakdown.parts)


def _file_part(phase: str) -> str:
    """A phase's name as part of a file's: it comes from data, so only letters and digits of it are used."""
    return "".join(char for char in phase.lower() if char.isascii() and char.isalnum())[:20] or "phase"
