"""The event loop kept awake while a single client's answer is about to come: to be woken costs 50 us where it slept a moment ago,
and more than 0.1 ms where nothing has run for a while."""

import asyncio
import os
from collections.abc import Collection
from time import perf_counter

_QUICK_FORWARD_S = 100e-6
_SPIN_S = 200e-6
"""While nothing but one call of so quick a model is under way, its answer is looked for from when it was sent, this long."""
_LOOK_OUT_S = 1e-3
"""The answer of a slower one is looked for from so long before it is expected, until so long after."""
_LONE_IN_A_ROW = 16
"""So many calls one after the other, none beside another, make a single client. Of several clients' calls many find
themselves alone for a moment too, and who spins then takes the processor from those that are about to come."""


class Lookout:
    """Of one event loop. It counts the calls, and spins for those of a single client."""

    def __init__(self, under_way: Collection[object], cores: int | None = None) -> None:
        """`under_way`: the calls, kept by who sends them. `cores`: that this process may use; with one, a worker would have to
        wait for whoever spins.
        """
        self._under_way = under_way
        self._may_spin = (len(os.sched_getaffinity(0)) if cores is None else cores) > 1
        self._in_a_row = 0
        """Calls since two were under way at a time."""
        self._until = 0.0
        self.spins = False
        """Whether it does now."""

    def single(self) -> bool:
        """A call is about to be sent: whether it is of a single client."""
        self._in_a_row = 0 if self._under_way else self._in_a_row + 1
        return self._in_a_row > _LONE_IN_A_ROW

    def watch(self, forward_s: float, predicted_s: float, sent: float) -> None:
        """That call was `sent`. Expected of its forward, and of all its time in the worker (0: nothing is known of it)."""
        if not self._may_spin:
            return
        if forward_s < _QUICK_FORWARD_S:
            self._begin(sent + _SPIN_S, self._in_a_row)
        elif predicted_s:
            ends = sent + predicted_s
            in_s = max(ends - _LOOK_OUT_S - perf_counter(), 0.0)
            asyncio.get_running_loop().call_later(in_s, self._begin, ends + _LOOK_OUT_S, self._in_a_row)

    def _begin(self, until: float, call: int) -> None:
        if self._in_a_row == call:  # else it was answered, and there is another
            self._until = until
            if not self.spins:
                self._spin()

    def _spin(self) -> None:
        self.spins = len(self._under_way) == 1 and perf_counter() < self._until
        if self.spins:
            asyncio.get_running_loop().call_soon(self._spin)
