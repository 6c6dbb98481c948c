"""Whether a process's event loop turns: its beats, seen by somebody who looks now and then. Pure.

A beat costs a front end one store into the board, four times a second, whatever it serves.
"""

BEAT_S = 0.25
"""Between two beats of an event loop that has nothing to wait for."""
LOOKS = 10
"""Into a time-out."""


def look_every_s(timeout_s: float) -> float:
    """How often to look, so that a time-out is noticed soon and every look should see a new beat."""
    return max(timeout_s / LOOKS, 2 * BEAT_S)


class Pulse:
    """Of one process."""

    def __init__(self, every_s: float) -> None:
        """`every_s`: between two looks, as long as whoever looks is not held up."""
        self._every_s = every_s
        self._beats = -1
        self._looked_at = 0.0
        self.silent_s = 0.0
        """How long it has not beaten, as of the last look."""

    def look(self, beats: int, now: float) -> None:
        """Note how many beats there have been. What held up the looker, held up the process too: it counts once."""
        if beats != self._beats:
            self._beats, self.silent_s = beats, 0.0
        else:
            self.silent_s += min(now - self._looked_at, 2 * self._every_s)
        self._looked_at = now
