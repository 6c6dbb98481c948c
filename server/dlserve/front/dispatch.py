"""The way of one request: service -> limits -> worker -> reply; one retry when a worker dies under it."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import msgspec
from dlmodels.images import InputSpec

from dlserve.errors import ApiError, InputError, InternalError, NoWorkerError, QueueFullError, RequestError
from dlserve.front.balancer import EXPECTED, Policy, Request, WorkerView, cost_s
from dlserve.front.link import Link, WorkerLostError
from dlserve.front.parameters import Execution, Output
from dlserve.front.pool import WorkerPool
from dlserve.front.prefetching import Prefetcher
from dlserve.front.services import Service
from dlserve.messages import Cancel, Failure, FailureKind, Item, Job, Reply

log = logging.getLogger(__name__)
STAGES = ("wire", "decode", "queue", "demote", "load", "forward", "post")
"""`wire` is the way to the worker and back; the others are the worker's own account."""
ATTEMPTS = 2
SWEEP_S = 0.05
"""How often long calls are checked for clients that have left, and workers for being stuck."""
SPIN_FORWARD_S = 100e-6
SPIN_S = 200e-6
"""While nothing but one call of so quick a model is under way, the event loop looks for its answer this long before it
sleeps: to be woken would cost about as much as the call."""
LONE_IN_A_ROW = 16
"""So many calls one after the other, none beside another, make a single client. Of several clients' calls many find
themselves alone for a moment too, and who spins then takes the processor from those that are about to come."""
_FAILURES: dict[FailureKind, type[ApiError]] = {
    "input": InputError,
    "request": RequestError,
    "model": InternalError,
    "internal": InternalError,
    "memory": InternalError,
}


class ClientLeftError(Exception):
    """The client closed its connection before its answer was ready; there is nobody to answer."""


class PredictCall(msgspec.Struct, eq=False):
    """One predict call. `body` holds the items' bytes in order; `began` is when the server first heard of it."""

    service: Service
    began: float
    left: Callable[[], Awaitable[None]]
    """Awaits the client's leaving; only asked for calls that take long."""
    items: tuple[Item, ...] = ()
    body: Sequence[bytes | memoryview] = ()
    input: InputSpec | None = None
    """None: the service's own."""
    output: Output = Output()
    execution: Execution = Execution()


class Outcome(msgspec.Struct, frozen=True):
    """A call's answer, the worker that gave it, and where its time went: seconds by stage, and in all."""

    reply: Reply
    worker: int
    timing: dict[str, float]
    total_s: float


class _Flight(msgspec.Struct, eq=False):
    """A job under way: what the sweep needs to know of it."""

    call: PredictCall
    link: Link
    job_id: int
    sent: float
    watcher: asyncio.Task[None] | None = None
    left: bool = False


@dataclass(slots=True)
class Counts:
    """What happened on the way, for the metrics."""

    retries: int = 0
    cancelled: int = 0


