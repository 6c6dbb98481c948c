"""What a call will take where each answer brings the next call, as clients do that wait for theirs: the queue played forward.

How large the batch will be that a waiting call runs in depends on who comes before it begins. Where that is chance (arrivals
from many clients), what joined batches lately says it best, see `Joiners`. Where a few clients ask in a loop, it is settled: each is
waiting for an answer or about to ask again. Which of both it is, is seen by what came true. Pure: no I/O, no clock.
"""

import heapq
from collections.abc import Sequence

import msgspec

from dlserve.front.balancer import Coming, Request, WorkerView, load_s_on, most_images

MOST = 64
"""Clients times workers, and images under way: with more of them it would take too long to play, and chance rules."""
WORTH_S = 5e-3
"""To play takes up to 0.2 ms: too much beside a forward that is shorter than this."""
GOOD_OFF = 0.03
"""A forecast that is off by less than this, on average, needs no other."""
_REMEMBER_S = 1.0
_KEEP = 0.95
"""Weight of the past in how far off each forecast was."""
_MOST_OFF = 0.5
"""One call that was off by more says no more: something else ran there."""


class Clients:
    """How many ask in a loop: as many as had calls under way at once lately."""

    def __init__(self) -> None:
        self._until = 0.0
        self._most = self._most_before = 0

    def seen(self, under_way: int, now: float) -> int:
        """There are so many calls now; how many clients that makes."""
        if now >= self._until:
            self._most_before = self._most if now < self._until + _REMEMBER_S else 0
            self._most, self._until = 0, now + _REMEMBER_S
        self._most = max(self._most, under_way)
        return max(self._most, self._most_before)


class Forecasts(msgspec.Struct):
    """Two forecasts of a call, and how far each was off lately, as a share of what it took."""

    plain_off: float = 0.0
    played_off: float = 0.0

    def better(self, plain_s: float, played_s: float) -> float:
        """The one to go by."""
        return played_s if self.played_off < self.plain_off else plain_s

    def learn(self, plain_s: float, played_s: float, actual_s: float) -> None:
        """What came true."""
        self.plain_off += (1 - _KEEP) * (_off(plain_s, actual_s) - self.plain_off)
        self.played_off += (1 - _KEEP) * (_off(played_s, actual_s) - self.played_off)


def _off(foretold_s: float, actual_s: float) -> float:
    return min(abs(foretold_s / actual_s - 1), _MOST_OFF)


class _Call(msgspec.Struct, eq=False):
    """One image that waits, or is on its way."""

    kind: Coming
    """Says of its model what there is to say."""
    ready: float
    """When it is decoded."""
    load_s: float = 0.0


class _Line:
    """A worker: what runs, and what waits. Times are seconds from now."""

    def __init__(self, worker: WorkerView, now: float) -> None:
        self.worker = worker
        self.waiting: list[_Call] = []
        self.running: list[_Call] = []
        self.ends = 0.0
        for place, batch in enumerate(worker.batches):
            calls = [_Call(batch, batch.ready - now) for _ in range(batch.images)]
            if place:
                calls[0].load_s = max(batch.seconds - _seconds(batch, batch.images), 0.0)
                self.waiting += calls
            else:
                self.running = calls
                self.ends = max(batch.seconds - max(now - worker.running_since, 0.0), 0.0)

    def most(self, kind: Coming) -> int:
        """Images of a batch."""
        return most_images(kind, self.worker) if kind.open else kind.images

    def would_end(self, kind: Coming, at: float) -> float:
        """When a call that comes then would be done here."""
        sizes: dict[int, tuple[Coming, int]] = {kind.service: (kind, 1)}
        for call in self.waiting:
            its_kind, size = sizes.get(call.kind.service, (call.kind, 0))
            sizes[call.kind.service] = its_kind, size + 1
        ends = max(self.ends, at) if self.running else at
        for its_kind, size in sizes.values():
            whole, rest = divmod(size, max(self.most(its_kind), 1))
            ends += whole * _seconds(its_kind, self.most(its_kind)) + (_seconds(its_kind, rest) if rest else 0.0)
        return ends

    def begin(self) -> None:
        """The next batch, now that the one before has ended: the model whose call is first, and what else of it is ready."""
        at, self.running = self.ends, []
        if not self.waiting:
            return
        first = next((call for call in self.waiting if call.ready <= at + call.kind.between_s), None)
        if first is None:
            first = min(self.waiting, key=lambda call: call.ready)
            at = first.ready
        kind, latest = first.kind, at + first.kind.between_s
        mine = [call for call in self.waiting if call.kind.service == kind.service and call.ready <= latest]
        self.running = mine[: max(self.most(kind), 1)]
        self.waiting = [call for call in self.waiting if call not in self.running]
        self.ends = at + _seconds(kind, len(self.running)) + sum(call.load_s for call in self.running)


def _seconds(kind: Coming, images: int) -> float:
    """Of a batch of so many, with what passes before it begins."""
    return kind.between_s + (kind.seconds if kind.times is None else kind.times.seconds(images))


def played_forward(
    request: Request, position: int, workers: Sequence[WorkerView], clients: int, under_way: int
) -> float | None:
    """Seconds until a call that goes to the worker at that position has run, if whoever is answered asks the same again at once.

    `under_way`: calls, this one not among them; the rest of the clients are about to ask. None: they are too many.
    """
    if not under_way < clients <= MOST // len(workers) or request.times is None:
        return None
    if request.images + sum(batch.images for worker in workers for batch in worker.batches) > MOST:
        return None
    lines = [_Line(worker, request.now) for worker in workers]
    kind = Coming(
        request.service,
        request.images,
        request.forward_s,
        request.warm,
        request.most,
        0.0,
        request.between_s,
        request.times,
    )
    own = lines[position]
    asked = [_Call(kind, request.decode_s) for _ in range(request.images)]
    asked[0].load_s = load_s_on(request, workers[position])
    own.waiting += asked
    order = iter(range(8 * MOST))
    coming = [(0.0, next(order), kind) for _ in range(clients - under_way - 1)]
    for _ in range(4 * MOST):
        line = min((line for line in lines if line.running), key=lambda line: line.ends, default=own)
        if coming and coming[0][0] <= line.ends:
            at, _, its_kind = heapq.heappop(coming)
            chosen = min(lines, key=lambda one: one.would_end(its_kind, at))
            chosen.waiting.append(_Call(its_kind, at + request.decode_s))
            if not chosen.running:
                chosen.ends = at
                chosen.begin()
            continue
        for call in line.running:
            if (number := next(order, None)) is None:
                return None
            heapq.heappush(coming, (line.ends, number, call.kind))
        line.begin()
        if asked[-1] in own.running:
            return own.ends
    return None
