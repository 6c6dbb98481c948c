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

import msgspec
from dlmodels.engines.base import Temperature

from dlserve.forward_times import ForwardTimes

EXPECTED = "expected"
BOUND = 1.25
"""Of `affinity`: no worker gets more than this many times its even share of the calls under way."""
WAKE_S = 50e-6
"""What it takes to wake a worker that has nothing to do: it is asleep, and its caches are cold."""


class Coming(msgspec.Struct, eq=False):
    """A batch that a worker is expected to make of calls that were sent to it and are not answered."""

    service: int
    images: int
    seconds: float
    """Predicted, with its load."""
    open: bool
    """Another call of the service may join it."""
    most: int
    """Images that it may grow to, unless its worker has told less."""
    ready: float
    """When the call that opened it can run."""
    between_s: float
    """What of `seconds` passes before its forward begins, unless it loads."""
    times: ForwardTimes | None

    def keep(self, images: int) -> float:
        """No more than so many of its images are left; the seconds that are gone with the others."""
        before_s = self.seconds
        if self.times is None:
            self.seconds *= images / self.images
        else:
            self.seconds = self.between_s + self.times.seconds(images)
        self.images = images
        return before_s - self.seconds

    def take(self, other: "Coming", images: int) -> float:
        """So many images of another are in this one now; the seconds that are gone."""
        more_s = 0.0 if self.times is None else self.times.added(self.images, images)
        self.images += images
        self.seconds += more_s
        left = other.images - images
        return (other.keep(left) if left else other.seconds) - more_s


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
    awaited: frozenset[int] = frozenset()
    """Services that a call of another front end, on its way, will load."""
    hinted: frozenset[int] = frozenset()
    """Services that another front end has hinted it to load."""
    limits: dict[int, int] = field(default_factory=dict)
    """Service -> images beyond which it grows no batch, by its latest reply."""
    batches: list[Coming] = field(default_factory=list)
    """What is thought to become of this front end's calls, in the order of their turn: the first runs now."""
    running_since: float = 0.0
    """When that one began."""
    ragged: bool = False
    """Calls were answered since the batches were last filled up."""
    learned_until: float = 0.0
    """The end of the latest forward that was learned from."""

    def sent(self, request: "Request", seen: "Outlook | None" = None) -> tuple[Coming, float]:
        """A request goes there: the batch that it is thought to run in, and the seconds that it adds to the work.

        `seen`: its `outlook`, if that is known.
        """
        _, coming, cost = seen or outlook(request, self)
        if coming is None:
            if not self.batches:
                self.running_since = request.now
                cost += request.decode_s  # others are decoded while one runs
            ready = request.now + request.decode_s
            coming = Coming(
                request.service, 0, 0.0, request.warm, request.most, ready, request.between_s, request.times
            )
            self.batches.append(coming)
        coming.images += request.images
        coming.seconds += cost
        self.in_flight += 1
        self.work_s += cost
        return coming, cost

    def answered(self, coming: Coming, images: int, at: float, *, ran: bool = True) -> None:
        """A request that was sent is answered. `at`: when its forward ended, or, if it never `ran`, it was dropped."""
        batches = self.batches
        runs = batches[0]
        if not coming.open:
            gone_s = self._leave([coming], images)
        elif ran and runs.service == coming.service and runs.open and runs.images == images:
            gone_s = runs.seconds
            del batches[0]
            self.ragged = True
        else:  # whatever batch it was thought to run in, those that are answered are those that came first
            mine = [one for one in batches if one.service == coming.service and one.open]
            gone_s = self._leave(mine if ran else mine[::-1], images)
            self.ragged = self.ragged or ran
        self.in_flight -= 1
        self.work_s = self.work_s - gone_s if self.in_flight else 0.0
        if ran or not batches or batches[0] is not runs:
            self.running_since = max(self.running_since, at)

    def _leave(self, batches: Sequence[Coming], images: int) -> float:
        """So many images are no longer in these, from the first on; the seconds that are gone with them."""
        gone_s = 0.0
        for coming in batches:
            left = coming.images - images
            if left > 0:
                return gone_s + coming.keep(left)
            self.batches.remove(coming)
            gone_s += coming.seconds
            images = -left
            if not images:
                break
        return gone_s

    def fill(self) -> None:
        """What waits fills up the batches of its model that are before it, as the worker has done when a batch has ended."""
        self.ragged = False
        if len(self.batches) < 2:
            return
        runs, before = self.batches[0], dict[int, Coming]()
        for coming in [one for one in self.batches if one.open]:
            first = before.get(coming.service)
            before[coming.service] = coming
            if first is None or (first is runs and coming.ready > self.running_since + coming.between_s):
                continue
            waits, most = coming.images, min(self.limits.get(coming.service, coming.most), coming.most)
            moved = min(waits, most - first.images)
            if moved > 0:
                self.work_s -= first.take(coming, moved)
                if moved == waits:
                    self.batches.remove(coming)
                    before[coming.service] = first


