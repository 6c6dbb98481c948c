"""What is expected of a service's calls, learned from its replies. Pure: no I/O, no clock."""

import math
from dataclasses import dataclass, field
from types import MappingProxyType

from dlmodels.engines.base import Temperature

from dlserve.forward_times import ForwardTimes
from dlserve.front.balancer import MOST_MARGIN, Request, WorkerView, most_images, outlook
from dlserve.front.foresight import Forecasts

FIRST_GUESS_FORWARD_S = 0.02
"""Forward time of a model that has not run yet."""
FIRST_GUESS_BYTES_PER_S: MappingProxyType[Temperature, float] = MappingProxyType({"disk": 1e9, "host": 1e10})
"""Load bandwidth before the first load from that tier was seen."""
_KEEP = 0.8
"""Weight of the past in each moving average."""
QUICK_S = 1e-3
LEARN_EVERY_S = 1e-3
"""Of calls that spend less than the former in a worker, one in so long is learned from: their times change no more quickly
than those of others, and to learn from each would cost as much as a tenth of the call."""
_LARGEST_TOLD_APART = 32
_MARGIN_SHARE = 0.95
_MARGIN_STEP = 0.05


class Joiners:
    """How many images join a waiting batch after a call that makes it so large, by the seconds until it begins."""

    def __init__(self) -> None:
        self._means: dict[int, tuple[float, float]] = {}
        """Size -> exponentially weighted means of images that joined, and of seconds."""

    def expected(self, size: int, seconds: float) -> float:
        """Images that will join a batch of that size: in proportion to its wait, but no more than did lately.

        Where clients wait for their answers, there are only so many of them.
        """
        joined, waited_s = self._means.get(min(size, _LARGEST_TOLD_APART), (0.0, 1.0))
        return joined * min(seconds / waited_s, 1.0)

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
    between_s: float = 0.0
    """From the end of a batch, or from when the next could run, to the beginning of that one."""
    rest_s: float = 0.0
    """In the worker, beside decoding, waiting, loading and the forward."""
    joiners: Joiners = field(default_factory=Joiners)
    forecasts: Forecasts = field(default_factory=Forecasts)
    margin: float = 1.2
    """A call's time in the worker over what was predicted: 95 % of calls are below it."""
    learned_at: float = -math.inf
    """When a reply was last learned from."""

    def forward_s(self, images: int) -> float:
        """Expected of a batch of a call with so many images: its forward, and what passes before it begins."""
        return self.between_s + (self.forward.seconds(images) if self.forward.known else images * FIRST_GUESS_FORWARD_S)

    def expected_load_s(self, source: Temperature = "disk") -> float:
        """Expected load from a tier; from the bytes before one was seen."""
        known = self.load_s.get(source)
        return self.weights_bytes / FIRST_GUESS_BYTES_PER_S[source] if known is None else known

    def in_worker_s(self, request: Request, worker: WorkerView) -> float:
        """What the request is expected to take in that worker, from its arrival to its reply."""
        ahead_s, joined, cost = outlook(request, worker)
        in_worker_s = max(ahead_s, request.decode_s) + cost + self.rest_s
        batches = worker.batches
        if not batches or joined is batches[0]:
            return in_worker_s
        begins_s, images = ahead_s, request.images
        if joined is not None:
            begins_s -= joined.seconds
            images += joined.images
        more = self.joiners.expected(images, begins_s)
        if not more:
            return in_worker_s
        most = max(most_images(request, worker), images)
        grown = max(round(min(images + more, most)), request.images)
        return in_worker_s + self.forward.added(images, grown - images)

    def tells_nothing_new(self, in_worker_s: float, at: float) -> bool:
        """Whether a reply need not be learned from: a call was so quick, and one was learned from so lately."""
        return in_worker_s < QUICK_S and at - self.learned_at < LEARN_EVERY_S

    def learn_forward(self, forward_s: float, batch_size: int) -> None:
        """A batch of `batch_size` images took `forward_s`."""
        self.forward.learn(max(1, batch_size), forward_s)

    def learn_between(self, between_s: float, forward_s: float) -> None:
        """A batch whose forward took `forward_s` began so long after the one before it, or after it could have.

        On cores that are shared it waits for its turn meanwhile. What takes longer than itself is something else that ran there.
        """
        if 0.0 <= between_s < forward_s:
            self.between_s = _mean(self.between_s or None, between_s)

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
        self.margin = min(max(self.margin, 1.0), MOST_MARGIN)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else _KEEP * old + (1 - _KEEP) * new
