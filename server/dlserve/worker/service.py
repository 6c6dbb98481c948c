"""A service as its worker knows it."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dlmodels.engines.base import Model
from dlmodels.spec import ModelSpec

from dlserve.forward_times import ForwardTimes

if TYPE_CHECKING:
    from dlserve.worker.task import Sender, Task


@dataclass(slots=True, eq=False)
class Service:
    """What was defined, and what has become of it here. `number` is the front end's."""

    number: int
    spec: ModelSpec
    model: Model | None = None
    """The skeleton, once prepared."""
    known_by: "set[Sender]" = field(default_factory=set)
    """The front ends that have defined it and not deleted it since."""
    unprepared: "set[Task]" = field(default_factory=set)
    """Jobs that came before the skeleton. While one of them is on its way, later ones take the same way behind it."""
    forgotten: bool = False
    """Deleted: its model goes when its last job is answered."""
    forward_s: float = math.inf
    """The quicker of its latest two; says whether the next is worth handing to another thread.

    One alone may be slow because another process had the core, which says nothing about the next.
    """
    latest_s: float = math.inf
    forward_times: ForwardTimes = field(default_factory=ForwardTimes)
    failure: Exception | None = None
    """Why preparing it failed the last time, at `failed_at`."""
    failed_at: float = -math.inf

    def ran(self, forward_s: float) -> None:
        """A forward took so long."""
        self.forward_s = min(forward_s, self.latest_s)
        self.latest_s = forward_s
