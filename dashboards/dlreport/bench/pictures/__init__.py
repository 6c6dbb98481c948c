"""The pictures of a bench, each kind in its own module: one function from the view to saved Pictures."""

from collections.abc import Callable
from pathlib import Path

from dlreport.bench.pictures.across import draw_across
from dlreport.bench.pictures.busy import draw_busy, draw_over_time
from dlreport.bench.pictures.heat import draw_heat
from dlreport.bench.pictures.loads import draw_loads
from dlreport.bench.pictures.rows import draw_devices, draw_gain, draw_largest
from dlreport.bench.pictures.scatter import draw_cost, draw_tradeoff
from dlreport.bench.pictures.throughput import draw_throughput
from dlreport.bench.pictures.times import draw_times
from dlreport.bench.view import BenchView
from dlreport.style import Frame, Picture, house_style

_Draw = Callable[[BenchView, Frame, Path], list[Picture]]
_PICTURES: tuple[_Draw, ...] = (
    draw_times,
    draw_across,
    draw_gain,
    draw_cost,
    draw_throughput,
    draw_devices,
    draw_largest,
    draw_tradeoff,
    draw_busy,
    draw_over_time,
    draw_heat,
    draw_loads,
)


def draw_all(view: BenchView, frame: Frame, folder: Path) -> dict[str, list[Picture]]:
    """Draw and save every picture that the bench has data for, by the name of its kind."""
    with house_style():
        return {draw.__name__.removeprefix("draw_"): draw(view, frame, folder) for draw in _PICTURES}
