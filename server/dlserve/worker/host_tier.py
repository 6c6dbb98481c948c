"""The host tier: weights in pinned memory of this machine, ready to be copied to the device.

It is not locked: whoever uses it sees to that.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from dlmodels.errors import OutOfMemoryError
from dlmodels.spec import ModelSpec

from dlserve.messages import Evicted, Loaded, Why
from dlserve.worker.entry import CannotFitError, Entry, Reason, mib
from dlserve.worker.eviction import Candidate, Rank, victims
from dlserve.worker.tier import Books

log = logging.getLogger(__name__)


class HostTier:
    """Which models are staged, within a budget of bytes."""

    def __init__(
        self,
        budget_bytes: int,
        rank: Rank,
        on_event: Callable[[Loaded | Evicted], None],
        reading: Callable[[ModelSpec], AbstractContextManager[None]],
        clock: Callable[[], float],
    ) -> None:
        self.books = Books("host", budget_bytes)
        self._rank = rank
        self._on_event = on_event
        self._reading = reading
        self._clock = clock
        self._staged: dict[int, Entry] = {}

    def __contains__(self, service: int) -> bool:
        return service in self.books

    def welcomes(self, entry: Entry) -> bool:
        """Whether a load from disk goes by way of here; makes the room, where nothing worth more must leave."""
        size = entry.model.staged_bytes
        if "host" not in entry.model.reload_tiers or size > self.books.budget_bytes:
            return False
        now = self._clock()
        others = {candidate.service: candidate for candidate in self._candidates(now)}
        leaving = victims(others.values(), self.books.lacking(size), self._rank)
        newcomer = self._rank(entry.candidate("stage", now))
        if leaving is None or any(self._rank(others[service]) > newcomer for service in leaving):
            return False
        self._unstage_all(leaving)
        return True

    def make_room(self, entry: Entry) -> None:
        """For a model that a request wants here, whatever must leave. Raises CannotFitError."""
        name, size = entry.model.spec.name, entry.model.staged_bytes
        leaving = victims(self._candidates(self._clock()), self.books.lacking(size), self._rank)
        if leaving is None:
            raise CannotFitError(
                f"model {name!r} needs {mib(size)} of pinned host memory and this worker has"
                f" {mib(self.books.budget_bytes)} of it: raise --host-cache-mb, or start it from disk"
            )
        self._unstage_all(leaving)

    def stage(self, entry: Entry, why: Why) -> None:
        """Read the weights into host memory. Fragments may leave it no room even so: on the way to the device that is fine.

        Raises LoadError, and OutOfMemoryError where a request asked for just this.
        """
        began = self._clock()
        try:
            with self._reading(entry.model.spec):
                entry.model.stage()
        except OutOfMemoryError as exc:
            entry.model.unstage()
            if why == "cold":
                raise
            log.warning("service %d is loaded past the host tier: %s", entry.service, exc)
            return
        except BaseException:
            entry.model.unstage()
            raise
        now, size = self._clock(), entry.model.staged_bytes
        entry.usage.learn("stage", now - began)
        self.books.put(entry.service, size)
        self._staged[entry.service] = entry
        self._on_event(Loaded(entry.service, "host", "disk", why, now, now - began, size, self.books.used_bytes))

    def unstage(self, entry: Entry, reason: Reason) -> None:
        """Give its memory back. Harmless where it is not staged."""
        if self._staged.pop(entry.service, None) is None:
            return
        entry.model.unstage()
        size = self.books.take(entry.service)
        self._on_event(Evicted(entry.service, "host", reason, self._clock(), size, self.books.used_bytes))

    def _candidates(self, now: float) -> list[Candidate]:
        return [entry.candidate("stage", now) for entry in self._staged.values()]

    def _unstage_all(self, services: Iterable[int]) -> None:
        for service in services:
            self.unstage(self._staged[service], "room")
