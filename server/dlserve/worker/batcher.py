"""What forms the next batch: pure, no clock, no I/O.

Jobs of one key (service and effective input) may run together. The oldest waiting job decides whose turn it is;
whatever waits for the same key joins it in order of arrival, up to `max_batch` images, and nobody waits for company.
A job is never split. One that asked for a colder start runs alone, in its turn: a load of its own is what it measures.
"""

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What the batcher must know of a job."""

    @property
    def key(self) -> Hashable:
        """Jobs of one key may share a batch."""

    @property
    def arrival(self) -> int:
        """Its place in the order of arrival; unique."""

    @property
    def images(self) -> int:
        """Images in it, at least 1."""

    @property
    def alone(self) -> bool:
        """It shares its batch with no other job."""


Job = TypeVar("Job", bound=Waiting)


class Batcher(Generic[Job]):
    """The jobs that are ready to run, each key's in order of arrival."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
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
        """The next batch, removed from what waits; empty if nothing does."""
        if not self._queues:
            return []
        key, queue = min(self._queues.items(), key=lambda item: item[1][0].arrival)
        if queue[0].alone:
            batch, rest = queue[:1], queue[1:]
        else:
            batch, rest = self._fill(queue)
        self._queues[key] = rest
        self._shrunk(key, len(batch))
        return batch

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
