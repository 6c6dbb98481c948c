"""The pictures of a result of `make bench`: the ratios beside their goals, and the rates of the targets."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from dlclient.serving_result import Measured, Ratio, Serving
from matplotlib.axes import Axes

from dlreport.quantity import significant
from dlreport.style import (
    BLUE,
    GREEN,
    INK,
    LINE,
    QUIET,
    VERMILLION,
    Frame,
    Picture,
    clip,
    house_style,
    log_axis,
    save,
    sheet,
)

_DRAWN = {
    "x": ("ratios", "Ratios, and what was asked for", "ratio (logarithmic)"),
    "%": ("percents", "Percentages, and what was asked for", "percent (logarithmic)"),
}
"""Unit -> name, title and axis of the picture. Others, and what has no logarithm, stand in the table alone."""
_ROW_IN = 0.34
_LEFT_IN = 3.6


def draw(result: Serving, frame: Frame, folder: Path) -> list[Picture]:
    """Those that there is something to show in."""
    made = []
    with house_style():
        for unit, drawing in _DRAWN.items():
            ratios = [ratio for ratio in result.ratios if ratio.unit == unit and min(ratio.values, default=0.0) > 0]
            if ratios:
                made.append(_ratios(ratios, *drawing, frame, folder))
        rates = [one for one in result.measured if one.rounds and one.clients == 8]
        if rates:
            made.append(_rates(rates, frame, folder))
    return made


def _ratios(ratios: Sequence[Ratio], name: str, title: str, label: str, frame: Frame, folder: Path) -> Picture:
    """Median, range over the rounds, and the goal as a line, on a logarithmic axis."""
    drawn = sheet(
        title, "Dot: median over the rounds; bar: from the least to the most; line: the goal", frame, _high(ratios)
    )
    axes = _rows(drawn.axes(left=_LEFT_IN, bottom=0.45, top=0.1), [ratio.text for ratio in ratios])
    shown = [value for ratio in ratios for value in (*ratio.values, ratio.wanted) if value]
    log_axis(axes, "x", min(shown) / 1.15, max(shown) * 1.15)
    for place, ratio in enumerate(ratios):
        found = ratio.median
        assert found is not None
        color = {True: GREEN, False: VERMILLION, None: BLUE}[ratio.met]
        axes.plot((min(ratio.values), max(ratio.values)), (place, place), color=color, linewidth=2)
        axes.plot(found, place, "o", color=color, markersize=6)
        axes.annotate(
            f"{significant(found, 3)} {ratio.unit}",
            (found, place),
            (0, 5),
            textcoords="offset points",
            fontsize=8,
            ha="center",
        )
        if ratio.wanted is not None:
            axes.plot((ratio.wanted, ratio.wanted), (place - 0.12, place + 0.35), color=INK, linewidth=1.6)
    axes.set_xlabel(label)
    told = "; ".join(
        f"{ratio.text}: {significant(ratio.median or 0.0, 3)} {ratio.unit}, goal {ratio.goal or 'none'}"
        for ratio in ratios
    )
    return save(drawn, folder, name, title, f"{title}. {told}.")


def _rates(rows: Sequence[Measured], frame: Frame, folder: Path) -> Picture:
    title = "Answers per second of eight clients"
    drawn = sheet(title, "Median over the rounds, logarithmic", frame, _high(rows))
    labels = [one.target if one.part in {"zero", one.target} else f"{one.part}: {one.target}" for one in rows]
    axes = _rows(drawn.axes(left=_LEFT_IN, bottom=0.45, top=0.1, right=0.8), labels)
    values = [statistics.median(each.rate_per_s for each in one.rounds) for one in rows]
    log_axis(axes, "x", min(values) / 2, max(values))
    for place, (one, value) in enumerate(zip(rows, values, strict=True)):
        color = GREEN if one.target.startswith("dlserve") else QUIET
        axes.plot((min(values) / 2, value), (place, place), color=color, linewidth=5, solid_capstyle="butt")
        axes.annotate(
            significant(value, 4), (value, place), (5, 0), textcoords="offset points", fontsize=8, va="center"
        )
    axes.set_xlabel("answers per second (logarithmic)")
    told = "; ".join(f"{label}: {significant(value, 4)}/s" for label, value in zip(labels, values, strict=True))
    return save(drawn, folder, "rates", title, f"{title}. {told}.")


def _high(rows: Sequence[object]) -> float:
    return 0.7 + _ROW_IN * len(rows)


def _rows(axes: Axes, labels: Sequence[str]) -> Axes:
    axes.set_yticks(range(len(labels)), [clip(label, 52) for label in labels], fontsize=8.5)
    axes.set_ylim(len(labels) - 0.5, -0.7)
    axes.xaxis.grid(visible=True, color=LINE, linewidth=0.5)
    return axes
