"""The pictures of streams side by side: throughput by result, and over the number of workers."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from dlreport.merge.scaling import Step
from dlreport.merge.side import SideStream, phase_names
from dlreport.quantity import significant
from dlreport.series import mark
from dlreport.style import (
    INK,
    LINE,
    QUIET,
    Frame,
    Picture,
    clip,
    clip_model,
    house_style,
    key_above,
    phase_colors,
    save,
    sheet,
)

_MOST_RESULTS = 12
_BAR_IN = 0.24


def draw_merged(sides: Sequence[SideStream], steps: Sequence[Step], frame: Frame, folder: Path) -> list[Picture]:
    """Those that there is data for."""
    with house_style():
        return [*_draw_results(sides, frame, folder), *_draw_scaling(steps, frame, folder)]


def _draw_results(sides: Sequence[SideStream], frame: Frame, folder: Path) -> list[Picture]:
    """Bars from 0: images/s of all models, phase by phase, result by result."""
    shown = [side for side in sides[:_MOST_RESULTS] if any(phase.total.images_per_s for phase in side.view.phases)]
    if not shown:
        return []
    names = phase_names(shown)
    colors = phase_colors(names)
    title = "Throughput, result by result"
    subtitle = "Images per second of all models together, with 95 % interval"
    if len(sides) > len(shown):
        subtitle += f" ({len(shown)} of {len(sides)} results; the table has all)"
    row_in = _BAR_IN * len(names) + 0.18
    drawn = sheet(title, subtitle, frame, 1.0 + row_in * len(shown))
    axes = drawn.axes(left=0.4 + 0.083 * max(len(_label(side)) for side in shown), right=0.75, top=0.28)
    bar = _BAR_IN / row_in
    spoken, labels = [], {}
    for row, side in enumerate(reversed(shown)):
        for place, phase_name in enumerate(names):
            phase = side.phase(phase_name)
            if phase is None or not phase.total.images_per_s:
                continue
            rate, interval = phase.total.images_per_s, side.rate_interval(phase)
            height = row + (len(names) - 1) / 2 * bar - place * bar
            axes.barh(
                height,
                rate,
                bar * 0.86,
                color=colors[phase_name],
                hatch="///" if place % 2 else None,
                edgecolor="white",
            )
            if interval:
                axes.plot(interval, (height, height), color=INK, linewidth=1.3)
            axes.annotate(
                significant(rate), (max(rate, interval[1] if interval else 0.0), height), (4, 0), textcoords="offset points",
                va="center", fontsize=8.5, color=QUIET,
            )  # fmt: skip
            labels[phase_name] = phase.label
            spoken.append(f"{side.label}, {phase.label}: {significant(rate)}")
    axes.set_yticks(range(len(shown)), labels=[_label(side) for side in reversed(shown)])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, None)
    axes.xaxis.grid(visible=True)
    axes.set_xlabel("images per second")
    handles = [Line2D([], [], color=colors[name], linewidth=7, label=labels[name]) for name in names if name in labels]
    key_above(axes, handles, 1.0)
    return [save(drawn, folder, "results", title, f"{title}, images per second. {'; '.join(spoken)}.")]


def _label(side: SideStream) -> str:
    return clip_model(side.stamped_label)


def _draw_scaling(steps: Sequence[Step], frame: Frame, folder: Path) -> list[Picture]:
    """One line a phase, beside the line on which each worker adds what the fewest had each."""
    if not steps:
        return []
    title = "Scaling with workers"
    drawn = sheet(title, "Images per second, with 95 % interval; dashed: in proportion to the workers", frame, 3.7)
    axes = drawn.axes(left=0.85, bottom=0.5, top=0.36, right=0.3)
    phases = list(dict.fromkeys(step.phase.name for step in steps))
    colors = phase_colors(phases)
    handles = []
    for number, phase in enumerate(phases):
        own = [step for step in steps if step.phase.name == phase]
        _draw_phase(axes, own, colors[phase], mark(number))
        handles.append(Line2D([], [], color=colors[phase], marker=mark(number), label=clip(own[0].phase.label, 24)))
    workers = sorted({step.workers for step in steps})
    axes.xaxis.set_major_locator(FixedLocator(workers))
    axes.set_xlim(0, workers[-1] * 1.06)
    axes.set_ylim(0, None)
    axes.xaxis.grid(visible=True, color=LINE, linewidth=0.5)
    axes.yaxis.grid(visible=True)
    axes.set_xlabel("workers")
    axes.set_ylabel("images per second")
    key_above(axes, handles, 1.01)
    spoken = "; ".join(
        f"{step.phase.label}, {step.workers} workers: {significant(step.images_per_s)} images/s" for step in steps
    )
    return [save(drawn, folder, "scaling", title, f"{title}. {spoken}.")]


def _draw_phase(axes: Axes, steps: Sequence[Step], color: str, marker: str) -> None:
    first, last = steps[0], steps[-1]
    axes.plot(
        (0, last.workers), (0, first.images_per_s / first.workers * last.workers), color=color, linewidth=1.0, linestyle=(0, (4, 3))
    )  # fmt: skip
    axes.plot([step.workers for step in steps], [step.images_per_s for step in steps], color=color, marker=marker, markersize=7, markeredgecolor="white", linewidth=1.8)  # fmt: skip
    for step in steps:
        if step.interval is not None:
            axes.plot((step.workers, step.workers), step.interval, color=color, linewidth=1.4)