class Dispatcher:
    """Sends each call to the worker that the policy picks and brings its answer back."""

    def __init__(
        self,
        pool: WorkerPool,
        policy: Policy,
        *,
        queue: int,
        worker_timeout_s: float,
        wait_s: float,
        stuck: Callable[[int, str], None],
        prefetcher: Prefetcher | None = None,
    ) -> None:
        """`queue`: calls per worker. `wait_s`: how long a call waits while no worker is up. `stuck`: told of hung workers.

        `prefetcher`: told of calls that wait for their model behind others; None: nothing is loaded before it is asked for.
        """
        self.counts = Counts()
        self._pool = pool
        self._policy = policy
        self._queue = queue
        self._worker_timeout_s = worker_timeout_s
        self._wait_s = wait_s
        self._stuck = stuck
        self._prefetcher = prefetcher
        self._flights: set[_Flight] = set()
        self._waiting = 0
        """Calls for which no worker is up."""
        self._in_a_row = 0
        """Calls since two were under way at a time."""
        self._spin_until = 0.0
        self._spinning = False

    async def predict(self, call: PredictCall) -> Outcome:
        """Run a call. Raises ApiError with the answer's status, or ClientLeftError."""
        for attempt in range(ATTEMPTS):
            view, request = await self._choose(call)
            try:
                reply, sent = await self._run(call, view, request)
            except WorkerLostError:
                log.warning(
                    "worker %d died under a call of service %s (attempt %d)", view.index, call.service.name, attempt + 1
                )
                self.counts.retries += attempt + 1 < ATTEMPTS
                continue
            return self._conclude(call, view, reply, sent)
        raise NoWorkerError(
            f"{ATTEMPTS} workers died while running this call; if it happens again, its input or model is the cause: "
            "see the server's log"
        )

    async def _choose(self, call: PredictCall) -> tuple[WorkerView, Request]:
        expected = call.service.expectation
        images = len(call.items)
        request = Request(
            call.service.number,
            images,
            call.execution.cache,
            expected.forward_s(images),
            expected.expected_load_s(),
            expected.expected_load_s("host"),
        )
        pinned = call.execution.worker
        deadline = None
        while True:
            views = self._pool.views if pinned is None else self._pool.pinned(pinned)
            if views:
                break
            deadline = deadline or perf_counter() + self._wait_s
            await self._wait_for_a_worker(call, deadline - perf_counter())
        if pinned is None:
            position = self._policy(request, views, self._queue)
        else:
            position = 0 if views[0].in_flight < self._queue else None
        if position is None:
            raise self._full(min(view.work_s for view in views))
        chosen = views[position]
        if self._prefetcher is not None and pinned is None and chosen.in_flight and request.service in chosen.resident:
            self._prefetcher.consider(call.service, request)
        return chosen, request

    async def _wait_for_a_worker(self, call: PredictCall, timeout_s: float) -> None:
        """Wait, among a bounded number, until a worker comes or goes. Raises ClientLeftError if the client does."""
        if self._waiting >= self._queue * len(self._pool.workers):
            raise self._full(1.0)
        self._waiting += 1
        change = asyncio.ensure_future(self._pool.wait_for_change(timeout_s))
        left = asyncio.ensure_future(call.left())
        try:
            await asyncio.wait({change, left}, return_when=asyncio.FIRST_COMPLETED)
            if not change.done():
                raise self._gone()
            change.result()
        finally:
            self._waiting -= 1
            change.cancel()
            left.cancel()

    def _full(self, wait_s: float) -> QueueFullError:
        return QueueFullError(
            f"{self._queue} calls are waiting for each worker; come back later, or start dlserve with a longer --queue",
            "queue_full",
            max(1, math.ceil(wait_s)),
        )

    async def _run(self, call: PredictCall, view: WorkerView, request: Request) -> tuple[Reply, float]:
        link = self._pool.link_of(view)
        number = link.next_id()
        service, execution, output = call.service, call.execution, call.output
        cost = cost_s(request, view)
        sent = perf_counter()
        self._in_a_row = 0 if self._flights else self._in_a_row + 1
        lone = self._in_a_row > LONE_IN_A_ROW
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
        )
        answer_to_come = link.ask(job, number, call.body)
        flight = _Flight(call, link, number, sent)
        self._flights.add(flight)
        if lone and request.forward_s < SPIN_FORWARD_S:
            self._spin_until = sent + SPIN_S
            if not self._spinning:
                self._spin()
        view.in_flight += 1
        view.work_s += cost
        expected = view.resident.setdefault(service.number, EXPECTED)  # the next call of it may follow this one
        try:
            answer = await answer_to_come
        except WorkerLostError:
            if flight.left:
                raise self._gone() from None
            raise
        finally:
            self._flights.discard(flight)
            view.in_flight -= 1
            view.work_s = view.work_s - cost if view.in_flight else 0.0
            if flight.watcher is not None:
                flight.watcher.cancel()
        if isinstance(answer, Failure):
            if expected == view.resident.get(service.number) == EXPECTED:
                del view.resident[service.number]  # it did not come to a load
            if answer.failure == "cancelled":
                raise self._gone()
            raise _FAILURES[answer.failure](answer.message)
        assert isinstance(answer, Reply)
        return answer, sent

    def _spin(self) -> None:
        """Keep the event loop from sleeping while the only call is about to be answered."""
        self._spinning = bool(self._flights) and perf_counter() < self._spin_until
        if self._spinning:
            asyncio.get_running_loop().call_soon(self._spin)

    def _gone(self) -> ClientLeftError:
        self.counts.cancelled += 1
        return ClientLeftError()

    def _conclude(self, call: PredictCall, view: WorkerView, reply: Reply, sent: float) -> Outcome:
        now = perf_counter()
        stages = reply.stages
        call.service.expectation.learn_forward(stages.forward, reply.batch_size)
        if view.prefetched and self._prefetcher is not None:
            self._prefetcher.answered(call.service, view)
        timing = {  # by STAGES, in their order
            "wire": (stages.received - sent) + (now - stages.replied),
            "decode": stages.decode,
            "queue": stages.queue,
            "demote": stages.demote,
            "load": stages.load,
            "forward": stages.forward,
            "post": stages.post,
        }
        return Outcome(reply, view.index, timing, now - call.began)

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
                link = worker.link
                if link is None or worker.condemned or not link.open_questions:
                    continue
                if (idle_s := now - link.last_progress) > self._worker_timeout_s:
                    worker.condemned = True
                    self._stuck(worker.view.index, f"no progress for {idle_s:.1f} s with work to do")

    async def _watch(self, flight: _Flight) -> None:
        await flight.call.left()
        flight.left = True
        flight.link.tell(Cancel(flight.job_id))
