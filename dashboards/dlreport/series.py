"""Series that stand beside each other in a picture: the colour, the mark and the key of the first, the second and so on."""

from matplotlib.lines import Line2D

from dlreport.style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, clip

_COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
_MARKS = ("o", "s", "^", "D", "v", "P")


def color(number: int) -> str:
    """Of the n-th series, from 0."""
    return _COLORS[number % len(_COLORS)]


def mark(number: int) -> str:
    """Its marker, so that colour is not all that tells it."""
    return _MARKS[number % len(_MARKS)]


def handle(number: int, label: str) -> Line2D:
    """A series in a key."""
    return Line2D(
        [], [], color=color(number), marker=mark(number), markersize=5, linewidth=1.5, label=clip(label, 40, tail=14)
    )
