"""Wall time per image, warm and cold: this run's bars beside those of the stream test of 2018, each with its hardware."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from dlreport.published import Published, network_figures, stream_figures
from dlreport.quantity import milliseconds, plain, ratio
from dlreport.stream import facts
from dlreport.stream.comparison import times
from dlreport.stream.networks import FEWEST_TO_DRAW
from dlreport.stream.view import StreamView
from dlreport.style import QUIET, Frame, Picture, clip, phase_colors, save, sheet

_ROW_IN = 0.5
_LONGEST = 34


@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    hardware: str
    seconds: float
    color: str
    published: bool
    times_warm: float | None


def draw_published(view: StreamView, frame: Frame, folder: Path) -> list[Picture]:
    """Bars from 0; none of a run that streamed fewer than FEWEST_TO_DRAW of those networks: nothing but the name would be shared."""
    if len(set(view.services) & set(network_figures())) < FEWEST_TO_DRAW:
        return []
    own = _own(view)
    bars = [*own, *_published()]
    if not own:
        return []
    title = "Wall time per image, beside the stream of 2018"
    subtitle = "Other, older hardware and software: compare how many times cold is of warm, not the times"
    drawn = sheet(title, subtitle, frame, 0.75 + _ROW_IN * len(bars))
    axes = drawn.axes(left=3.15, right=1.6, top=0.05)
    for height, bar in enumerate(reversed(bars)):
        _draw(axes, height, bar)
    labels = [f"{bar.label}\n{clip(bar.hardware, _LONGEST, tail=12)}" for bar in reversed(bars)]
    axes.set_yticks(range(len(bars)), labels=labels)
    axes.set_ylim(-0.6, len(bars) - 0.4)
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.set_xlim(0, 1.01e3 * max(bar.seconds for bar in bars))
    axes.xaxis.grid(visible=True)
    axes.set_xlabel("wall time per image, ms")
    spoken = "; ".join(f"{bar.label} on {bar.hardware}: {_text(bar)}" for bar in bars)
    return [save(drawn, folder, "published", title, f"{title}. {spoken}.")]


def _own(view: StreamView) -> list[_Bar]:
    colors = phase_colors([phase.name for phase in view.phases])
    warm = view.baseline.total.wall_s_per_image if view.baseline else None
    return [
        _Bar(
            f"this run, {phase.label}",
            facts.hardware(view.run) or "hardware not told",
            phase.total.wall_s_per_image,
            colors[phase.name],
            published=False,
            times_warm=times(phase.total.wall_s_per_image, warm) if phase is not view.baseline else None,
        )
        for phase in view.phases
        if phase.total.wall_s_per_image
    ]


def _published() -> list[_Bar]:
    rows = [row for row in stream_figures() if row.metric == "wall_time_per_image" and row.value is not None]
    warm = next((row for row in rows if "resident" in row.mode), None)
    return [_published_bar(row, warm) for row in rows]


def _published_bar(row: Published, warm: Published | None) -> _Bar:
    is_warm = row is warm
    return _Bar(
        f"2018, {'warm' if is_warm else 'cold'} (published, class {row.comparability})",
        f"{row.hardware}, {row.software}",
        (row.value or 0.0) / 1e3,
        phase_colors([])["warm" if is_warm else "disk"],
        published=True,
        times_warm=None if is_warm or warm is None else times(row.value, warm.value),
    )


def _draw(axes: Axes, height: int, bar: _Bar) -> None:
    axes.barh(
        height, bar.seconds * 1e3, 0.56, color="white" if bar.published else bar.color, edgecolor=bar.color,
        hatch="////" if bar.published else None, linewidth=1.2,
    )  # fmt: skip
    axes.annotate(
        _text(bar), (bar.seconds * 1e3, height), (5, 0), textcoords="offset points", va="center", fontsize=9, color=QUIET
    )  # fmt: skip


def _text(bar: _Bar) -> str:
    value = plain(round(bar.seconds * 1e3, 6)) if bar.published else milliseconds(bar.seconds)
    return f"{value} ms" + (f" ({ratio(bar.times_warm)} warm)" if bar.times_warm is not None else "")
