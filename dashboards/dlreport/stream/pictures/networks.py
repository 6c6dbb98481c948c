"""The networks of 2018 one by one: this run's bars beside the published ones, on CPU, on GPU, at batch 64, and their sizes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from dlreport.published import Published, PublishedNetwork
from dlreport.quantity import plain, significant
from dlreport.stream import facts
from dlreport.stream.networks import FEWEST_TO_DRAW, Network, compared_networks
from dlreport.stream.view import StreamView
from dlreport.style import BLUE, QUIET, VERMILLION, Frame, Picture, Sheet, clip, clip_model, save, sheet

_ROW_IN = 0.36
_PANEL_ROOM_IN = 0.85
_KEY_IN = 0.42
_LEFT_IN, _GAP_IN, _RIGHT_IN = 1.2, 0.55, 0.5
_WIDTH_IN = 7.4


@dataclass(frozen=True, slots=True)
class _Panel:
    """`own`: this run's figure, in the unit of the published one; None: this run has no such figure."""

    title: str
    unit: str
    published: Callable[[PublishedNetwork], Published | None]
    own: Callable[[Network], float | None]


def draw_networks(view: StreamView, frame: Frame, folder: Path) -> list[Picture]:
    """Four panels, each from 0 on a scale of its own; none where fewer than FEWEST_TO_DRAW were streamed, or none answered."""
    networks = sorted(compared_networks(view), key=_cost)
    if len(networks) < FEWEST_TO_DRAW or not view.answered:
        return []
    title = "The networks of 2018, one by one"
    subtitle = "Hatched: published, read off charts (about 10 %), other, older hardware and software"
    panel_in = _PANEL_ROOM_IN + _ROW_IN * len(networks)
    drawn = sheet(title, subtitle, frame, 2 * panel_in + _KEY_IN)
    spoken = []
    for number, panel in enumerate(_panels(view)):
        axes = _axes(drawn, number, panel_in)
        spoken += _draw(axes, panel, networks, named=number % 2 == 0)
    _key(drawn, view)
    return [save(drawn, folder, "networks", title, f"{title}. {'; '.join(spoken)}.")]


def _panels(view: StreamView) -> tuple[_Panel, ...]:
    """This run's times stand with those of the same kind of device."""
    on_gpu = facts.on_gpu(view.run)
    return (
        _Panel("CPU, batch 1", "ms", lambda one: one.cpu, lambda one: None if on_gpu else _ms(one.forward_s)),
        _Panel("GPU, batch 1", "ms", lambda one: one.gpu, lambda one: _ms(one.forward_s) if on_gpu else None),
        _Panel(
            "GPU, batch 64",
            "ms per batch",
            lambda one: one.gpu_64,
            lambda one: _ms(one.forward_64_s) if on_gpu else None,
        ),
        _Panel(
            "Size of the weights",
            "MiB",
            lambda one: one.file,
            lambda one: None if one.weights_bytes is None else one.weights_bytes / 2**20,
        ),
    )


def _cost(network: Network) -> float:
    """Cheapest at the bottom."""
    return network.published.gpu.value or 0.0 if network.published.gpu else 0.0


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _axes(drawn: Sheet, number: int, panel_in: float) -> Axes:
    row, column = divmod(number, 2)
    width = (_WIDTH_IN - _LEFT_IN - _GAP_IN - _RIGHT_IN) / 2
    left = _LEFT_IN + column * (width + _GAP_IN)
    below = (1 - row) * panel_in
    return drawn.axes(
        left=left,
        right=_WIDTH_IN - left - width,
        bottom=0.5 + below,
        top=drawn.plot_height_in - below - panel_in + 0.3,
    )


def _draw(axes: Axes, panel: _Panel, networks: Sequence[Network], *, named: bool) -> list[str]:
    """The bars; the answer is what they say."""
    spoken, hardware, longest = [], "", 0.0
    for height, network in enumerate(networks):
        published, own = panel.published(network.published), panel.own(network)
        both = [(published.value if published else None, True), (own, False)]
        for value, is_published in both:
            if value is None:
                continue
            offset = 0.0 if own is None else -0.19 if is_published else 0.19
            _bar(axes, height + offset, value, published=is_published, thin=own is not None)
            longest = max(longest, value)
            spoken.append(
                f"{panel.title}, {network.name}, {'published' if is_published else 'this run'}: {significant(value)} {panel.unit}"
            )
        if published is not None and published.hardware:
            hardware = published.hardware
    axes.set_title(panel.title, loc="left", fontsize=10.5, fontweight="bold", pad=5)
    axes.set_title(
        f"published: {hardware}" if hardware else "published: file", loc="right", fontsize=8, color=QUIET, pad=5
    )
    axes.set_yticks(np.arange(len(networks)), labels=[clip_model(one.name) if named else "" for one in networks])
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.set_ylim(-0.6, len(networks) - 0.4)
    axes.set_xlim(0, longest * 1.18 or 1.0)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.grid(visible=True)
    axes.set_xlabel(panel.unit)
    return spoken


def _bar(axes: Axes, height: float, value: float, *, published: bool, thin: bool) -> None:
    color = BLUE if published else VERMILLION
    axes.barh(
        height, value, 0.36 if thin else 0.6, color="white" if published else color, edgecolor=color,
        hatch="////" if published else None, linewidth=0.9,
    )  # fmt: skip
    axes.annotate(
        plain(value) if published else significant(value), (value, height), (3, 0), textcoords="offset points",
        va="center", fontsize=7.5, color=QUIET,
    )  # fmt: skip


def _key(drawn: Sheet, view: StreamView) -> None:
    where = clip(facts.hardware(view.run) or "hardware not told", 44)
    handles = [
        Patch(facecolor=VERMILLION, edgecolor=VERMILLION, label=f"this run: {where}"),
        Patch(facecolor="white", edgecolor=BLUE, hatch="////", label="published in 2018"),
    ]
    drawn.figure.legend(
        handles=handles, loc="upper left", ncols=2, frameon=False, fontsize=9,
        bbox_to_anchor=(0.012, 1 - 0.66 / drawn.figure.get_figheight()),
    )  # fmt: skip
