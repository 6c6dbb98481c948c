"""A service as its worker knows it."""

import math
from dataclasses import dataclass, field

from dlmodels.engines.base import Model
from dlmodels.spec import ModelSpec

from dlserve.forward_times import ForwardTimes


@dataclass(slots=True, eq=False)
class Service:
    """What was defined, and what has become of it here. `number` is the front end's."""

    number: int
    spec: ModelSpec
    model: Model | None = None
    """The skeleton, once prepared."""
    unprepared_jobs: set[int] = field(default_factory=set)
    """Jobs that came before the skeleton. While one of them is on its way, later ones take the same way behind it."""
    forgotten: bool = False
    """Deleted: its model goes when its last job is answered."""
    forward_s: float = math.inf
    """What its latest forward took; says whether the next is worth handing to another thread."""
    forward_times: ForwardTimes = field(default_factory=ForwardTimes)
    failure: Exception | None = None
    """Why preparing it failed the last time, at `failed_at`."""
    failed_at: float = -math.inf
