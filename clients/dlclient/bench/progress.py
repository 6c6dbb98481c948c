"""How far a bench is: a bar with an estimate on a terminal, a line per point otherwise."""

import shutil
import time
from collections.abc import Callable, Sequence
from typing import TextIO

_BAR = 20
_LONG_S = 90.0


class BenchProgress:
    """Of `total` points, `done` of which were there before. Lines go to `stream`."""

    def __init__(
        self,
        total: int,
        done: int,
        stream: TextIO,
        took_s: Sequence[float] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._done = done
        self._stream = stream
        self._clock = clock
        self._took_s = list(took_s)
        self._began = clock()
        self._name = ""
        self._live = stream.isatty()

    def begin(self, name: str) -> None:
        """A point begins."""
        self._name = name
        self._began = self._clock()
        self._draw("start")

    def watch(self, stage: str, fraction: float | None) -> None:
        """It is in that stage, and that far in it."""
        self._draw(stage if fraction is None else f"{stage} {fraction:.0%}")

    def end(self, line: str) -> None:
        """It has ended; `line` says with what."""
        self._done += 1
        self._took_s.append(self._clock() - self._began)
        self.say(f"[{self._done}/{self._total}] {self._name}: {line}")

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        self.clear()
        print(line, file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self, stage: str) -> None:
        if not self._live:
            return
        filled = _BAR * self._done // max(self._total, 1)
        left = remaining_s(self._took_s, self._total - self._done, self._clock() - self._began)
        about = "" if left is None else f", about {spoken(left)} left"
        line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {self._done}/{self._total}{about}: {self._name}: {stage}"
        self._stream.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        self._stream.flush()


def remaining_s(took_s: Sequence[float], left: int, elapsed_s: float) -> float | None:
    """Seconds until `left` points are done, the first of which has run for `elapsed_s`: as long as the others took on average.

    None: none has been seen yet.
    """
    if not took_s:
        return None
    each = sum(took_s) / len(took_s)
    return max(each * left - min(elapsed_s, each), 0.0)


def spoken(seconds: float) -> str:
    """A duration for people: "40 s", "3 min", "2 h 10 min"."""
    if seconds < _LONG_S:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
