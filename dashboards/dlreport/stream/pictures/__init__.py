"""The pictures of a stream run, each in its own module: one function from the view to a saved Picture."""

from collections.abc import Callable
from pathlib import Path

from dlreport.stream.pictures.clocks import draw_clocks
from dlreport.stream.pictures.distributions import draw_distributions
from dlreport.stream.pictures.models import draw_models
from dlreport.stream.pictures.networks import draw_networks
from dlreport.stream.pictures.published import draw_published
from dlreport.stream.pictures.stages import draw_stages
from dlreport.stream.pictures.through import draw_through
from dlreport.stream.pictures.timeline import draw_timeline
from dlreport.stream.view import StreamView
from dlreport.style import Frame, Picture, house_style

_Draw = Callable[[StreamView, Frame, Path], list[Picture]]
_PICTURES: tuple[_Draw, ...] = (
    draw_models,
    draw_clocks,
    draw_distributions,
    draw_stages,
    draw_timeline,
    draw_through,
    draw_published,
    draw_networks,
)


def draw_all(view: StreamView, frame: Frame, folder: Path) -> dict[str, list[Picture]]:
    """Draw and save every picture that the run has data for, by the name of its kind."""
    with house_style():
        return {draw.__name__.removeprefix("draw_"): draw(view, frame, folder) for draw in _PICTURES}
