"""What forms the next batch: pure, no clock, no I/O.

Jobs of one key (service and effective input) may run together. The oldest waiting job decides whose turn it is;
whatever waits for the same key joins it in order of arrival, up to `max_batch` images, and nobody waits for company.
A job is never split. One that asked for a colder start runs alone, in its turn: a load of its own is what it measures.

A job whose model has no room on the device yet waits, and is overtaken meanwhile by jobs of models that are there, and by
no others: loads come in the order of arrival. So whoever is next in line waits for room no longer than a model stays
unasked (`eviction.MOST_RESIDENCE_S`) and one batch runs.
"""

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What the batcher must know of a job."""

    @property
    def key(self) -> Hashable:
        """Jobs of one key may share a batch."""

    @property
    def model(self) -> int:
        """The number of the service whose model it needs."""

    @property
    def arrival(self) -> int:
        """Its place in the order of arrival; unique."""

    @property
    def images(self) -> int:
        """Images in it, at least 1."""

    @property
    def alone(self) -> bool:
        """It shares its batch with no other job."""


class Room(Protocol):
    """What the batcher must know of the device."""

    def __contains__(self, model: int) -> bool:
        """Whether the model is there."""

    def wait_s(self, model: int) -> float:
        """Seconds until there is room for it, 0 where it can be used now."""


Job = TypeVar("Job", bound=Waiting)


class Batcher(Generic[Job]):
    """The jobs that are ready to run, each key's in order of arrival."""

    def __init__(self, max_batch: int, room: Room) -> None:
        self.room_in_s = 0.0
        """After a `take`: seconds until the load that is next in line has room; 0: none waits for it."""
        self._max_batch = max_batch
        self._room = room
        self._queues: dict[Hashable, list[Job]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, job: Job) -> None:
        """A job has become ready. Decoding may finish out of order, so its place is found from the back."""
        queue = self._queues.setdefault(job.key, [])
        place = len(queue)
        while place and queue[place - 1].arrival > job.arrival:
            place -= 1
        queue.insert(place, job)
        self._size += 1

    def discard(self, job: Job) -> bool:
        """Drop a job that waits here; False if it does not."""
        queue = self._queues.get(job.key, [])
        for place, other in enumerate(queue):
            if other is job:
                del queue[place]
                self._shrunk(job.key, 1)
                return True
        return False

    def take(self) -> list[Job]:
        """The next batch, removed from what waits; empty if nothing does, or nothing but what has no room yet."""
        self.room_in_s = 0.0
        key = self._next()
        if key is None:
            return []
        queue = self._queues[key]
        if queue[0].alone:
            batch, rest = queue[:1], queue[1:]
        else:
            batch, rest = self._fill(queue)
        self._queues[key] = rest
        self._shrunk(key, len(batch))
        return batch

    def _next(self) -> Hashable | None:
        """Whose turn it is."""
        oldest = min(self._queues, key=lambda key: self._queues[key][0].arrival, default=None)
        if oldest is None:
            return None
        self.room_in_s = self._room.wait_s(self._queues[oldest][0].model)
        if not self.room_in_s:
            return oldest
        there = (key for key, queue in self._queues.items() if queue[0].model in self._room)
        return min(there, key=lambda key: self._queues[key][0].arrival, default=None)

    def _fill(self, queue: list[Job]) -> tuple[list[Job], list[Job]]:
        """The head and what joins it; and what stays. The first that does not fit ends it: none is overtaken."""
        batch, rest, images = [queue[0]], [], queue[0].images
        for place, job in enumerate(queue[1:], 1):
            if job.alone:
                rest.append(job)
            elif images + job.images <= self._max_batch:
                batch.append(job)
                images += job.images
            else:
                rest += queue[place:]
                break
        return batch, rest

    def _shrunk(self, key: Hashable, by: int) -> None:
        self._size -= by
        if not self._queues[key]:
            del self._queues[key]
