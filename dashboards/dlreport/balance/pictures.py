"""The pictures of a comparison: p99 by policy in every scenario; the model against processes; p99 by number of workers."""

from collections.abc import Sequence
from pathlib import Path

from dlclient.balance_result import Cell
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from dlreport.balance.answer import spoken
from dlreport.balance.view import BalanceView, interval, p99_s, resident
from dlreport.quantity import plain
from dlreport.series import color, handle, mark
from dlreport.style import (
    INK,
    LINE,
    QUIET,
    WIDTH_IN,
    Frame,
    Picture,
    clip,
    house_style,
    key_above,
    log_axis,
    round_ticks,
    save,
    sheet,
)

_JUDGED = {"mean": -0.2, "p50": 0.0, "p99": 0.2}
"""Figure -> how far below the row's middle."""
_LEFT_IN, _RIGHT_IN, _GAP_IN = 1.12, 0.2, 0.16
_ROW_IN = 0.3


def draw_all(view: BalanceView, frame: Frame, folder: Path) -> dict[str, list[Picture]]:
    """By where they belong on the page."""
    with house_style():
        return {
            "policies": _draw_policies(view, frame, folder),
            "agreement": _draw_agreement(view, frame, folder),
            "workers": _draw_workers(view, frame, folder),
        }


def _draw_policies(view: BalanceView, frame: Frame, folder: Path) -> list[Picture]:
    """One picture for each number of workers and residency: a panel for each mix, a row for each policy, a mark for each load."""
    cells = [cell for cell in view.good if cell.where.source == "model" and p99_s(cell) is not None]
    pictures = []
    for workers in sorted({cell.where.workers for cell in cells}):
        for residency in dict.fromkeys(cell.where.residency for cell in cells if cell.where.workers == workers):
            own = [cell for cell in cells if (cell.where.workers, cell.where.residency) == (workers, residency)]
            pictures.append(_draw_residency(view, own, workers, residency, frame, folder))
    return pictures


def _draw_residency(
    view: BalanceView, cells: Sequence[Cell], workers: int, residency: str, frame: Frame, folder: Path
) -> Picture:
    mixes = list(dict.fromkeys(cell.where.mix for cell in cells))
    loads = sorted({cell.where.load for cell in cells})
    policies = list(dict.fromkeys(cell.where.policy for cell in cells))
    title = f"p99 by policy: {resident(residency)}"
    drawn = sheet(
        title, f"{workers} simulated workers; discrete-event model; bars: 95 % intervals; left is better", frame,
        0.85 + _ROW_IN * len(policies),
    )  # fmt: skip
    times_ms = [time * 1e3 for cell in cells for time in (p99_s(cell), *(interval(cell, "p99") or ())) if time]
    low_ms, high_ms = min(times_ms) / 1.25, max(times_ms) * 1.25
    width_in = (WIDTH_IN - _LEFT_IN - _RIGHT_IN - _GAP_IN * (len(mixes) - 1)) / len(mixes)
    for place, mix in enumerate(mixes):
        left_in = _LEFT_IN + place * (width_in + _GAP_IN)
        axes = drawn.axes(left=left_in, right=WIDTH_IN - left_in - width_in, bottom=0.45, top=0.4)
        _draw_mix(axes, [cell for cell in cells if cell.where.mix == mix], policies, loads)
        log_axis(axes, "x", low_ms, max(high_ms, low_ms * 4))
        axes.xaxis.set_major_locator(FixedLocator(round_ticks(low_ms, max(high_ms, low_ms * 4), 8 - len(mixes))))
        axes.set_xlabel(clip(mix, 24) + ", ms")
        axes.tick_params(axis="x", labelsize=7)
        axes.set_yticks(range(len(policies)), policies if place == 0 else [""] * len(policies))
        if place == 0:
            key_above(axes, [_load_key(load, loads) for load in loads], 1.02)
    name = f"p99-{workers}-{residency}"
    return save(drawn, folder, name, title, spoken(view, residency, workers))


