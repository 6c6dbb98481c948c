"""What a request is expected to take in each worker, by what the front end knows of both. Pure: no I/O, no clock.

`dlserve.front.policies` chooses by it.
"""

import math
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec
from dlmodels.engines.base import Temperature

from dlserve.forward_times import ForwardTimes

EXPECTED = "expected"
FIRST_GUESS_FORWARD_S = 0.02
"""Forward time of a model that has not run yet."""
FIRST_GUESS_BYTES_PER_S: MappingProxyType[Temperature, float] = MappingProxyType({"disk": 1e9, "host": 1e10})
"""Load bandwidth before the first load from that tier was seen."""
_KEEP = 0.8
"""Weight of the past in each moving average."""
_LARGEST_TOLD_APART = 32
_MARGIN_SHARE = 0.95
_MARGIN_STEP = 0.05
_MOST_MARGIN = 1.5
"""What refuses calls must not learn from a stall that refused them: beyond this it would shut itself in."""


@dataclass(slots=True, eq=False)
class Coming:
    """A batch that a worker is expected to make of calls that were sent to it and are not answered."""

    service: int
    images: int
    seconds: float
    """Predicted, with its load."""
    open: bool
    """Another call of the service may join it."""


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
    learned_until: float = 0.0
    """The end of the latest forward that was learned from."""

    def sent(self, request: "Request") -> tuple[Coming, float]:
        """A request goes there: the batch that it is thought to run in, and the seconds that it adds to the work."""
        _, coming, cost = outlook(request, self)
        if coming is None:
            if not self.batches:
                self.running_since = request.now
                cost += request.decode_s  # others are decoded while one runs
            coming = Coming(request.service, 0, 0.0, request.warm)
            self.batches.append(coming)
        coming.images += request.images
        coming.seconds += cost
        self.in_flight += 1
        self.work_s += cost
        return coming, cost

    def answered(self, coming: Coming, images: int, cost: float, ended: float) -> None:
        """A request that was sent is answered. `ended`: when its forward did, or it was dropped."""
        self.in_flight -= 1
        self.work_s = self.work_s - cost if self.in_flight else 0.0
        self.running_since = max(self.running_since, ended)
        coming.images -= images
        coming.seconds -= cost
        if coming.images <= 0:
            self.batches.remove(coming)


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
    now: float = 0.0
    """When it is asked, on the clock of `WorkerView.running_since`."""
    decode_s: float = 0.0
    """Expected until it can join a batch."""
    most: int = 1
    """Images of the largest batch that any worker makes of waiting calls."""
    times: ForwardTimes | None = None
    """Of its model, by batch size; None: `forward_s` is all that is known."""
    deadline: float | None = None
    """On the clock of `now`."""

    @property
    def warm(self) -> bool:
        """Whether it may share a batch: it asks for no colder start."""
        return self.cache is None or self.cache == "warm"

    def can_wait(self, load_s: float) -> bool:
        """Whether there is time for such a load before its deadline."""
        return self.deadline is None or self.now + _MOST_MARGIN * (load_s + self.forward_s) <= self.deadline


def cost_s(request: Request, worker: WorkerView) -> float:
    """What the request would add to the worker: its forward, less what it shares with a batch that waits there for its turn,
    and a load from the tier where it will find the weights.
    """
    return outlook(request, worker)[2]


def finish_s(request: Request, worker: WorkerView) -> float:
    """When the worker would be done with the request, in seconds from now: what runs before its batch + load + forward."""
    ahead_s, _, cost = outlook(request, worker)
    return ahead_s + cost


def outlook(request: Request, worker: WorkerView) -> tuple[float, Coming | None, float]:
    """What the request would find there: seconds of work that end before its own adds to them, the waiting batch that it
    would join (None: it opens another), and what it adds.
    """
    batches, joined, ahead_s = worker.batches, None, worker.work_s
    if batches:
        runs = batches[0]
        done_s = min(max(request.now - worker.running_since, 0.0), runs.seconds)
        ahead_s -= done_s
        behind_s = 0.0
        for place in range(len(batches) - 1, 0, -1):
            coming = batches[place]
            if coming.service == request.service:
                # The next batch begins with what is decoded by then.
                in_time = place > 1 or runs.seconds - done_s >= request.decode_s
                if (
                    coming.open
                    and in_time
                    and request.warm
                    and coming.images + request.images <= most_images(request, worker)
                ):
                    joined, ahead_s = coming, ahead_s - behind_s
                break
            behind_s += coming.seconds
    if joined is None or request.times is None:
        forward_s = request.forward_s
    else:
        forward_s = request.times.added(joined.images, request.images)
    return max(ahead_s, 0.0), joined, forward_s + load_s_on(request, worker)


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


