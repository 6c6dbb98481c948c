"""The way of one request: service -> limits -> worker -> reply; one retry when a worker dies under it."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import msgspec
from dlmodels.images import InputSpec

from dlserve.errors import (
    ApiError,
    DeadlineError,
    InputError,
    InternalError,
    NoWorkerError,
    QueueFullError,
    RequestError,
)
from dlserve.front.balancer import EXPECTED, Request, WorkerView, outlook
from dlserve.front.expectation import Expectation
from dlserve.front.foresight import GOOD_OFF, WORTH_S, Clients, played_forward
from dlserve.front.link import Answer, Link, WorkerLostError
from dlserve.front.lookout import Lookout
from dlserve.front.parameters import Execution, Output
from dlserve.front.policies import Policy
from dlserve.front.pool import WorkerPool
from dlserve.front.prefetching import Prefetcher
from dlserve.front.services import Service
from dlserve.front.statistics import Timing
from dlserve.messages import Cancel, Failure, FailureKind, Item, Job, Reply
from dlserve.slots import NOWHERE

log = logging.getLogger(__name__)
ATTEMPTS = 2
SWEEP_S = 0.05
"""How often long calls are checked for clients that have left, and workers for being stuck."""
_SAME_S = 1e-6
"""Calls of one batch tell the same end of their forward, but for the rounding of floats."""
STALE_S = 2.0
"""What was learned of a model longer ago than this refuses no call: one is let through, to learn from."""
_FAILURES: dict[FailureKind, type[ApiError]] = {
    "input": InputError,
    "request": RequestError,
    "model": InternalError,
    "internal": InternalError,
    "memory": InternalError,
    "expired": DeadlineError,
}


class ClientLeftError(Exception):
    """The client closed its connection before its answer was ready; there is nobody to answer."""


class PredictCall(msgspec.Struct, eq=False):
    """One predict call. `body` holds the items' bytes in order; `began` is when the server first heard of it."""

    service: Service
    began: float
    left: Callable[[], Awaitable[None]]
    """Awaits the client's leaving; only asked for calls that take long."""
    deadline: float | None = None
    """When its answer is worth nothing any more; on the clock of `began`."""
    items: tuple[Item, ...] = ()
    body: Sequence[bytes | memoryview] = ()
    input: InputSpec | None = None
    """None: the service's own."""
    output: Output = Output()
    execution: Execution = Execution()

    def must_end_in(self, timeout_s: float | None) -> None:
        """Set its deadline, so long after it began; the sooner of two."""
        if timeout_s is not None:
            deadline = self.began + timeout_s
            self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)


class _Flight(msgspec.Struct, eq=False):
    """A job under way: what the sweep needs to know of it."""

    call: PredictCall
    link: Link
    job_id: int
    sent: float
    size: int = 0
    """Images of its batch as it was sent, where that has to wait."""
    foretold: tuple[float, float] | None = None
    """What either of two forecasts of it says."""
    watcher: asyncio.Task[None] | None = None
    left: bool = False


class Outcome(msgspec.Struct, frozen=True):
    """A call's answer, the worker that gave it, and where its time went: seconds by stage, and in all."""

    reply: Reply
    timing: Timing
    total_s: float
    predicted_s: float
    """What it was expected to take in the worker; 0 where nothing was known of its model yet."""
    view: WorkerView
    flight: _Flight

    @property
    def worker(self) -> int:
        """The number of the worker."""
        return self.view.index


class _Choice(NamedTuple):
    """Where a call goes, and why."""

    view: WorkerView
    request: Request
    predicted_s: float
    """As in `Outcome`."""
    foretold: tuple[float, float] | None
    """What either of two forecasts says."""


@dataclass(slots=True)
class Counts:
    """What happened on the way, for the metrics."""

    retries: int = 0
    cancelled: int = 0
    expired: int = 0
    late: int = 0


def _ended(reply: Reply) -> float:
    """When its forward did."""
    return reply.stages.replied - reply.stages.post


