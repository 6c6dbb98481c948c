"""What a worker learns of one model while it serves it: how often it is asked for, and what its moves take."""

import math
from dataclasses import dataclass, field

from dlmodels.engines.base import Temperature

REMEMBERED_S = 120.0
"""Time constant of the request rate: a request counts for 1/e of a new one after it."""
FIRST_GUESS_BYTES_PER_S = 1e9
"""Of a load that was not measured yet."""
_KEEP = 0.7
"""Weight of the past in the mean of load times."""


@dataclass(slots=True)
class Usage:
    """Of one model. Times are of the clock of whoever keeps it."""

    last_used: float = -math.inf
    stays_until: float = -math.inf
    """It has earned its place on the device until then."""
    _requests: float = 0.0
    """Decayed to `_counted_at`."""
    _counted_at: float = 0.0
    _move_s: dict[Temperature | str, float] = field(default_factory=dict)

    def used(self, now: float, requests: int) -> None:
        """So many requests have asked for it at once."""
        self._requests = self._decayed(now) + requests
        self._counted_at = now
        self.last_used = now

    def rate(self, now: float) -> float:
        """Requests per second, an exponentially weighted mean."""
        return self._decayed(now) / REMEMBERED_S

    def _decayed(self, now: float) -> float:
        return self._requests * math.exp((self._counted_at - now) / REMEMBERED_S) if self._requests else 0.0

    def learn(self, move: str, seconds: float) -> None:
        """A move took so long: "disk" and "host" (onto the device, from there), "stage" (from the file into host memory)."""
        known = self._move_s.get(move)
        self._move_s[move] = seconds if known is None else _KEEP * known + (1 - _KEEP) * seconds

    def move_s(self, move: str, size: int) -> float:
        """What that move is expected to take."""
        return self._move_s.get(move, size / FIRST_GUESS_BYTES_PER_S)
