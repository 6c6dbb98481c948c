"""Loading a hot model on a worker that has nothing to do, before a request has to wait for that load.

`worth_prefetching` is pure: no I/O, no clock. A hint costs an idle worker a load and nobody else anything: the worker takes
it only while its device has nothing to do, and only into room that is free.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dlserve.front.balancer import Request, WorkerView, load_s_on
from dlserve.front.link import WorkerLostError
from dlserve.front.pool import WorkerPool
from dlserve.front.services import Service

log = logging.getLogger(__name__)
PREFETCH_SHARE = 0.5
"""Of a load elsewhere: a queue that costs more than this where the model is, is worth the load."""

OUTCOMES = ("loaded", "declined", "failed")
"""Declined: the worker had no room or no need any more."""


def worth_prefetching(request: Request, weights_bytes: int, workers: Sequence[WorkerView]) -> int | None:
    """The position of the worker that should load the request's model beside those that have it; None: nobody.

    Of several the one with the quickest load, then the most room. Cold starts are measured, never helped.
    """
    service = request.service
    free: list[int] = []
    for position, worker in enumerate(workers):  # of nearly all calls this is all: nobody is idle and without the model
        if worker.in_flight or service in worker.resident or worker.prefetching:
            continue
        if not worker.hinted and service not in worker.awaited and worker.free_bytes >= weights_bytes:
            free.append(position)
    if (
        not free
        or request.cache not in (None, "warm")
        or any(service in worker.prefetching or service in worker.hinted for worker in workers)
    ):
        return None
    queue_s = min((worker.work_s for worker in workers if service in worker.resident), default=0.0)
    free = [position for position in free if queue_s > PREFETCH_SHARE * load_s_on(request, workers[position])]
    return min(free, key=lambda p: (load_s_on(request, workers[p]), -workers[p].free_bytes), default=None)


@dataclass(slots=True)
class Hints:
    """What came of the hints, for the metrics."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (service, outcome)."""
    used: Counter[str] = field(default_factory=Counter)
    """Prefetched models that a request has found warm, by service."""


class Prefetcher:
    """Sends the hints, and counts what came of them."""

    def __init__(self, pool: WorkerPool) -> None:
        self.hints = Hints()
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()

    def consider(self, service: Service, request: Request) -> None:
        """A request waits behind others for its model: see whether it should be loaded elsewhere too."""
        position = worth_prefetching(request, service.expectation.weights_bytes, self._pool.views)
        if position is None:
            return
        view = self._pool.views[position]
        view.prefetching.add(service.number)
        self._pool.expectations_changed(view)
        task = asyncio.get_running_loop().create_task(self._hint(service, view))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def answered(self, service: Service, view: WorkerView) -> None:
        """A worker has answered a request of the service."""
        if service.number in view.prefetched:
            view.prefetched.discard(service.number)
            self.hints.used[service.name] += 1

    async def _hint(self, service: Service, view: WorkerView) -> None:
        try:
            prepared = await self._pool.prefetch(service, view)
        except WorkerLostError:
            return  # its successor is another worker, with a view of its own
        finally:
            view.prefetching.discard(service.number)
            self._pool.expectations_changed(view)
        if prepared.failure is not None:
            log.warning("service %s could not be prefetched: %s", service.name, prepared.error)
        outcome = "failed" if prepared.failure else "loaded" if prepared.load_s else "declined"
        self.hints.outcomes[service.name, outcome] += 1