class Joiners:
    """How many images join a waiting batch after a call that makes it so large, by the seconds until it begins."""

    def __init__(self) -> None:
        self._means: dict[int, tuple[float, float]] = {}
        """Size -> exponentially weighted means of images that joined, and of seconds."""

    def expected(self, size: int, seconds: float) -> float:
        """Images that will join a batch of that size."""
        joined, waited_s = self._means.get(min(size, _LARGEST_TOLD_APART), (0.0, 1.0))
        return joined * seconds / waited_s

    def learn(self, size: int, seconds: float, joined: int) -> None:
        """So many joined a batch of that size. Below 0: some that should have been in it came too late."""
        size = min(size, _LARGEST_TOLD_APART)
        known = self._means.get(size)
        self._means[size] = (joined, seconds) if known is None else (_mean(known[0], joined), _mean(known[1], seconds))


@dataclass(slots=True)
class Expectation:
    """Learned times of one service: exponentially weighted means of what replies reported."""

    weights_bytes: int = 0
    forward: ForwardTimes = field(default_factory=ForwardTimes)
    load_s: dict[Temperature, float] = field(default_factory=dict)
    """By where the weights were."""
    decode_s: float = 0.0
    """Of an image."""
    rest_s: float = 0.0
    """In the worker, beside decoding, waiting, loading and the forward."""
    joiners: Joiners = field(default_factory=Joiners)
    margin: float = 1.2
    """A call's time in the worker over what was predicted: 95 % of calls are below it."""
    learned_at: float = -math.inf
    """When a reply was last learned from."""

    def forward_s(self, images: int) -> float:
        """Expected forward of a call with so many images."""
        return self.forward.seconds(images) if self.forward.known else images * FIRST_GUESS_FORWARD_S

    def expected_load_s(self, source: Temperature = "disk") -> float:
        """Expected load from a tier; from the bytes before one was seen."""
        known = self.load_s.get(source)
        return self.weights_bytes / FIRST_GUESS_BYTES_PER_S[source] if known is None else known

    def in_worker_s(self, request: Request, worker: WorkerView) -> float:
        """What the request is expected to take in that worker, from its arrival to its reply."""
        ahead_s, joined, cost = outlook(request, worker)
        in_worker_s = max(ahead_s, request.decode_s) + cost + self.rest_s
        if not worker.batches:
            return in_worker_s
        begins_s = ahead_s - (joined.seconds if joined else 0.0)
        images = request.images + (joined.images if joined else 0)
        most = max(most_images(request, worker), images)
        grown = min(images + self.joiners.expected(images, begins_s), most)
        return in_worker_s + self.forward.added(images, max(round(grown), request.images) - images)

    def learn_forward(self, forward_s: float, batch_size: int) -> None:
        """A batch of `batch_size` images took `forward_s`."""
        self.forward.learn(max(1, batch_size), forward_s)

    def learn_load(self, load_s: float, source: Temperature = "disk") -> None:
        """A load from that tier took `load_s`."""
        self.load_s[source] = _mean(self.load_s.get(source), load_s)

    def learn_call(self, decode_s: float, rest_s: float) -> None:
        """A call took so long beside the forward; `decode_s` per image."""
        self.decode_s = _mean(self.decode_s or None, decode_s)
        self.rest_s = _mean(self.rest_s or None, rest_s)

    def learn_ratio(self, actual_over_predicted: float) -> None:
        """A call took so many times what was predicted. Follows a quantile by steps (Robbins, Monro 1951)."""
        above = actual_over_predicted > self.margin
        self.margin += _MARGIN_STEP * (_MARGIN_SHARE if above else _MARGIN_SHARE - 1)
        self.margin = min(max(self.margin, 1.0), _MOST_MARGIN)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else _KEEP * old + (1 - _KEEP) * new
