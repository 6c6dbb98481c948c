"""What a request is expected to take in each worker, by what the front end knows of both. Pure: no I/O, no clock.

`dlserve.front.policies` chooses by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from dlmodels.engines.base import Temperature

from dlserve.forward_times import ForwardTimes

EXPECTED = "expected"
MOST_MARGIN = 1.5
"""A call's time in the worker over what was predicted, at most. What refuses calls must not learn from a stall that refused them:
beyond this it would shut itself in."""


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
    asker: "Request | None" = field(default=None, compare=False, repr=False)
    """Who has asked for its `outlook` last, if nothing has come or gone since: `told` is the answer."""
    told: "Outlook" = field(default=(0.0, None, 0.0), compare=False, repr=False)

    def sent(self, request: "Request") -> tuple[Coming, float]:
        """A request goes there: the batch that it is thought to run in, and the seconds that it adds to the work."""
        _, coming, cost = outlook(request, self)
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
        self.asker = None
        return coming, cost

    def answered(self, coming: Coming, images: int, at: float, *, ran: bool = True) -> None:
        """A request that was sent is answered. `at`: when its forward ended, or, if it never `ran`, it was dropped."""
        batches, self.asker = self.batches, None
        runs = batches[0]
        if not coming.open:
            gone_s = self._leave([coming], images)
        elif ran and runs.service == coming.service and runs.open and runs.images == images:
            gone_s = runs.seconds
            del batches[0]
            self.ragged = True
        elif ran and runs.service == coming.service and runs.open and runs.images > images:
            gone_s = runs.keep(runs.images - images)
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
        before: dict[int, Coming] = {}
        runs = self.batches[0]
        for coming in [one for one in self.batches if one.open]:
            first = before.get(coming.service)
            before[coming.service] = coming
            if first is None or (first is runs and coming.ready > self.running_since + coming.between_s):
                continue
            waits, most = coming.images, most_images(coming, self)
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
    deadline: float | None = None
    """On the clock of `now`."""

    @property
    def warm(self) -> bool:
        """Whether it may share a batch: it asks for no colder start."""
        return self.cache is None or self.cache == "warm"

    def can_wait(self, load_s: float) -> bool:
        """Whether there is time for such a load before its deadline."""
        return self.deadline is None or self.now + MOST_MARGIN * (load_s + self.forward_s) <= self.deadline


Outlook = tuple[float, Coming | None, float]
"""What a request would find on a worker, see `outlook`."""


def outlook(request: Request, worker: WorkerView) -> Outlook:  # noqa: C901  in one piece: see below
    """What the request would find there: seconds of work that end before its own adds to them, the waiting batch that it
    would join (None: it opens another), and what it adds. Of a worker to which nothing comes in between it is found once.
    """
    if worker.asker is request:
        return worker.told
    if worker.ragged:
        worker.fill()
    batches, joined, ahead_s = worker.batches, None, worker.work_s
    service, forward_s = request.service, request.forward_s
    if batches:  # every call of the server comes by here, once for each worker: nothing is called that need not be
        runs = batches[0]
        runs_s, done_s = runs.seconds, request.now - worker.running_since
        if done_s < 0.0:
            done_s = 0.0
        elif done_s > runs_s:
            done_s = runs_s
        ahead_s -= done_s
        behind_s = 0.0
        for place in range(len(batches) - 1, 0, -1):
            coming = batches[place]
            if coming.service == service:
                # The next batch begins with what is decoded by then.
                in_time = place > 1 or runs_s - done_s + request.between_s >= request.decode_s
                if in_time and _may_join(request, coming, worker):
                    joined, ahead_s = coming, ahead_s - behind_s
                break
            behind_s += coming.seconds
        else:
            # The one that runs may not have begun.
            if (
                runs.service == service
                and request.now + request.decode_s < worker.running_since + request.between_s
                and _may_join(request, runs, worker)
            ):
                joined, ahead_s = runs, runs_s - done_s
        if joined is not None and request.times is not None:
            forward_s = request.times.added(joined.images, request.images)
    ahead_s = max(ahead_s, 0.0)
    if request.cache is not None or service not in worker.resident:
        forward_s += load_s_on(request, worker)
    worker.asker = request
    worker.told = told = ahead_s, joined, forward_s
    return told


def _may_join(request: Request, coming: Coming, worker: WorkerView) -> bool:
    """Whether a batch of the request's model has a place for it."""
    return coming.open and request.warm and coming.images + request.images <= most_images(request, worker)


def most_images(asked: Request | Coming, worker: WorkerView) -> int:
    """Of a batch of that model there."""
    return min(worker.limits.get(asked.service, asked.most), asked.most)


def load_s_on(request: Request, worker: WorkerView) -> float:
    """What the request's load would take on the worker; 0 where the weights are on the device."""
    if request.cache is not None and request.cache != "warm":
        return request.load_s if request.cache == "disk" else request.host_load_s
    if request.service in worker.resident or request.service in worker.awaited:
        return 0.0
    return request.host_load_s if request.service in worker.staged else request.load_s