class Dispatcher:
    """Sends each call to the worker that the policy picks and brings its answer back."""

    def __init__(
        self,
        pool: WorkerPool,
        policy: Policy,
        *,
        queue: int,
        max_batch: int,
        batch_wait_s: float,
        worker_timeout_s: float,
        wait_s: float,
        stuck: Callable[[int, str], None],
        prefetcher: Prefetcher | None = None,
    ) -> None:
        """`queue`: calls per worker. `max_batch`, `batch_wait_s`: see the worker's batcher. `wait_s`: how long a call waits while no worker is up. `stuck`: told of hung workers.

        `prefetcher`: told of calls that wait for their model behind others; None: nothing is loaded before it is asked for.
        """
        self.counts = Counts()
        self._pool = pool
        self._policy = policy
        self._queue = queue
        self._max_batch = max_batch
        self._batch_wait_s = batch_wait_s
        self._worker_timeout_s = worker_timeout_s
        self._wait_s = wait_s
        self._stuck = stuck
        self._prefetcher = prefetcher
        self._flights: set[_Flight] = set()
        self._clients = Clients()
        self._waiting = 0
        """Calls for which no worker is up."""
        self._lookout = Lookout(self._flights)

    async def predict(self, call: PredictCall) -> Outcome:
        """Run a call; `learn` should follow. Raises ApiError with the answer's status, or ClientLeftError."""
        for attempt in range(ATTEMPTS):
            chosen = self._choose(call) or await self._chosen_in_time(call)
            try:
                reply, flight = await self._run(call, chosen)
            except WorkerLostError:
                log.warning(
                    "worker %d died under a call of service %s (attempt %d)",
                    chosen.view.index,
                    call.service.name,
                    attempt + 1,
                )
                self.counts.retries += attempt + 1 < ATTEMPTS
                continue
            return self._conclude(chosen, reply, flight)
        raise NoWorkerError(
            f"{ATTEMPTS} workers died while running this call; if it happens again, its input or model is the cause: "
            "see the server's log"
        )

    def _choose(self, call: PredictCall) -> _Choice | None:
        """A worker with a place for the call in its queue; None if none is up. Raises QueueFullError or DeadlineError."""
        expected, execution = call.service.expectation, call.execution
        images = max(1, len(call.items))
        pinned = execution.worker
        while True:
            views = self._pool.views if pinned is None else self._pool.pinned(pinned)
            if not views:
                return None
            request = Request(
                call.service.number,
                images,
                execution.cache,
                expected.forward_s(images),
                expected.expected_load_s(),
                expected.expected_load_s("host"),
                perf_counter(),
                images * expected.decode_s + self._batch_wait_s,
                self._max_batch,
                expected.forward,
                expected.between_s,
                call.deadline,
            )
            self._pool.refresh(views)
            if pinned is None:
                position = self._policy(request, views, self._queue)
            else:
                position = 0 if views[0].in_flight < self._queue else None
            if position is None:
                raise self._full(min(view.work_s for view in views))
            view = views[position]
            predicted_s, foretold = self._foretell(expected, request, views, position)
            if call.deadline is not None:
                self._check_deadline(call.deadline, expected, request.now, predicted_s)
            if self._pool.claim(view, self._queue):  # else another front end was faster
                break
        if self._prefetcher is not None and pinned is None and view.in_flight and request.service in view.resident:
            self._prefetcher.consider(call.service, request)
        return _Choice(view, request, predicted_s if expected.forward.known else 0.0, foretold)

    def _foretell(
        self, expected: Expectation, request: Request, views: Sequence[WorkerView], position: int
    ) -> tuple[float, tuple[float, float] | None]:
        """What the call will take in that worker; and what either forecast says, where there are two."""
        view = views[position]
        plain_s = expected.in_worker_s(request, view)
        if request.forward_s < WORTH_S:
            return plain_s, None
        under_way = len(self._flights)
        clients = self._clients.seen(under_way + 1, request.now)
        if not view.batches or outlook(request, view)[1] is view.batches[0]:
            return plain_s, None  # nobody can come before it
        if expected.forecasts.plain_off < GOOD_OFF:
            return plain_s, (plain_s, plain_s)
        ends_s = played_forward(request, position, views, clients, under_way)
        if ends_s is None:
            return plain_s, None
        played_s = ends_s + expected.rest_s
        return expected.forecasts.better(plain_s, played_s), (plain_s, played_s)

    async def _chosen_in_time(self, call: PredictCall) -> _Choice:
        """The same where no worker is up: wait for one. Raises NoWorkerError if none comes, or ClientLeftError."""
        deadline = perf_counter() + self._wait_s
        while True:
            await self._wait_for_a_worker(call, deadline - perf_counter())
            if chosen := self._choose(call):
                return chosen

    def _check_deadline(self, deadline: float, expected: Expectation, now: float, predicted_s: float) -> None:
        """Refuse what can't be answered in time by what was learned. Raises DeadlineError or QueueFullError."""
        if deadline <= now:
            self.counts.expired += 1
            raise DeadlineError("its deadline has passed before it was sent to a worker: allow it more time")
        late_s = now + predicted_s * expected.margin - deadline
        if late_s <= 0:
            return
        if now - expected.learned_at > STALE_S:
            expected.learned_at = now
            return
        raise QueueFullError(
            f"it would be answered about {late_s * 1e3:.0f} ms after its deadline: come back later, or allow it more time",
            "deadline",
            max(1, math.ceil(late_s)),
        )

    async def _wait_for_a_worker(self, call: PredictCall, timeout_s: float) -> None:
        """Wait, among a bounded number, until a worker comes or goes. Raises ClientLeftError if the client does."""
        board = self._pool.board
        elsewhere = 0 if board is None else board.waiting_elsewhere()
        if self._waiting + elsewhere >= self._queue * len(self._pool.workers):
            raise self._full(1.0)
        self._waits(1)
        change = asyncio.ensure_future(self._pool.wait_for_change(timeout_s))
        left = asyncio.ensure_future(call.left())
        try:
            await asyncio.wait({change, left}, return_when=asyncio.FIRST_COMPLETED)
            if not change.done():
                raise self._gone()
            change.result()
        finally:
            self._waits(-1)
            change.cancel()
            left.cancel()

    def _waits(self, more: int) -> None:
        self._waiting += more
        if self._pool.board is not None:
            self._pool.board.waits(self._waiting)

    def _full(self, wait_s: float) -> QueueFullError:
        return QueueFullError(
            f"{self._queue} calls are waiting for each worker; come back later, or start dlserve with a longer --queue",
            "queue_full",
            max(1, math.ceil(wait_s)),
        )

    def _ask(
        self, call: PredictCall, view: WorkerView, *, lone: bool, foretold: tuple[float, float] | None
    ) -> "tuple[_Flight, asyncio.Future[Answer]]":
        """Send a call to a worker. Raises WorkerLostError at once if it is down."""
        link = self._pool.link_of(view)
        number = link.next_id()
        service, execution, output = call.service, call.execution, call.output
        sent = perf_counter()
        place = link.lend(number, call.body)
        job = Job(
            number,
            service.number,
            call.items,
            call.input,
            execution.cache,
            output.best,
            output.threshold,
            sent,
            lone,
            output.whole,
            call.deadline,
            place,
        )
        return _Flight(call, link, number, sent, foretold=foretold), link.ask(
            job, number, call.body if place == NOWHERE else ()
        )

    async def _run(self, call: PredictCall, chosen: _Choice) -> tuple[Reply, _Flight]:
        pool, service, view, request = self._pool, call.service.number, chosen.view, chosen.request
        lone = self._lookout.single() and (pool.board is None or pool.board.quiet_elsewhere())
        try:
            flight, answer_to_come = self._ask(call, view, lone=lone, foretold=chosen.foretold)
        except BaseException:
            pool.unclaim(view)
            raise
        self._flights.add(flight)
        if lone:
            self._lookout.watch(request.forward_s, chosen.predicted_s, flight.sent)
        waits = bool(view.batches)
        coming, cost, known = pool.began(view, request)
        flight.size = coming.images if waits else 0
        ended: float | None = None
        try:
            answer = await answer_to_come
            ended = _ended(answer) if isinstance(answer, Reply) else None
        except WorkerLostError:
            if flight.left:
                raise self._gone() from None
            raise
        finally:
            self._flights.discard(flight)
            pool.ended(view, request, coming, cost, ended)
            if flight.watcher is not None:
                flight.watcher.cancel()
                # It refers to the flight: the body would stay until the next collection of cycles.
                flight.watcher = None
        if isinstance(answer, Failure):
            if known == view.resident.get(service) == EXPECTED:
                del view.resident[service]  # it did not come to a load
                pool.expectations_changed(view)
            if answer.failure == "cancelled":
                raise self._gone()
            self.counts.expired += answer.failure == "expired"
            raise _FAILURES[answer.failure](answer.message)
        assert isinstance(answer, Reply)
        return answer, flight

    def _gone(self) -> ClientLeftError:
        self.counts.cancelled += 1
        return ClientLeftError()

    def _conclude(self, chosen: _Choice, reply: Reply, flight: _Flight) -> Outcome:
        now = perf_counter()
        call, sent, stages = flight.call, flight.sent, reply.stages
        self.counts.late += call.deadline is not None and now > call.deadline
        timing = Timing(
            (stages.received - sent) + (now - stages.replied),
            stages.decode,
            stages.queue,
            stages.demote,
            stages.load,
            stages.forward,
            stages.post,
        )
        return Outcome(reply, timing, now - call.began, chosen.predicted_s, chosen.view, flight)

    def learn(self, outcome: Outcome) -> None:
        """Learn of a call that was run; apart from `predict`, so that its answer need not wait for it."""
        reply, view, flight = outcome.reply, outcome.view, outcome.flight
        stages, images, service = reply.stages, len(reply.predictions), flight.call.service
        expected = service.expectation
        if view.prefetched and self._prefetcher is not None:
            self._prefetcher.answered(service, view)
        if expected.tells_nothing_new(stages.in_worker_s, stages.replied):
            view.learned_until = max(view.learned_until, _ended(reply))
            return
        expected.learned_at = stages.replied
        batch_s = reply.batch_s
        expected.learn_call(reply.decode_ahead_s / images, stages.post)
        if outcome.predicted_s:
            expected.learn_ratio(stages.in_worker_s / outcome.predicted_s)
            if flight.foretold is not None:
                expected.forecasts.learn(*flight.foretold, stages.in_worker_s)
        view.limits[service.number] = reply.pays_up_to or self._max_batch
        ended = _ended(reply)
        if flight.size and (waited_s := ended - batch_s - flight.sent) > 0:
            expected.joiners.learn(flight.size, waited_s, reply.batch_size - flight.size)
        if ended > view.learned_until + _SAME_S and images <= reply.batch_size:
            # Once for a batch, and not where it ran in parts.
            if not stages.load:
                could_begin = max(view.learned_until, stages.received + reply.decode_ahead_s)
                expected.learn_between(ended - batch_s - could_begin, batch_s)
            view.learned_until = ended
            expected.learn_forward(batch_s, reply.batch_size)

    # ---- looking after long calls

    async def sweep(self) -> None:
        """Until cancelled: watch the clients of calls that take long, and report workers that make no progress."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = perf_counter()
            for flight in self._flights:
                if flight.watcher is None and now - flight.sent > SWEEP_S:
                    flight.watcher = asyncio.create_task(self._watch(flight))
            for worker in self._pool.workers:
                if worker.link is None or worker.condemned:
                    continue
                last_progress = self._last_progress(worker.view.index, worker.link)
                if worker.link.open_questions and (idle_s := now - last_progress) > self._worker_timeout_s:
                    worker.condemned = True
                    self._stuck(worker.view.index, f"no progress for {idle_s:.1f} s with work to do")

    def _last_progress(self, worker: int, link: Link) -> float:
        """When a worker last answered anything, or was asked while idle: this front end, or another."""
        board = self._pool.board
        if board is None:
            return link.last_progress
        board.progressed(worker, link.last_progress)
        return board.last_progress(worker)

    async def _watch(self, flight: _Flight) -> None:
        await flight.call.left()
        flight.left = True
        flight.link.tell(Cancel(flight.job_id))
