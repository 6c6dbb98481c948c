"""Which worker gets a request: pure functions of what the front end knows of its workers. No I/O, no clock.

A policy returns the worker's position in the list, or None where every queue is full. The lists are short (8 workers),
so each policy simply looks at all of them.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec
from dlmodels.engines.base import Temperature

EXPECTED = "expected"
FIRST_GUESS_FORWARD_S = 0.02
"""Forward time of a model that has not run yet."""
FIRST_GUESS_BYTES_PER_S: MappingProxyType[Temperature, float] = MappingProxyType({"disk": 1e9, "host": 1e10})
"""Load bandwidth before the first load from that tier was seen."""
WAKE_S = 50e-6
"""What it takes to wake a worker that has nothing to do: it is asleep, and its caches are cold."""
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


class Request(msgspec.Struct, frozen=True, gc=False):
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


Policy = Callable[[Request, Sequence[WorkerView], int], int | None]


def cost_s(request: Request, worker: WorkerView) -> float:
    """What the request would add to the worker: its forward, and a load from the tier where it will find the weights."""
    return request.forward_s + load_s_on(request, worker)


def load_s_on(request: Request, worker: WorkerView) -> float:
    """What the request's load would take on the worker; 0 where the weights are on the device."""
    if request.cache is not None and request.cache != "warm":
        return request.load_s if request.cache == "disk" else request.host_load_s
    if request.service in worker.resident:
        return 0.0
    return request.host_load_s if request.service in worker.staged else request.load_s


class Predicted:
    """The worker that would finish it first: work queued there + load where needed + forward, and its waking if it is idle.

    Ties go to the one with fewer calls, then to the one chosen last, which is still awake and has its caches warm.
    """

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        best, best_rank = None, (math.inf, 0, False)
        for position, worker in enumerate(workers):  # `_least` in one piece: every call of the server comes by here
            if worker.in_flight < queue:
                finish_s = worker.work_s + cost_s(request, worker) + (0.0 if worker.in_flight else WAKE_S)
                rank = (finish_s, worker.in_flight, worker.index != self._last)
                if best is None or rank < best_rank:
                    best, best_rank = position, rank
        if best is not None:
            self._last = workers[best].index
        return best


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
    """The policy of a `--balance` name; `seed` feeds the random one."""
    makers: dict[str, Callable[[], Policy]] = {
        "predicted": Predicted,
        "least-loaded": LeastLoaded,
        "round-robin": RoundRobin,
        "random": lambda: Random(seed),
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
