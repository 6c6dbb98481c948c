"""Which worker gets a request: pure functions of what the front end knows of its workers. No I/O, no clock.

A policy returns the worker's position in the list, or None where every queue is full. The lists are short (8 workers),
so each policy simply looks at all of them.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b

from dlserve.front.balancer import EXPECTED, Request, WorkerView, load_s_on, outlook

BOUND = 1.25
"""Of `affinity`: no worker gets more than this many times its even share of the calls under way."""
WAKE_S = 50e-6
"""What it takes to wake a worker that has nothing to do: it is asleep, and its caches are cold."""
AWAY_S = 100e-6
"""What it costs to be another front end's guest, of several: each worker is at home with one of them, which alone wakes it,
whose bodies are in its caches, and whose calls it finds together, as long as nobody has to wait longer for that."""
OWED = 8.0
"""Of `predicted`: a model is loaded on an idle worker too once its calls have waited for want of that this many times what
the load takes, and as much again for each model that has no other worker and might have to leave for it."""
OWED_FOR = 10.0
"""Such waiting is forgotten in so many times the load (to 1/e): seldom or short, it is worth no load."""

Policy = Callable[[Request, Sequence[WorkerView], int], int | None]


class Predicted:
    """The worker that would finish it first: work before it there + load where needed + forward, and its waking if it is idle.

    Of several front ends each has workers of its own, which it prefers by `AWAY_S`.

    Ties go to the one with fewer calls, then to the one chosen last, which is still awake and has its caches warm.

    For a call alone a load hardly ever pays, for all that come after it often does. So where calls keep waiting for busy
    workers that have their model while an idle one lacks it, what they wait longer adds up, and in the end pays for a load
    there (rent until it has cost as much as buying: Karlin et al., Competitive Snoopy Caching, 1988).
    """

    def __init__(self, front: int, fronts: int) -> None:
        """`front`: which of so many front ends asks."""
        self._front = front
        self._fronts = fronts
        self._last = 0
        self._owed: dict[int, tuple[float, float]] = {}
        """Service -> seconds that its calls have waited for want of a load, and when that was last added to."""

    def __call__(self, request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        best, best_s, lacking = None, math.inf, False
        for position, worker in enumerate(workers):  # `_least` in one piece, see `outlook`
            in_flight = worker.in_flight
            if in_flight < queue:
                ahead_s, _, cost = outlook(request, worker)
                ends_s = ahead_s + cost
                if worker.index % self._fronts != self._front:
                    ends_s += AWAY_S
                if not in_flight:
                    ends_s += WAKE_S
                    lacking = lacking or cost > request.forward_s  # idle, and without the model
                if ends_s < best_s or (ends_s == best_s and best is not None and self._prefers(worker, workers[best])):
                    best, best_s = position, ends_s
        if best is not None:
            if lacking and workers[best].in_flight and request.warm:
                best = self._load_owed(request, workers, best_s - request.forward_s, best)
            self._last = workers[best].index
        return best

    def _prefers(self, one: WorkerView, other: WorkerView) -> bool:
        """Of two that would be done at once."""
        return (one.in_flight, one.index != self._last) < (other.in_flight, other.index != self._last)

    def _load_owed(self, request: Request, workers: Sequence[WorkerView], waits_s: float, best: int) -> int:
        """An idle worker that the call should load its model on for the sake of others; else `best`, where it waits so long."""
        loads = [
            (load_s, position)
            for position, worker in enumerate(workers)
            if not (worker.in_flight or worker.prefetching or worker.hinted) and (load_s := load_s_on(request, worker))
        ]
        if not loads:
            return best
        service, least_s = request.service, min(loads)[0]
        owed_s, at = self._owed.get(service, (0.0, request.now))
        owed_s = waits_s + owed_s * math.exp((at - request.now) / (OWED_FOR * least_s))
        if owed_s >= OWED * least_s and not any(worker.resident.get(service) == EXPECTED for worker in workers):
            cost_s, position = min((load_s * (1 + _only_there(workers[one], workers)), one) for load_s, one in loads)
            if owed_s >= OWED * cost_s and request.can_wait(load_s_on(request, workers[position])):
                self._owed.pop(service, None)
                return position
        self._owed[service] = owed_s, request.now
        return best


def _only_there(worker: WorkerView, workers: Sequence[WorkerView]) -> int:
    """How many models that worker alone has."""
    return sum(
        all(service not in other.resident for other in workers if other is not worker) for service in worker.resident
    )


class LeastLoaded:
    """The worker with the fewest calls under way; ties in turn."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, _request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        self._turn += 1
        return _least(workers, queue, self._turn, lambda w: (w.in_flight,))


