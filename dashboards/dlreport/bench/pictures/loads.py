"""From nothing to the first answer, stage by stage: cold, and again after an unload; beside them a warm inference."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dlreport.bench.loads import LoadTimes, load_variants
from dlreport.bench.pictures.panel import spread
from dlreport.bench.pictures.times import MOST_PICTURES
from dlreport.bench.variant import Variant
from dlreport.bench.view import BenchView
from dlreport.quantity import milliseconds, plain
from dlreport.style import BLUE, INK, ORANGE, QUIET, SKY, Frame, Picture, clip, clip_model, save, sheet

_STAGES = {"prepare": BLUE, "load": SKY, "first inference": ORANGE}
_MOST_ROWS = 20
_ROW_IN = 0.52


@dataclass(frozen=True)
class _Bar:
    """Stage -> seconds; in the order of _STAGES."""

    stages: dict[str, float]

    @property
    def total_s(self) -> float:
        """Its length."""
        return sum(self.stages.values())


def draw_loads(view: BenchView, frame: Frame, folder: Path) -> list[Picture]:
    """A picture a place where loading was asked for: two bars and a mark for each network."""
    if not view.of("load"):
        return []
    pictures: list[Picture] = []
    for place in load_variants(view)[:MOST_PICTURES]:
        told = [LoadTimes(point, point.load) for point in place.points if point.load is not None]
        told = sorted((one for one in told if one.cold_s), key=lambda one: one.cold_s or 0.0)[-_MOST_ROWS:]
        if told:
            pictures.append(_draw(place, told, len(pictures) + 1, frame, folder))
    return pictures


def _draw(place: Variant, told: Sequence[LoadTimes], number: int, frame: Frame, folder: Path) -> Picture:
    title = f"Loading and the first inference: {clip(place.label, 44)}"
    subtitle = "Upper bar: cold, the framework running; lower bar: loaded again; line: a warm inference"
    names = [clip_model(one.point.setting.model) for one in told]
    drawn = sheet(title, subtitle, frame, 1.1 + _ROW_IN * len(told))
    axes = drawn.axes(left=0.45 + 0.083 * max(map(len, names)), right=0.8, top=0.35)
    axes.set_yticks(range(len(told)), labels=names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(told) - 0.4)
    most = max(max(one.cold_s or 0.0, one.again_s or 0.0) for one in told) * 1e3
    axes.set_xlim(0, most * 1.08)
    for height, one in enumerate(told):
        _draw_bar(axes, _cold(one), height + 0.18, hollow=bool(one.point.reasons))
        if one.again_s:
            _draw_bar(axes, _again(one), height - 0.18, hollow=bool(one.point.reasons))
        if one.warm_s:
            axes.plot([one.warm_s * 1e3] * 2, [height - 0.38, height + 0.38], color=INK, linewidth=1.6, zorder=4)
    axes.set_xlabel("ms")
    spread(axes)
    axes.xaxis.set_major_formatter(lambda value, _: plain(value))
    handles: list[Artist] = [Patch(facecolor=color, label=stage) for stage, color in _STAGES.items()]
    handles.append(Line2D([], [], color=INK, linewidth=1.6, label="warm inference"))
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=len(handles), frameon=False, fontsize=8.5, handlelength=1.2,
        columnspacing=1.3, borderpad=0.2,
    )  # fmt: skip
    said = "; ".join(
        f"{one.point.setting.model}: cold {milliseconds(one.cold_s or 0.0)} ms"
        + (f", again {milliseconds(one.again_s)} ms" if one.again_s else "")
        + (f", warm {milliseconds(one.warm_s)} ms" if one.warm_s else "")
        for one in told
    )
    return save(drawn, folder, f"loads-{number}", title, f"{title}. {said}.")


def _cold(one: LoadTimes) -> _Bar:
    load = one.load
    stages = {"prepare": load.prepare_s, "load": load.load_s, "first inference": load.first_run_s}
    return _Bar({stage: seconds for stage, seconds in stages.items() if seconds is not None})


def _again(one: LoadTimes) -> _Bar:
    first = {"first inference": statistics.median(one.load.first_runs_s)} if one.load.first_runs_s else {}
    return _Bar({"load": statistics.median(one.load.reload_s), **first})


def _draw_bar(axes: Axes, bar: _Bar, height: float, *, hollow: bool) -> None:
    left = 0.0
    for stage, seconds in bar.stages.items():
        axes.barh(
            height, seconds * 1e3, left=left * 1e3, height=0.3, color="white" if hollow else _STAGES[stage],
            edgecolor=_STAGES[stage] if hollow else "white", linewidth=0.8, zorder=2,
        )  # fmt: skip
        left += seconds
    axes.annotate(
        milliseconds(bar.total_s), (bar.total_s * 1e3, height), (4, 0), textcoords="offset points", va="center", fontsize=8, color=QUIET
    )  # fmt: skip
