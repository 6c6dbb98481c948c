"""The clock of a simulation: what happens when, in order of time and, at one time, in the order in which it was planned."""

import heapq
import itertools
from collections.abc import Callable


class Timeline:
    """`now` moves only inside `run`."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds."""
        self._planned: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def at(self, time_s: float, what: Callable[[], object]) -> None:
        """Plan something; what lies in the past happens next."""
        heapq.heappush(self._planned, (max(time_s, self.now), next(self._order), what))

    def run(self) -> None:
        """Until nothing is planned any more."""
        while self._planned:
            self.now, _, what = heapq.heappop(self._planned)
            what()