class RoundRobin:
    """One after the other, leaving out those whose queue is full."""

    def __init__(self) -> None:
        self._turn = -1

    def __call__(self, _request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        for _ in workers:
            self._turn = (self._turn + 1) % len(workers)
            if workers[self._turn].in_flight < queue:
                return self._turn
        return None


class Random:
    """Any worker whose queue is not full, drawn from a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._draws = random.Random(seed)  # noqa: S311  balancing, not secrets

    def __call__(self, _request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        open_ = [position for position, worker in enumerate(workers) if worker.in_flight < queue]
        return self._draws.choice(open_) if open_ else None


class TwoChoices:
    """Of two workers with room, drawn from a seeded generator, the one with fewer calls under way.

    Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (2001).
    """

    def __init__(self, seed: int) -> None:
        self._draws = random.Random(seed)  # noqa: S311  balancing, not secrets

    def __call__(self, _request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        open_ = [position for position, worker in enumerate(workers) if worker.in_flight < queue]
        if len(open_) < 2:
            return open_[0] if open_ else None
        return min(self._draws.sample(open_, 2), key=lambda position: workers[position].in_flight)


class Affinity:
    """The same worker for a model each time, unless that one has more than its share: then the next in the model's own order.

    Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016), its order by rendezvous hashing (Thaler,
    Ravishankar 1998): a worker that comes or goes moves no model but its own. A share is `BOUND` x calls under way / workers.
    """

    def __call__(self, request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        under_way = 1 + sum(worker.in_flight for worker in workers)
        most = min(queue, math.ceil(BOUND * under_way / len(workers)))
        return max(
            (position for position, worker in enumerate(workers) if worker.in_flight < most),
            key=lambda position: _affinity(request.service, workers[position].index),
            default=None,
        )


@lru_cache(maxsize=1 << 16)
def _affinity(service: int, worker: int) -> int:
    """How well they go together: no more than a hash, the same in every process."""
    return int.from_bytes(blake2b(b"%d:%d" % (service, worker), digest_size=8).digest())


def _least(
    workers: Sequence[WorkerView], queue: int, turn: int, rank: Callable[[WorkerView], tuple[float, ...]]
) -> int | None:
    """Position of the lowest rank among the workers with room; equal ranks are taken in turn."""
    best: int | None = None
    best_rank: tuple[float, ...] = ()
    count = len(workers)
    for step in range(count):
        position = (turn + step) % count
        worker = workers[position]
        if worker.in_flight >= queue:
            continue
        its_rank = rank(worker)
        if best is None or its_rank < best_rank:
            best, best_rank = position, its_rank
    return best


def policy(name: str, seed: int, front: int = 0, fronts: int = 1) -> Policy:
    """The policy of a `--balance` name; `seed` feeds those that draw. `front`: which of so many front ends has it."""
    makers: dict[str, Callable[[], Policy]] = {
        "predicted": lambda: Predicted(front, fronts),
        "least-loaded": LeastLoaded,
        "round-robin": RoundRobin,
        "random": lambda: Random(seed),
        "two-choices": lambda: TwoChoices(seed),
        "affinity": Affinity,
    }
    return makers[name]()