class Request(msgspec.Struct, frozen=True, gc=False):
    """What a policy may know of a request. `cache`: the colder start that it asks for."""

    service: int
    images: int
    cache: Temperature | None
    forward_s: float
    """Expected of a batch of all its images, with what passes before it begins."""
    load_s: float
    """Expected from disk."""
    host_load_s: float = 0.0
    """Expected from the host tier."""
    now: float = 0.0
    """When it is asked, on the clock of `WorkerView.running_since`."""
    decode_s: float = 0.0
    """Expected until it can join a batch."""
    most: int = 1
    """Images of the largest batch that any worker makes of waiting calls."""
    times: ForwardTimes | None = None
    """Of its model, by batch size; None: `forward_s` is all that is known."""
    between_s: float = 0.0
    """Expected between the end of one batch and the beginning of the next."""

    @property
    def warm(self) -> bool:
        """Whether it may share a batch: it asks for no colder start."""
        return self.cache is None or self.cache == "warm"


Policy = Callable[[Request, Sequence[WorkerView], int], int | None]
Outlook = tuple[float, Coming | None, float]
"""What a request would find on a worker, see `outlook`."""


def cost_s(request: Request, worker: WorkerView) -> float:
    """What the request would add to the worker: its forward, less what it shares with a batch that waits there for its turn,
    and a load from the tier where it will find the weights.
    """
    return outlook(request, worker)[2]


def finish_s(request: Request, worker: WorkerView) -> float:
    """When the worker would be done with the request, in seconds from now: what runs before its batch + load + forward."""
    ahead_s, _, cost = outlook(request, worker)
    return ahead_s + cost


def outlook(request: Request, worker: WorkerView) -> Outlook:
    """What the request would find there: seconds of work that end before its own adds to them, the waiting batch that it
    would join (None: it opens another), and what it adds.
    """
    if worker.ragged:
        worker.fill()
    batches, joined, ahead_s = worker.batches, None, worker.work_s
    service, forward_s = request.service, request.forward_s
    if batches:  # every call of the server comes by here, more than once: nothing is called that need not be
        runs = batches[0]
        done_s = request.now - worker.running_since
        done_s = 0.0 if done_s < 0.0 else min(runs.seconds, done_s)
        ahead_s -= done_s
        behind_s = 0.0
        for place in range(len(batches) - 1, 0, -1):
            coming = batches[place]
            if coming.service == service:
                # The next batch begins with what is decoded by then.
                in_time = place > 1 or runs.seconds - done_s + request.between_s >= request.decode_s
                if (
                    coming.open
                    and in_time
                    and request.warm
                    and coming.images + request.images <= most_images(request, worker)
                ):
                    joined, ahead_s = coming, ahead_s - behind_s
                break
            behind_s += coming.seconds
        else:
            # The one that runs may not have begun.
            in_time = request.now + request.decode_s < worker.running_since + request.between_s
            if (
                in_time
                and runs.service == service
                and runs.open
                and request.warm
                and runs.images + request.images <= most_images(request, worker)
            ):
                joined, ahead_s = runs, runs.seconds - done_s
        if joined is not None and request.times is not None:
            forward_s = request.times.added(joined.images, request.images)
    ahead_s = max(ahead_s, 0.0)
    if request.cache is None and service in worker.resident:
        return ahead_s, joined, forward_s
    return ahead_s, joined, forward_s + load_s_on(request, worker)


def most_images(request: Request, worker: WorkerView) -> int:
    """Of a batch of the request's model there."""
    return min(worker.limits.get(request.service, request.most), request.most)


def load_s_on(request: Request, worker: WorkerView) -> float:
    """What the request's load would take on the worker; 0 where the weights are on the device."""
    if request.cache is not None and request.cache != "warm":
        return request.load_s if request.cache == "disk" else request.host_load_s
    if request.service in worker.resident or request.service in worker.awaited:
        return 0.0
    return request.host_load_s if request.service in worker.staged else request.load_s


class Predicted:
    """The worker that would finish it first: work before it there + load where needed + forward, and its waking if it is idle.

    Ties go to the one with fewer calls, then to the one chosen last, which is still awake and has its caches warm.
    """

    def __init__(self) -> None:
        self._last = 0

    def __call__(self, request: Request, workers: Sequence[WorkerView], queue: int) -> int | None:
        best, best_s = None, math.inf
        for position, worker in enumerate(workers):  # `_least` in one piece, see `outlook`
            in_flight = worker.in_flight
            if in_flight < queue:
                ahead_s, _, cost = outlook(request, worker)
                ends_s = ahead_s + cost if in_flight else ahead_s + cost + WAKE_S
                if ends_s < best_s or (ends_s == best_s and best is not None and self._prefers(worker, workers[best])):
                    best, best_s = position, ends_s
        if best is not None:
            self._last = workers[best].index
        return best

    def _prefers(self, one: WorkerView, other: WorkerView) -> bool:
        """Of two that would be done at once."""
        return (one.in_flight, one.index != self._last) < (other.in_flight, other.index != self._last)


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
