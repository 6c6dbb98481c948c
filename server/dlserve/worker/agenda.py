"""What the device does next, and who has it: the one place where the worker's threads meet."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

from dlserve.worker.batcher import Batcher, Room
from dlserve.worker.task import Task

_DRAIN_LOOK_S = 0.02
"""How often a worker that was told to stop looks whether it is done."""


class Agenda:
    """Ready tasks and chores for the device thread; the device itself is taken by one thread at a time."""

    def __init__(
        self,
        max_batch: int,
        room: Room,
        run: Callable[[Sequence[Task]], None],
        expire: Callable[[Sequence[Task]], None],
        all_answered: Callable[[], bool],
        *,
        batch_wait_s: float = 0.0,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`run`: a batch. `expire`: tasks whose deadline has passed before they ran. `batch_wait_s`: see `Batcher`."""
        self._run = run
        self._expire = expire
        self._all_answered = all_answered
        self._clock = clock
        self._waits = batch_wait_s > 0
        self._batcher: Batcher[Task] = Batcher(max_batch, room, batch_wait_s)
        self._chores: deque[Callable[[], None]] = deque()
        """Done before the next batch: loads asked for in advance, deleted models."""
        self._pastimes: deque[Callable[[], None]] = deque()
        """Done while nothing else is to do: loads that somebody may want soon."""
        self._taken = False
        self._draining = False
        self._ended = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        """Of the lock; what need not wait or wake takes the lock itself, which costs a third."""

    def add(self, task: Task) -> None:
        """A task is ready to run; again, if its batch has found that it wasn't."""
        with self._changed:
            if not task.answered:
                task.begun = False
                self._batcher.add(task)
                if not self._taken:  # else `give_back` wakes the device thread
                    self._changed.notify()

    def add_chore(self, chore: Callable[[], None]) -> None:
        """Something for the device thread to do before it takes the next batch."""
        with self._changed:
            self._chores.append(chore)
            self._changed.notify()

    def add_pastime(self, pastime: Callable[[], None]) -> None:
        """Something for the device thread to do once it has nothing else; dropped where that never comes."""
        with self._changed:
            self._pastimes.append(pastime)
            self._changed.notify()

    def drop(self, task: Task) -> bool:
        """Keep a task from running; False if it is too late. Its answer is up to the caller."""
        with self._changed:
            if task.begun:
                return False
            self._batcher.discard(task)
            task.answered = True  # so that it is not added any more either
            return True

    def take_if_idle(self) -> bool:
        """Take the device for a task that nothing is ahead of; `give_back` must follow."""
        with self._lock:
            if self._taken or self._chores or len(self._batcher) or self._waits:
                return False
            self._taken = True
            return True

    def give_back(self) -> None:
        """The device is free again."""
        with self._lock:
            self._taken = False
            if self._chores or self._pastimes or len(self._batcher):
                self._changed.notify()

    def next(self) -> Callable[[], None] | None:
        """Wait for work and take the device for it (`give_back` must follow); None when there will be no more."""
        quiet_looks = 0
        with self._changed:
            while not self._ended:
                if not self._taken and (work := self._pick()):
                    self._taken = True
                    return work
                if self._draining:
                    # Twice, since a message may just be on its way from the connection to the open answers.
                    quiet_looks = quiet_looks + 1 if not self._taken and self._all_answered() else 0
                    if quiet_looks == 2:
                        return None
                self._changed.wait(_DRAIN_LOOK_S if self._draining else self._batcher.again_in_s or None)
        return None

    def drain(self) -> None:
        """Let `next` return None as soon as everything is answered."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def end(self) -> None:
        """Let `next` return None now."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _pick(self) -> Callable[[], None] | None:
        if self._chores:
            return self._chores.popleft()
        now = self._clock()
        if late := self._batcher.expired(now):
            return self._begin(self._expire, late)
        if batch := self._batcher.take(now):
            return self._begin(self._run, batch)
        return self._pastimes.popleft() if self._pastimes and not len(self._batcher) and not self._draining else None

    def _begin(self, do: Callable[[Sequence[Task]], None], tasks: Sequence[Task]) -> Callable[[], None]:
        for task in tasks:
            task.begun = True
        return partial(do, tasks)
