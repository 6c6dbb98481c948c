"""What forms the next batch: pure, no clock, no I/O.

Jobs of one key (service and effective input) may run together. The waiting job that is due first decides whose turn it is;
whatever waits for the same key joins it in order of their due times, and nobody waits for company unless told to
(`wait_s`). A batch grows up to `max_batch` images, but no further than it pays (`ForwardTimes.limit`), and not so far that
the first deadline in it is missed where a smaller one would meet it. A job is never split. One that asked for a colder
start runs alone, in its turn: a load of its own is what it measures.

A job is due at its deadline, and never later than `PATIENCE_S` after it came. So it is overtaken only by what is more urgent
and comes within that time. And no key that waits sees more than `TURNS` batches of others run before it has its turn, or one
more for each other key that has waited as long: however much waits for a hot model, a rare one is next after so many.

A job whose model has no room on the device yet waits, and is overtaken meanwhile by jobs of models that are there, and by
no others. So whoever is next in line waits for room no longer than a model stays unasked (`eviction.MOST_RESIDENCE_S`) and
one batch runs.
"""

import math
from bisect import insort
from collections.abc import Hashable
from typing import Generic, NamedTuple, Protocol, TypeVar

from dlserve.forward_times import ForwardTimes

PATIENCE_S = 1.0
"""A job without a deadline is due so long after it came."""
TURNS = 4
"""Batches that may run before a job that waits, and could run, is next in line."""


class Waiting(Protocol):
    """What the batcher must know of a job. Times are of the clock of whoever calls the batcher."""

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
    def received(self) -> float:
        """When it came."""

    @property
    def deadline(self) -> float | None:
        """When its answer is worth nothing any more."""

    @property
    def images(self) -> int:
        """Images in it, at least 1."""

    @property
    def alone(self) -> bool:
        """It shares its batch with no other job."""

    @property
    def forward_times(self) -> ForwardTimes:
        """Of its model."""


class Room(Protocol):
    """What the batcher must know of the device."""

    def __contains__(self, model: int) -> bool:
        """Whether the model is there."""

    def wait_s(self, model: int) -> float:
        """Seconds until there is room for it, 0 where it can be used now."""


Job = TypeVar("Job", bound=Waiting)


class _Place(NamedTuple, Generic[Job]):
    """A job in its queue. Places sort by their first two fields, for no two have the same arrival."""

    due: float
    arrival: int
    turn: int
    """Batches that had been taken when it came."""
    job: Job


