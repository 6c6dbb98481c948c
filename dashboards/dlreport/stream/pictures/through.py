"""What else happened while the run went on: small panels above one another that share the time axis."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dlreport.quantity import plain
from dlreport.stream.through import Panel, Stretch, panels, stretches
from dlreport.stream.view import StreamView
from dlreport.style import BLUE, INK, ORANGE, QUIET, Frame, Picture, Sheet, clip, phase_colors, save, sheet

_PANEL_IN = 1.02
_TOP_IN = 0.32
"""For the names of the phases."""
_BOTTOM_IN = 0.5
_TITLE = "Through the run"
_SUBTITLE = "Server and load generator on one clock; coloured where a phase ran"


def draw_through(view: StreamView, frame: Frame, folder: Path) -> list[Picture]:
    """One picture; none of a run without samples."""
    shown, made = stretches(view), panels(view)
    if not made:
        return []
    height = _TOP_IN + _PANEL_IN * len(made) + _BOTTOM_IN - 0.2
    drawn = sheet(_TITLE, _SUBTITLE, frame, height)
    colors = phase_colors([phase.name for phase in view.phases])
    end_s = max(one.end_s for one in shown)
    for number, panel in enumerate(made):
        axes = _panel(drawn, number, len(made), height)
        axes.set_xlim(0, end_s)
        _shade(axes, shown, colors, end_s, named=number == 0)
        _draw(axes, panel)
        if number == len(made) - 1:
            axes.set_xlabel("seconds since the first phase began")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        else:
            axes.tick_params(axis="x", labelbottom=False)
    alt = "; ".join(f"{panel.title}: {_range(panel)} {panel.unit}" for panel in made)
    return [save(drawn, folder, "through", _TITLE, f"{_TITLE}. {alt}.")]


def _panel(drawn: Sheet, number: int, count: int, height: float) -> Axes:
    below = (count - 1 - number) * _PANEL_IN
    bottom = _BOTTOM_IN + below
    return drawn.axes(left=0.75, right=0.3, bottom=bottom, top=height - bottom - (_PANEL_IN - 0.34))


def _shade(axes: Axes, shown: tuple[Stretch, ...], colors: dict[str, str], end_s: float, *, named: bool) -> None:
    for one in shown:
        color = colors[one.phase.name]
        axes.axvspan(one.start_s, one.end_s, color=color, alpha=0.09, linewidth=0)
        share = (one.end_s - one.start_s) / max(end_s, 1e-9)
        if named and share > 0.05:
            axes.annotate(
                clip(one.phase.label, max(int(90 * share), 4)),
                ((one.start_s + one.end_s) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 19),
                textcoords="offset points",
                ha="center",
                color=color,
                fontsize=9.5,
                fontweight="bold",
                annotation_clip=False,
            )


def _draw(axes: Axes, panel: Panel) -> None:
    highest = 0.0
    colors = (INK,) if len(panel.series) == 1 else (BLUE, ORANGE)
    for series, color in zip(panel.series, colors, strict=False):
        axes.plot(series.at_s, series.values, color=color, linewidth=1.3)
        if series.low is not None and series.high is not None:
            axes.fill_between(series.at_s, series.low, series.high, color=color, alpha=0.16, linewidth=0)
        top = series.values if series.high is None else series.high
        highest = max(highest, float(np.nanmax(top)) if top.size else 0.0)
    axes.set_ylim(0, max(highest * 1.12, 1e-9) if panel.unit != "%" else 105)
    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(round(value, 9))))
    axes.yaxis.grid(visible=True)
    axes.set_title(f"{panel.title}, {panel.unit}", loc="left", fontsize=9, color=INK, pad=3)
    labelled = [(series.label, color) for series, color in zip(panel.series, colors, strict=False) if series.label]
    offset = 0.0
    for label, color in reversed(labelled):
        text = label if len(labelled) == 1 else f"— {label}"
        axes.annotate(
            text, (1.0, 1.0), xycoords="axes fraction", xytext=(-offset, 4), textcoords="offset points", ha="right",
            color=QUIET if len(labelled) == 1 else color, fontsize=8.5,
        )  # fmt: skip
        offset += 5.6 * len(text) + 10


def _range(panel: Panel) -> str:
    values = np.concatenate([series.values for series in panel.series])
    return f"{plain(float(f'{np.nanmin(values):.3g}'))} to {plain(float(f'{np.nanmax(values):.3g}'))}"
