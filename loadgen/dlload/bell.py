"""Wakes every greenlet that waits when it rings; who comes later waits for the next time."""

from gevent.event import Event


class Bell:
    """Rung by one, waited for by many."""

    def __init__(self) -> None:
        self._next = Event()

    def ring(self) -> None:
        """Wake whoever waits now."""
        rung, self._next = self._next, Event()
        rung.set()

    def wait(self, timeout_s: float | None = None) -> None:
        """Until it rings, or that long."""
        self._next.wait(timeout_s)
