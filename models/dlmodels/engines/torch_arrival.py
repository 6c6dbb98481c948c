"""A forward that begins while the later weights are still on their way: each group is waited for where it is first used."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from dlmodels.engines.torch_copier import Copier
from dlmodels.engines.torch_memory import Mark

Result = TypeVar("Result")


class Arrival:
    """Of one network's weights. `gates` are the modules before which group 1, 2, ... must be there, in that order.

    Group 0 is waited for before anything runs. Without gates all groups are.
    """

    def __init__(self, copier: Copier | None, gates: Sequence[torch.nn.Module] = ()) -> None:
        self._copier = copier
        self._gates = tuple(gates)
        self._marks: tuple[Mark, ...] = ()
        self._held = 0
        self._passed: set[int] = set()
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    @property
    def under_way(self) -> bool:
        """Whether computing may still have to wait for copies."""
        return bool(self._marks)

    def expect(self, marks: Sequence[Mark]) -> None:
        """Copies have been started, which reach these marks; the forward that comes next waits for each in its place."""
        self._marks, self._held, self._passed = tuple(marks), 0, set()
        if self._marks and self._gates:
            self._hooks = [
                gate.register_forward_pre_hook(lambda *_, group=group: self._pass(group))
                for group, gate in enumerate(self._gates, start=1)
            ]

    def through(self, forward: Callable[[], Result]) -> Result:
        """The forward's result. After the first one that succeeds nothing is waited for any more.

        Where a gate was never passed, the network went another way than on the meta device, perhaps ahead of its weights:
        then it goes once more, with all of them there.
        """
        if not self._marks:
            return forward()
        self._hold(0 if self._gates else len(self._marks) - 1)
        result = forward()
        if len(self._passed) < len(self._gates):
            self._hold(len(self._marks) - 1)
            result = forward()
        self._forget()
        return result

    def finish(self) -> None:
        """Wait until nothing is under way: the memory may be given away then."""
        if self._copier is not None:
            for mark in self._marks:
                self._copier.finish(mark)
        self._forget()

    def _pass(self, group: int) -> None:
        self._passed.add(group)
        self._hold(group)

    def _hold(self, group: int) -> None:
        """Let the device wait for that group and those before it."""
        assert self._copier is not None, "copies are under way, so there is who does them"
        while self._held <= group and self._held < len(self._marks):
            self._copier.hold(self._marks[self._held])
            self._held += 1

    def _forget(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._marks, self._held = [], (), 0