def _draw_mix(axes: Axes, cells: Sequence[Cell], policies: Sequence[str], loads: Sequence[float]) -> None:
    axes.set_ylim(len(policies) - 0.5, -0.5)
    axes.yaxis.grid(visible=True, color=LINE, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    for cell in cells:
        value = p99_s(cell)
        assert value is not None
        shift = (loads.index(cell.where.load) - (len(loads) - 1) / 2) * 0.24
        row = policies.index(cell.where.policy) + shift
        ink = color(policies.index("predicted")) if cell.where.policy == "predicted" else INK
        if found := interval(cell, "p99"):
            axes.plot([found[0] * 1e3, found[1] * 1e3], [row, row], color=ink, linewidth=1.6, alpha=0.45)
        hollow = cell.where.load != loads[-1]
        axes.plot(value * 1e3, row, "o", color=ink, markersize=6, markerfacecolor="white" if hollow else ink)


def _load_key(load: float, loads: Sequence[float]) -> Line2D:
    face = INK if load == loads[-1] else "white"
    return Line2D([], [], color=INK, marker="o", linestyle="", markerfacecolor=face, label=f"load {load:.0%}")


def _draw_agreement(view: BalanceView, frame: Frame, folder: Path) -> list[Picture]:
    """One row for each cell that ran in processes: model / real, of mean, p50 and p99, with the band of a tenth."""
    cells = view.judged
    if not cells:
        return []
    title = "The model against processes"
    drawn = sheet(
        title,
        "Same requests, same options; grey: within 10 %; bars: 95 % intervals",
        frame,
        0.85 + 0.3 * len(cells),
    )
    axes = drawn.axes(left=2.75, right=0.35, bottom=0.45, top=0.36)
    ratios = [1.0]
    axes.axvspan(0.9, 1.1, color=LINE, alpha=0.6, linewidth=0)
    axes.axvline(1.0, color=QUIET, linewidth=0.8)
    for row, cell in enumerate(cells):
        assert cell.agreement is not None
        for number, (figure, shift) in enumerate(_JUDGED.items()):
            if figure in cell.agreement.ratios:
                low, middle, high = cell.agreement.ratios[figure]
                axes.plot([low, high], [row + shift] * 2, color=color(number), linewidth=1.8, alpha=0.5)
                axes.plot(middle, row + shift, mark(number), color=color(number), markersize=5)
                ratios += [low, high]
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_yticks(range(len(cells)), [_row_name(cell) for cell in cells])
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.yaxis.grid(visible=True, color=LINE, linewidth=0.6)
    axes.set_xlim(min(0.8, min(ratios) - 0.05), max(1.2, max(ratios) + 0.05))
    axes.set_xlabel("model / processes")
    handles = [handle(number, figure) for number, figure in enumerate(_JUDGED)]
    key_above(axes, handles, 1.01)
    told = "; ".join(
        f"{_row_name(cell)}: {', '.join(f'{figure} {ratio[1]:.2f}' for figure, ratio in cell.agreement.ratios.items())}"
        for cell in cells
        if cell.agreement
    )
    return [save(drawn, folder, "agreement", title, f"{title}, model / processes. {told}.")]


def _row_name(cell: Cell) -> str:
    where = cell.where
    weights = {"all": "all", "third": "a third"}.get(where.residency, where.residency)
    return f"{weights}, {where.mix} at {where.load:.0%}, {where.policy}"


def _draw_workers(view: BalanceView, frame: Frame, folder: Path) -> list[Picture]:
    """Where there are several numbers of workers: p99 over them, a panel for each residency, at the highest load they share."""
    cells = [cell for cell in view.good if cell.where.source == "model" and p99_s(cell) is not None]
    counts = sorted({cell.where.workers for cell in cells})
    if len(counts) < 2:
        return []
    largest = [cell for cell in cells if cell.where.workers == counts[-1]]
    load = max(cell.where.load for cell in largest)
    mix = max((cell.where.mix for cell in largest), key=lambda name: name.startswith("zipf"))
    shown = [cell for cell in cells if (cell.where.load, cell.where.mix) == (load, mix)]
    residencies = list(dict.fromkeys(cell.where.residency for cell in shown))
    policies = [policy for policy in view.policies if any(cell.where.policy == policy for cell in shown)]
    title = "p99 by number of workers"
    drawn = sheet(title, f"{clip(mix, 40)} at {load:.0%}; discrete-event model", frame, 3.7)
    width_in = (WIDTH_IN - 0.75 - _RIGHT_IN - 0.6 * (len(residencies) - 1)) / len(residencies)
    for place, residency in enumerate(residencies):
        left_in = 0.75 + place * (width_in + 0.6)
        axes = drawn.axes(left=left_in, right=WIDTH_IN - left_in - width_in, bottom=0.5, top=0.6)
        _draw_lines(axes, [cell for cell in shown if cell.where.residency == residency], policies, counts)
        axes.set_title(resident(residency), fontsize=9.5, color=QUIET, loc="left", pad=4)
        if place == 0:
            axes.set_ylabel("p99, ms (logarithmic)")
            handles = [handle(one, policy) for one, policy in enumerate(policies)]
            axes.legend(
                handles=handles, loc="lower left", bbox_to_anchor=(-0.2, 1.08), ncols=len(handles), frameon=False,
                columnspacing=1.0, handlelength=1.6, handletextpad=0.4, fontsize=8,
            )  # fmt: skip
    told = "; ".join(
        f"{cell.where.workers} workers, {resident(cell.where.residency)}, {cell.where.policy}: {(p99_s(cell) or 0) * 1e3:.0f} ms"
        for cell in shown
    )
    return [save(drawn, folder, "workers", title, f"{title}. {told}.")]


def _draw_lines(axes: Axes, cells: Sequence[Cell], policies: Sequence[str], counts: Sequence[int]) -> None:
    for place, policy in enumerate(policies):
        points = sorted((cell.where.workers, (p99_s(cell) or 0) * 1e3) for cell in cells if cell.where.policy == policy)
        if points:
            axes.plot(
                *zip(*points, strict=True),
                color=color(place),
                marker=mark(place),
                markersize=5,
                linewidth=1.3,
            )
    times_ms = [(p99_s(cell) or 0) * 1e3 for cell in cells]
    log_axis(axes, "y", min(times_ms) / 1.4, max(times_ms) * 1.4)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(counts)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.yaxis.grid(visible=True)
    axes.set_xlabel("workers (logarithmic)")
