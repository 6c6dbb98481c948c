"""The workers as a front end sees them: who is connected and ready, what each holds, how much is under way there."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from dlserve.board import Board
from dlserve.errors import NoWorkerError, RequestError
from dlserve.front.balancer import EXPECTED, Coming, Request, WorkerView
from dlserve.front.link import Link, WorkerLostError
from dlserve.front.services import Registry, Service
from dlserve.messages import (
    Define,
    Described,
    EngineFacts,
    Evicted,
    Forget,
    Hello,
    Loaded,
    Prefetch,
    Prepare,
    Prepared,
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Worker:
    """One worker. `link` is None while it is down; `ready` once it knows the services and has preloaded."""

    view: WorkerView
    link: Link | None = None
    hello: Hello | None = None
    ready: bool = False
    condemned: bool = False
    """Reported as stuck; the supervisor will replace it."""
    used_bytes: int = 0
    """Of the device's budget."""
    host_used_bytes: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class PoolEvents:
    """Who wants to know what happens to workers."""

    ready: Callable[[int], None]
    """A worker may be given requests."""
    failed: Callable[[int, str], None]
    """A worker could not be made ready: why."""
    moved: Callable[[int, Service | None, Loaded | Evicted], None]
    """Weights came into a worker's tier or left it."""


class WorkerPool:
    """Keeps one `Worker` for each position, across restarts of its process."""

    def __init__(
        self, count: int, registry: Registry, preload: Sequence[str], events: PoolEvents, board: Board | None = None
    ) -> None:
        """`board`: shared with other front ends; None: there are none."""
        self.board = board
        self._promised = False
        """Whether front ends had promised workers loads when the views were last refreshed."""
        self.workers = [Worker(WorkerView(index)) for index in range(count)]
        self.views: list[WorkerView] = []
        """Of the workers that are ready."""
        self._registry = registry
        self._preload = preload
        self._events = events
        self._change = asyncio.Event()
        self._unsettled: dict[int, Service] = {}
        """Services being made: defined, and not yet in the registry."""
        self._greetings: set[asyncio.Task[None]] = set()

    # ---- the links' owner

    def joined(self, link: Link, hello: Hello) -> None:
        """Tell a new worker the services; it is ready once it has preloaded what it must."""
        worker = self.workers[hello.worker]
        if worker.link is not None:
            worker.link.close()
        worker.link, worker.hello = link, hello
        worker.view = WorkerView(hello.worker, free_bytes=hello.budget_bytes)
        self.expectations_changed(worker.view)
        worker.restarts, worker.used_bytes, worker.host_used_bytes = hello.generation, 0, 0
        worker.condemned = False
        if worker.ready:
            worker.ready = False
            self._ready_changed()
        for service in [*self._registry, *self._unsettled.values()]:
            link.tell(Define(service.number, service.spec))
        task = asyncio.get_running_loop().create_task(self._greet(worker, link))
        self._greetings.add(task)
        task.add_done_callback(self._greetings.discard)

    async def _greet(self, worker: Worker, link: Link) -> None:
        index = worker.view.index
        try:
            for service in self._registry:  # those of them that a client has deleted since are left out
                if not ({"all", service.name} & set(self._preload)) or self._registry.by_number(service.number) is None:
                    continue
                prepared = await self._ask_prepare(link, service, load=True)
                if prepared.failure is not None and self._registry.by_number(service.number) is not None:
                    self._events.failed(index, f"--preload {service.name}: {prepared.error}")
                    return
        except WorkerLostError:
            return  # the supervisor sees the process end and says why
        if worker.link is link:
            worker.ready = True
            self._ready_changed()
            self._events.ready(index)

    def left(self, link: Link) -> None:
        """A worker's connection ended: it is down until the next one says Hello."""
        for worker in self.workers:
            if worker.link is link:
                worker.link, worker.ready, worker.used_bytes, worker.host_used_bytes = None, False, 0, 0
                worker.view = WorkerView(worker.view.index)
                self.expectations_changed(worker.view)
                self._ready_changed()

    def moved(self, link: Link, event: Loaded | Evicted) -> None:
        """Keep the residency of a worker as it reports it."""
        for worker in self.workers:
            if worker.link is link:
                service = self._registry.by_number(event.service)
                if event.tier == "host":
                    worker.host_used_bytes = event.used_bytes
                    (worker.view.staged.add if isinstance(event, Loaded) else worker.view.staged.discard)(event.service)
                else:
                    self._moved_on_device(worker, service, event)
                if event.counts:
                    self._events.moved(worker.view.index, service, event)

    def _moved_on_device(self, worker: Worker, service: Service | None, event: Loaded | Evicted) -> None:
        view = worker.view
        worker.used_bytes = event.used_bytes
        if worker.hello is not None:
            view.free_bytes = worker.hello.budget_bytes - event.used_bytes
        if isinstance(event, Evicted):
            view.resident.pop(event.service, None)
            view.prefetched.discard(event.service)
            return
        view.resident[event.service] = "warm"
        self.expectations_changed(view)
        if event.why == "prefetch" and event.counts:
            view.prefetched.add(event.service)
        if service is not None and event.why != "standing":
            service.expectation.learn_load(event.seconds, event.source)

    def described(self, _link: Link, facts: Described) -> None:
        """Keep what a worker says of a service since it has built it; all workers of one kind say the same."""
        service = self._unsettled.get(facts.service) or self._registry.by_number(facts.service)
        if service is not None:
            service.settings, service.reload_tiers = facts.settings, facts.reload_tiers
            service.expectation.weights_bytes = facts.weights_bytes

    def _ready_changed(self) -> None:
        self.views = [worker.view for worker in self.workers if worker.ready]
        changed, self._change = self._change, asyncio.Event()
        changed.set()

    # ---- what is under way

    def claim(self, view: WorkerView, queue: int) -> bool:
        """Take a place in a worker's queue before any other front end can; `began` or `unclaim` must follow.

        Counted first and looked at then, so that of two that are at it at once never both are let in.
        """
        if self.board is None or self.board.began(view.index) <= queue:
            return True
        self.unclaim(view)
        return False

    def unclaim(self, view: WorkerView) -> None:
        """Give up a place: nothing was sent."""
        if self.board is not None:
            self.board.ended(view.index, 0.0)

    def began(self, view: WorkerView, request: Request) -> tuple[Coming, float, str]:
        """A call was sent: its batch, the seconds that it adds, and how the worker has its model, "warm" or EXPECTED."""
        coming, cost_s = view.sent(request)
        if self.board is not None:
            self.board.works(view.index, cost_s)
        known = view.resident.get(request.service)
        if known is None:
            known = view.resident[request.service] = EXPECTED  # the next call of it may follow this one
            self.expectations_changed(view)
        return coming, cost_s, known

    def ended(self, view: WorkerView, request: Request, coming: Coming, cost_s: float, at: float | None) -> None:
        """A call that was sent is answered, or lost; `at`: when its forward ended, if it ran."""
        view.answered(coming, request.images, perf_counter() if at is None else at, ran=at is not None)
        if self.board is not None:
            self.board.ended(view.index, cost_s)

    def refresh(self, views: Sequence[WorkerView]) -> None:
        """Have the views say what all front ends together have under way."""
        board = self.board
        if board is None:
            return
        promises, *loads = board.loads()
        workers = len(self.workers)
        for view in views:
            view.in_flight, view.work_s = int(loads[view.index]), loads[workers + view.index]
        if promises or self._promised:
            self._promised = bool(promises)
            for view in (worker.view for worker in self.workers):
                view.awaited, view.hinted = board.awaited(view.index), board.hinted(view.index)

    def expectations_changed(self, view: WorkerView) -> None:
        """Tell the other front ends what calls and hints on their way will load on a worker."""
        if self.board is not None:
            expected = [service for service, state in view.resident.items() if state == EXPECTED]
            self.board.expects(view.index, expected, next(iter(view.prefetching), None))

    # ---- what the front end asks of it

    def describe(self) -> dict[str, Any]:
        """The workers and engines, for /info."""
        workers = [
            {
                "worker": worker.view.index,
                "up": worker.ready,
                "device": worker.hello.device if worker.hello else "",
                "device_name": worker.hello.device_name if worker.hello else "",
                "budget_bytes": worker.hello.budget_bytes if worker.hello else 0,
                "used_bytes": worker.used_bytes,
                "host_bytes": worker.hello.host_bytes if worker.hello else 0,
                "host_used_bytes": worker.host_used_bytes,
                "generation": worker.restarts,
            }
            for worker in self.workers
        ]
        engines = next((worker.hello.engines for worker in self.workers if worker.hello), ())
        return {"workers": workers, "engines": {engine.name: _described(engine) for engine in engines}}

    async def wait_for_change(self, timeout_s: float) -> None:
        """Return once a worker became ready or went away. Raises NoWorkerError after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._change.wait()
        except TimeoutError:
            raise NoWorkerError("no worker is up, and none came back in time; see the server's log") from None

    async def wait_empty(self) -> None:
        """Return once no worker is connected any more."""
        while any(worker.link is not None for worker in self.workers):
            await self._change.wait()

    def link_of(self, view: WorkerView) -> Link:
        """The connection of a worker. Raises WorkerLostError if it is down."""
        link = self.workers[view.index].link
        if link is None:
            raise WorkerLostError("not connected")
        return link

    def pinned(self, index: int) -> list[WorkerView]:
        """The one worker that a request insists on, as a list for the policy. Raises RequestError if there is none."""
        if not 0 <= index < len(self.workers):
            last = len(self.workers) - 1
            raise RequestError(f"parameters.mllib.worker is {index}: this server's workers are 0 to {last}")
        return [view for view in self.views if view.index == index]

    def define(self, service: Service) -> None:
        """Make a service known to every worker that is up, and to those that join; `settled` or `forget` must follow."""
        self._unsettled[service.number] = service
        for worker in self.workers:
            if worker.link is not None:
                worker.link.tell(Define(service.number, service.spec))

    def settled(self, service: Service) -> None:
        """A service that was defined is in the registry now."""
        self._unsettled.pop(service.number, None)

    def forget(self, service: Service) -> None:
        """Free what a deleted service holds everywhere."""
        self._unsettled.pop(service.number, None)
        for view in self.views:
            view.resident.pop(service.number, None)
        for worker in self.workers:
            if worker.link is not None:
                worker.link.tell(Forget(service.number))

    async def prepare(self, service: Service, timeout_s: float) -> Prepared:
        """Have one worker check the service's files and build it, trying another if that worker dies.

        Raises NoWorkerError if none is left to try.
        """
        for _ in range(2):
            while not self.views:
                await self.wait_for_change(timeout_s)
            view = min(self.views, key=lambda view: view.work_s)
            try:
                return await self._ask_prepare(self.link_of(view), service, load=False)
            except WorkerLostError:
                log.warning("worker %d died while it prepared service %s", view.index, service.name)
        raise NoWorkerError(f"two workers died while preparing service {service.name}; see the server's log")

    async def load(self, service: Service, timeout_s: float) -> Prepared:
        """Have every worker that is up bring a service's weights onto its device; a failure, if one has failed.

        A worker that dies meanwhile is left out, and if all do, all are asked once more. Raises NoWorkerError.
        """
        for _ in range(2):
            while not self.views:
                await self.wait_for_change(timeout_s)
            asked = [self._ask_prepare(self.link_of(view), service, load=True) for view in self.views]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            prepared = [answer for answer in answers if isinstance(answer, Prepared)]
            if prepared:
                return next((answer for answer in prepared if answer.failure is not None), prepared[0])
            for answer in answers:
                if not isinstance(answer, WorkerLostError):
                    assert isinstance(answer, BaseException)
                    raise answer
            log.warning("every worker died while it loaded service %s", service.name)
        raise NoWorkerError(f"every worker died while loading service {service.name}, twice; see the server's log")

    async def prefetch(self, service: Service, view: WorkerView) -> Prepared:
        """Hint a worker to load a service once it has nothing to do. Raises WorkerLostError."""
        link = self.link_of(view)
        number = link.next_id()
        answer = await link.ask(Prefetch(number, service.number), number)
        assert isinstance(answer, Prepared)
        return answer

    async def _ask_prepare(self, link: Link, service: Service, *, load: bool) -> Prepared:
        number = link.next_id()
        answer = await link.ask(Prepare(number, service.number, load), number)
        assert isinstance(answer, Prepared)
        return answer


def _described(engine: EngineFacts) -> dict[str, Any]:
    """An engine, for /info."""
    return {
        "available": not engine.missing,
        "version": engine.version,
        "formats": engine.formats,
        "devices": engine.devices,
        "settings": engine.settings,
    } | ({"missing": engine.missing} if engine.missing else {})
