"""Cold against warm for each model: two dots on a line, the distance between them is what being cold costs."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from dlreport.quantity import milliseconds, ratio
from dlreport.stream.comparison import latency_ratio
from dlreport.stream.view import PhaseView, StreamView
from dlreport.style import INK, LINE, QUIET, Frame, Picture, clip_model, log_axis, phase_colors, save, sheet

_MOST_ROWS = 40
_ROW_IN = 0.36


@dataclass(frozen=True, slots=True)
class _Row:
    """`means_ms`: by phase name; `times_slower`: the coldest phase over the baseline."""

    name: str
    means_ms: dict[str, float]
    times_slower: float | None


def draw_models(view: StreamView, frame: Frame, folder: Path) -> list[Picture]:
    """One row a model, slowest at the top, all models together at the bottom; none where nothing was answered."""
    rows = _rows(view)
    if not rows:
        return []
    shown = rows if len(rows) <= _MOST_ROWS else [rows[0], *rows[1 - _MOST_ROWS :]]
    title = "Cold against warm, model by model" if view.compared else "Latency, model by model"
    subtitle = "Mean latency of a request; further left is faster"
    if len(shown) < len(rows):
        subtitle += f" (the {len(shown) - 1} slowest of {len(rows) - 1} models; the table has all)"
    drawn = sheet(title, subtitle, frame, 1.0 + _ROW_IN * len(shown))
    axes = drawn.axes(left=0.4 + 0.083 * max(len(row.name) for row in shown), right=0.98, top=0.28)
    means = [mean for row in shown for mean in row.means_ms.values()]
    room = max(max(means) / min(means), 4.0) ** 0.16
    log_axis(axes, "x", min(means) / room, max(means) * room)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_yticks(range(len(shown)), labels=[row.name for row in shown])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.grid(visible=True)
    axes.set_xlabel("mean latency, ms (logarithmic)")
    _draw_rows(axes, shown, view.phases)
    _key(axes, view.phases)
    alt = "; ".join(
        f"{row.name}: " + ", ".join(f"{phase} {milliseconds(mean / 1e3)} ms" for phase, mean in row.means_ms.items())
        for row in shown
    )
    return [save(drawn, folder, "models", title, f"{title}. {alt}.")]


def _rows(view: StreamView) -> list[_Row]:
    """Bottom row first: the total, then the models from fast to slow. Rows without any figure are left out."""
    rows = []
    for service in view.services:
        summaries = {phase.name: phase.phase.services.get(service) for phase in view.phases}
        means = {name: one.latency_s.mean * 1e3 for name, one in summaries.items() if one and one.latency_s.mean}
        base = view.baseline.phase.services.get(service) if view.baseline else None
        ratios = [latency_ratio(phase.phase.services.get(service), base) for phase in view.compared]
        rows.append(_Row(clip_model(service), means, _largest(ratios)))
    rows.sort(key=lambda row: max(row.means_ms.values(), default=0.0))
    totals = {phase.name: phase.total.latency_s.mean * 1e3 for phase in view.phases if phase.total.latency_s.mean}
    total_ratios = [latency_ratio(phase.total, view.baseline.total) for phase in view.compared if view.baseline]
    return [row for row in [_Row("all models", totals, _largest(total_ratios)), *rows] if row.means_ms]


def _largest(ratios: list[float | None]) -> float | None:
    return max((value for value in ratios if value is not None), default=None)


def _draw_rows(axes: Axes, rows: list[_Row], phases: tuple[PhaseView, ...]) -> None:
    colors = phase_colors([phase.name for phase in phases])
    for height, row in enumerate(rows):
        means = row.means_ms.values()
        total = row.name == "all models" and height == 0
        axes.plot(
            [min(means), max(means)],
            [height, height],
            color=QUIET if total else LINE,
            linewidth=4,
            solid_capstyle="butt",
            zorder=1,
        )
        for side, mean in (("right", min(means)), ("left", max(means)))[: len(set(means))]:
            axes.annotate(
                milliseconds(mean / 1e3),
                (mean, height),
                (-8 if side == "right" else 8, 0),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=8.5,
                color=QUIET,
            )
        for name, mean in row.means_ms.items():
            axes.plot(mean, height, "o", color=colors[name], markersize=9, markeredgecolor="white", zorder=3)
        if row.times_slower is not None:
            axes.annotate(
                ratio(row.times_slower),
                (1, height),
                (8, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontweight="bold" if total else "normal",
            )
    if rows[0].name == "all models":
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.axhline(0.5, color=LINE, linewidth=0.8)
    if any(row.times_slower is not None for row in rows):
        axes.annotate(
            "cold / warm",
            (1, 1),
            (8, 8),
            xycoords="axes fraction",
            textcoords="offset points",
            color=QUIET,
            fontsize=8.5,
        )


def _key(axes: Axes, phases: tuple[PhaseView, ...]) -> None:
    colors = phase_colors([phase.name for phase in phases])
    handles = [axes.plot([], [], "o", color=colors[phase.name], markersize=9, label=phase.label)[0] for phase in phases]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=len(handles),
        frameon=False,
        labelcolor=INK,
        handletextpad=0.1,
        columnspacing=1.4,
        borderpad=0.2,
    )