class Batcher(Generic[Job]):
    """The jobs that are ready to run, each key's in order of their due times."""

    def __init__(self, max_batch: int, room: Room, wait_s: float = 0.0) -> None:
        """`wait_s`: how long a job waits for others to share its batch."""
        self.room_in_s = 0.0
        """After a `take`: seconds until the load that is next in line has room; 0: none waits for it."""
        self.again_in_s = 0.0
        """After a `take` that was empty: seconds until another may not be; 0: not before a job is added."""
        self._max_batch = max_batch
        self._room = room
        self._wait_s = wait_s
        self._queues: dict[Hashable, list[_Place[Job]]] = {}
        self._size = 0
        self._turn = 0
        """Batches taken so far."""
        self._turns: dict[Hashable, int] = {}
        """What that was after a waiting key's latest batch."""

    def __len__(self) -> int:
        return self._size

    def add(self, job: Job) -> None:
        """A job has become ready."""
        due = job.received + PATIENCE_S
        if job.deadline is not None:
            due = min(due, job.deadline)
        insort(self._queues.setdefault(job.key, []), _Place(due, job.arrival, self._turn, job))
        self._size += 1

    def discard(self, job: Job) -> bool:
        """Drop a job that waits here; False if it does not."""
        queue = self._queues.get(job.key, [])
        for number, place in enumerate(queue):
            if place.job is job:
                del queue[number]
                self._shrunk(job.key, 1)
                return True
        return False

    def expired(self, now: float) -> list[Job]:
        """Those whose deadline has passed, removed from what waits."""
        found = [
            place.job
            for queue in self._queues.values()
            if queue[0].due <= now
            for place in queue
            if place.job.deadline is not None and place.job.deadline <= now
        ]
        for job in found:
            self.discard(job)
        return found

    def take(self, now: float) -> list[Job]:
        """The next batch, removed from what waits; empty if nothing does, or nothing but what has no room yet or waits
        for company.
        """
        self.room_in_s = self.again_in_s = 0.0
        key = self._next(now)
        if key is None:
            return []
        queue = self._queues[key]
        if queue[0].job.alone:
            batch, rest = [queue[0].job], queue[1:]
        else:
            batch, rest = self._fill(queue, now)
        self._queues[key] = rest
        self._turn += 1
        self._turns[key] = self._turn
        self._shrunk(key, len(batch))
        return batch

    def _next(self, now: float) -> Hashable | None:
        """Whose turn it is."""
        keys = self._complete(now) if self._wait_s else list(self._queues)
        if not keys:
            return None
        first = keys[0] if len(keys) == 1 else min(keys, key=self._rank)
        self.room_in_s = self._room.wait_s(self._queues[first][0].job.model)
        if not self.room_in_s:
            return first
        there = [key for key in keys if self._queues[key][0].job.model in self._room]
        if not there:
            self.again_in_s = min(self.again_in_s, self.room_in_s) if self.again_in_s else self.room_in_s
        return min(there, key=self._rank, default=None)

    def _rank(self, key: Hashable) -> tuple[bool, float, int]:
        head = self._queues[key][0]
        waited = self._turn - max(head.turn, self._turns.get(key, 0))
        return waited < TURNS, head.due, head.arrival

    def _complete(self, now: float) -> list[Hashable]:
        """The keys that wait for company no longer."""
        complete, waits_s = [], []
        for key, queue in self._queues.items():
            until = self._company_until(queue)
            if until <= now:
                complete.append(key)
            else:
                waits_s.append(until - now)
        self.again_in_s = min(waits_s, default=0.0)
        return complete

    def _company_until(self, queue: list[_Place[Job]]) -> float:
        """When a queue's next batch runs even if it could be larger."""
        jobs = [place.job for place in queue]
        times, images = jobs[0].forward_times, sum(job.images for job in jobs)
        if any(job.alone for job in jobs) or images >= times.limit(self._max_batch):
            return -math.inf
        deadlines = [job.deadline for job in jobs if job.deadline is not None]
        latest = min(deadlines, default=math.inf) - times.seconds(images)
        return min(latest, min(job.received for job in jobs) + self._wait_s)

    def _fill(self, queue: list[_Place[Job]], now: float) -> tuple[list[Job], list[_Place[Job]]]:
        """The head and what joins it; and what stays. The first that does not fit ends it: none is overtaken."""
        head = queue[0].job
        times, limit = head.forward_times, self._max_batch
        if len(queue) > 1:
            limit = times.limit_now(limit)
        batch, rest, images, deadline = [head], [], head.images, head.deadline
        for number, place in enumerate(queue[1:], 1):
            job = place.job
            if job.alone:
                rest.append(place)
                continue
            larger = images + job.images
            if larger > limit or _misses(deadline, now, times, images, larger):
                rest += queue[number:]
                break
            batch.append(job)
            images = larger
            if job.deadline is not None and (deadline is None or job.deadline < deadline):
                deadline = job.deadline
        return batch, rest

    def _shrunk(self, key: Hashable, by: int) -> None:
        self._size -= by
        if not self._queues[key]:
            del self._queues[key]
            self._turns.pop(key, None)


def _misses(deadline: float | None, now: float, times: ForwardTimes, images: int, larger: int) -> bool:
    """Whether a batch misses a deadline with the `larger` number of images and meets it with `images`."""
    return deadline is not None and now + times.seconds(images) <= deadline < now + times.seconds(larger)
