"""A prepared model as the tiers of a worker know it."""

from dataclasses import dataclass, field
from typing import Literal

from dlmodels.engines.base import Model
from dlmodels.errors import ModelError

from dlserve.worker.eviction import Candidate
from dlserve.worker.usage import Usage

_MIB = 1 << 20
Reason = Literal["room", "asked", "forgotten"]
"""Why a model leaves a tier."""


class CannotFitError(ModelError):
    """A budget has no room for a model's weights, whatever is evicted."""


@dataclass(slots=True, eq=False)
class Entry:
    """A prepared model."""

    service: int
    model: Model
    pinned: bool = False
    users: int = 0
    """Of its weights on the device, now."""
    usage: Usage = field(default_factory=Usage)

    def candidate(self, move: str, now: float) -> Candidate:
        """What a policy may know of it; `move` is the one that brings it back: see `Usage.learn`."""
        size = self.model.staged_bytes if move == "stage" else self.model.weights_bytes
        usage = self.usage
        return Candidate(self.service, size, usage.rate(now), usage.move_s(move, size), usage.last_used)


def mib(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / _MIB:.1f} MiB"
