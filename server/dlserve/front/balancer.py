"""Which worker gets a request: pure functions of what the front end knows of its workers. No I/O, no clock.

A policy returns the worker's position in the list, or None where every queue is full. The lists are short (8 workers),
so each policy simply looks at all of them.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType

from dlmodels.engines.base import Temperature

EXPECTED = "expected"
FIRST_GUESS_FORWARD_S = 0.02
"""Forward time of a model that has not run yet."""
FIRST_GUESS_BYTES_PER_S: MappingProxyType[Temperature, float] = MappingProxyType({"disk": 1e9, "host": 1e10})
"""Load bandwidth before the first load from that tier was seen."""
BOUND = 1.25
"""Of `affinity`: no worker gets more than this many times its even share of the calls under way."""
_KEEP = 0.8
"""Weight of the past in each moving average."""


@dataclass(slots=True)
class WorkerView:
    """What the front end knows of one worker; the dispatcher keeps it up to date."""

    index: int
    in_flight: int = 0
    """Calls sent and not answered."""
    work_s: float = 0.0
    """Predicted seconds of those calls."""
    resident: dict[int, str] = field(default_factory=dict)
    """Service -> "warm", or EXPECTED where a call that is on its way will load it."""
    staged: set[int] = field(default_factory=set)
    """Services whose weights are in its host tier."""
    free_bytes: int = 0
    """Of its budget on the device."""
    prefetching: set[int] = field(default_factory=set)
    """Services that it was hinted to load, and has not answered about."""
    prefetched: set[int] = field(default_factory=set)
    """Services that it has loaded for a hint, and no request has used since."""
    free_at_s: float = 0.0
    """When its calls are predicted to be answered, by what was known at its last answer."""

    def took_on(self, cost_s: float, now_s: float) -> None:
        """A call was sent to it."""
        self.in_flight += 1
        self.work_s += cost_s
        self.free_at_s = max(self.free_at_s, now_s) + cost_s

    def answered(self, cost_s: float, now_s: float) -> None:
        """A call of that cost was answered, so the next one begins: what was predicted wrongly is forgotten."""
        self.in_flight -= 1
        self.work_s = self.work_s - cost_s if self.in_flight else 0.0
        self.free_at_s = now_s + self.work_s

    def left_s(self, now_s: float) -> float:
        """Predicted seconds until those calls are answered: what it does now has gone on since its last answer."""
        return max(self.free_at_s - now_s, 0.0)


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy may know of a request. `cache`: the colder start that it asks for."""

    service: int
    images: int
    cache: Temperature | None
    forward_s: float
    """Expected for all its images."""
    load_s: float
    """Expected from disk."""
    host_load_s: float = 0.0
    """Expected from the host tier."""
    now_s: float = 0.0
    """When it came, on the clock of the views' `free_at_s`."""


Policy = Callable[[Request, Sequence[WorkerView], int], int | None]


def cost_s(request: Request, worker: WorkerView) -> float:
    """What the request would add to the worker: its forward, and a load from the tier where it will find the weights."""
    return request.forward_s + load_s_on(request, worker)


def load_s_on(request: Request, worker: WorkerView) -> float:
    """What the request's load would take on the worker; 0 where the weights are on the device."""
    if request.cache == "disk":
        return request.load_s
    if request.cache == "host":
        return request.host_load_s
    if request.service in worker.resident:
        return 0.0
    return request.host_load_s if request.service in worker.staged else request.load_s


class Predicted:
    """The worker that would finish it first: work left there + load where needed + forward.

    Ties go to the one with fewer calls, then to the one chosen last, which is still awake and has its caches warm.
    """

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        position = _least(
            workers,
            queue,
            0,
            lambda w: (w.left_s(request.now_s) + cost_s(request, w), w.in_flight, w.index != self._last),
        )
        if position is not None:
            self._last = workers[position].index
        return position


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
        if worker.in_flight < queue and (best is None or rank(worker) < best_rank):
            best, best_rank = position, rank(worker)
    return best


def policy(name: str, seed: int) -> Policy:
    """The policy of a `--balance` name; `seed` feeds those that draw."""
    makers: dict[str, Callable[[], Policy]] = {
        "predicted": Predicted,
        "least-loaded": LeastLoaded,
        "round-robin": RoundRobin,
        "random": lambda: Random(seed),
        "two-choices": lambda: TwoChoices(seed),
        "affinity": Affinity,
    }
    return makers[name]()


@dataclass(slots=True)
class Expectation:
    """Learned times of one service: exponentially weighted means of what replies reported."""

    weights_bytes: int = 0
    forward_per_image_s: float | None = None
    load_s: dict[Temperature, float] = field(default_factory=dict)
    """By where the weights were."""

    def forward_s(self, images: int) -> float:
        """Expected forward of a call with so many images."""
        return images * (FIRST_GUESS_FORWARD_S if self.forward_per_image_s is None else self.forward_per_image_s)

    def expected_load_s(self, source: Temperature = "disk") -> float:
        """Expected load from a tier; from the bytes before one was seen."""
        known = self.load_s.get(source)
        return self.weights_bytes / FIRST_GUESS_BYTES_PER_S[source] if known is None else known

    def learn_forward(self, forward_s: float, batch_size: int) -> None:
        """A batch of `batch_size` images took `forward_s`."""
        self.forward_per_image_s = _mean(self.forward_per_image_s, forward_s / max(1, batch_size))

    def learn_load(self, load_s: float, source: Temperature = "disk") -> None:
        """A load from that tier took `load_s`."""
        self.load_s[source] = _mean(self.load_s.get(source), load_s)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else _KEEP * old + (1 - _KEEP) * new
