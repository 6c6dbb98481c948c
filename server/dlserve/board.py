"""What front ends must know of each other at every call, and the supervisor of them: a board in shared memory.

Each front end has a row, which it alone writes and all read; the supervisor clears the row of one that has died. A row is
made of 8-byte cells, each written in one store, so there are no locks: a reader sees each number as it was a moment ago.
Where weights are and which workers are ready is not here: every worker tells every front end itself.
"""

import mmap
import os
import struct
from operator import add

MOST_EXPECTED = 8
"""Loads under way on one worker that a front end can name; of more than that the others do not hear."""
_CELL = 8
_DEATHS, _BEATS, _CLOSED, _HELD, _WAITING, _FLYING, _PROMISES, _HEAD = range(8)
"""A row's first cells; calls in flight on each worker follow, predicted seconds on each, and a block for each."""
_PROGRESS, _HINT, _COUNT, _EXPECTED = range(4)
_BLOCK = _EXPECTED + MOST_EXPECTED
_NONE: frozenset[int] = frozenset()


class Board:
    """The whole board, seen from one of its rows."""

    def __init__(self, descriptor: int, fronts: int, workers: int, own: int = 0) -> None:
        """`descriptor`: of the shared memory, as `make` returned it. `own`: the row that the caller writes."""
        self._memory = mmap.mmap(descriptor, _size(fronts, workers))
        whole = memoryview(self._memory)
        self._ints = whole.cast("q")
        self._floats = whole.cast("d")
        self._workers = workers
        self._cells = _cells(workers)
        """Of a row."""
        self._loads = struct.Struct(f"@q{workers}q{workers}d")
        """From `_PROMISES` on; in native order, so that each cell is read at once."""
        self._own = own * self._cells
        self._others = tuple(number * self._cells for number in range(fronts) if number != own)
        self._rows = tuple(number * self._cells for number in range(fronts))
        self._offsets = tuple((row + _PROMISES) * _CELL for row in self._rows)

    # ---- a front end's own row

    def began(self, worker: int) -> int:
        """Count one more call on a worker; how many it has now of all front ends together."""
        ints, own, cell = self._ints, self._own, _HEAD + worker
        ints[own + _FLYING] += 1
        total = ints[own + cell] = ints[own + cell] + 1
        for row in self._others:
            total += ints[row + cell]
        return total

    def works(self, worker: int, cost_s: float) -> None:
        """The call is on its way, and will take so long."""
        self._floats[self._own + _HEAD + self._workers + worker] += cost_s

    def ended(self, worker: int, cost_s: float) -> None:
        """The call is answered, or lost; `cost_s` 0 where it never was on its way."""
        ints, floats, cell = self._ints, self._floats, self._own + _HEAD + worker
        left = ints[cell] = ints[cell] - 1
        ints[self._own + _FLYING] -= 1
        floats[cell + self._workers] = floats[cell + self._workers] - cost_s if left else 0.0

    def expects(self, worker: int, services: list[int], hinted: int | None) -> None:
        """Which services calls on their way will load on a worker, and which it was hinted to load."""
        block, services = self._block(self._own, worker), services[:MOST_EXPECTED]
        for place, service in enumerate(services):
            self._ints[block + _EXPECTED + place] = service
        self._ints[block + _COUNT] = len(services)
        self._ints[block + _HINT] = 0 if hinted is None else hinted + 1
        blocks = [self._block(self._own, number) for number in range(self._workers)]
        self._ints[self._own + _PROMISES] = any(self._ints[one + _COUNT] or self._ints[one + _HINT] for one in blocks)

    def progressed(self, worker: int, at: float) -> None:
        """When the worker last answered this front end, or was asked something while idle."""
        self._floats[self._block(self._own, worker) + _PROGRESS] = at

    def holds(self, size: int) -> None:
        """Bytes of request bodies held."""
        self._ints[self._own + _HELD] = size

    def waits(self, calls: int) -> None:
        """Calls for which no worker is up."""
        self._ints[self._own + _WAITING] = calls

    def closed(self) -> None:
        """A client's connection has ended."""
        self._ints[self._own + _CLOSED] += 1

    def beat(self) -> None:
        """The event loop has turned."""
        self._ints[self._own + _BEATS] += 1

    # ---- what the others have written

    def loads(self) -> tuple[float, ...]:
        """Of all front ends together: how many have promised a worker something, calls in flight on each worker, and their
        predicted seconds on each.
        """
        read, memory = self._loads.unpack_from, self._memory
        first, *others = self._offsets
        total: tuple[float, ...] = read(memory, first)
        for offset in others:
            total = tuple(map(add, total, read(memory, offset)))
        return total

    def awaited(self, worker: int) -> frozenset[int]:
        """Services that a call of another front end will load on a worker."""
        found: set[int] = set()
        for row in self._others:
            block = self._block(row, worker)
            if count := self._ints[block + _COUNT]:
                found.update(self._ints[block + _EXPECTED : block + _EXPECTED + min(count, MOST_EXPECTED)])
        return frozenset(found) if found else _NONE

    def hinted(self, worker: int) -> frozenset[int]:
        """Services that another front end has hinted a worker to load."""
        hints = [hint - 1 for row in self._others if (hint := self._ints[self._block(row, worker) + _HINT])]
        return frozenset(hints) if hints else _NONE

    def quiet_elsewhere(self) -> bool:
        """Whether no other front end has a call under way."""
        return not any(self._ints[row + _FLYING] for row in self._others)

    def last_progress(self, worker: int) -> float:
        """When a worker last did something for any front end."""
        return max(self._floats[self._block(row, worker) + _PROGRESS] for row in self._rows)

    def held_elsewhere(self) -> int:
        """Bytes of request bodies that the others hold."""
        return sum(self._ints[row + _HELD] for row in self._others)

    def waiting_elsewhere(self) -> int:
        """Calls of the others for which no worker is up."""
        return sum(self._ints[row + _WAITING] for row in self._others)

    def deaths(self) -> list[int]:
        """How many processes of each front end have died."""
        return [self._ints[row + _DEATHS] for row in self._rows]

    # ---- the supervisor

    def beats_of(self, front: int) -> int:
        """How often a front end's event loop has told that it turns."""
        return self._ints[front * self._cells + _BEATS]

    def closed_by(self, front: int) -> int:
        """Connections that a front end has had and has no more."""
        return self._ints[front * self._cells + _CLOSED]

    def clear(self, front: int) -> None:
        """A front end has died: what it had under way is gone. It is counted."""
        row = front * self._cells
        deaths = self._ints[row + _DEATHS] + 1
        self._memory[row * _CELL : (row + self._cells) * _CELL] = bytes(self._cells * _CELL)
        self._ints[row + _DEATHS] = deaths

    def _block(self, row: int, worker: int) -> int:
        return row + _HEAD + 2 * self._workers + worker * _BLOCK


def _cells(workers: int) -> int:
    """Of a row."""
    return _HEAD + workers * (2 + _BLOCK)


def _size(fronts: int, workers: int) -> int:
    return fronts * _cells(workers) * _CELL


def make(fronts: int, workers: int) -> int:
    """A descriptor of fresh shared memory for a board; it ends with the last process that has it."""
    descriptor = os.memfd_create("dlserve-board")
    os.ftruncate(descriptor, _size(fronts, workers))
    return descriptor
