"""Where dd_bench says things: results on standard output, the rest and a progress bar on standard error."""

import shutil
import sys
from time import perf_counter

_WIDTH = 30
_CLEAR = "\r\x1b[2K"


class Console:
    """The bar is only drawn on a terminal."""

    def __init__(self) -> None:
        self._has_bar = sys.stderr.isatty()
        self._drawn = ""
        self._began = perf_counter()
        self._at_first = 0.0

    def line(self, text: str) -> None:
        """A result."""
        self.clear()
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Something to know."""
        self.clear()
        print(f"dd_bench: {text}", file=sys.stderr, flush=True)

    def begin(self, fraction: float) -> None:
        """Start the clock of the estimate, at what was done before."""
        self._began = perf_counter()
        self._at_first = fraction

    def progress(self, fraction: float, label: str) -> None:
        """Draw the bar. `fraction` of the whole run."""
        if not self._has_bar:
            return
        done = round(_WIDTH * fraction)
        bar = f"[{'#' * done}{'.' * (_WIDTH - done)}] {fraction:4.0%}  {label}{self._left(fraction)}"
        bar = bar[: shutil.get_terminal_size().columns - 1]
        if bar != self._drawn:
            print(f"{_CLEAR}{bar}", end="", file=sys.stderr, flush=True)
            self._drawn = bar

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
            self._drawn = ""

    def _left(self, fraction: float) -> str:
        """At the speed so far; "" while that tells nothing."""
        elapsed, gained = perf_counter() - self._began, fraction - self._at_first
        if elapsed < 2 or gained < 0.01:
            return ""
        seconds = round(elapsed * (1 - fraction) / gained)
        return f", {seconds // 60}:{seconds % 60:02} left"
