"""The front end of a simulation: the server's own policies and expectations over views of simulated workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dlserve.front.balancer import EXPECTED, Coming, Request, WorkerView
from dlserve.front.expectation import Expectation
from dlserve.front.policies import Policy
from dlserve.front.prefetching import worth_prefetching
from dlserve.messages import Evicted, Loaded
from dlserve.simulation.timeline import Timeline
from dlserve.simulation.worker import Done, Job, Listener, SimulatedWorker


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request under way."""

    coming: Coming
    answered: Callable[[int, Done], None]


class SimulatedFront:
    """Sends each request to the worker that the policy picks."""

    def __init__(
        self,
        services: int,
        timeline: Timeline,
        policy: Policy,
        make_workers: Callable[[Listener], Sequence[SimulatedWorker]],
        weights_bytes: Sequence[int],
        *,
        queue: int,
        prefetch: bool,
        max_batch: int,
        batch_wait_s: float,
        way_s: float,
    ) -> None:
        """`queue`: calls per worker. `way_s`: from here to a worker, and as long back."""
        self.expectations = [Expectation(weights_bytes=weights_bytes[number]) for number in range(services)]
        self.loads = 0
        self.evictions = 0
        self.workers = make_workers(Listener(self._done, self._moved, self._prefetched))
        self._views = [WorkerView(worker.index, free_bytes=worker.cache.device.budget_bytes) for worker in self.workers]
        self._timeline = timeline
        self._policy = policy
        self._queue = queue
        self._prefetch = prefetch
        self._max_batch = max_batch
        self._batch_wait_s = batch_wait_s
        self._way_s = way_s
        self._flights: dict[tuple[int, Job], _Flight] = {}

    def predict(self, service: int, answered: Callable[[int, Done], None]) -> bool:
        """A request; `answered` gets its worker and what came of it, when the answer is back. False: turned away."""
        request = self._request(service)
        position = self._policy(request, self._views, self._queue)
        if position is None:
            return False
        view = self._views[position]
        if self._prefetch and view.in_flight and service in view.resident:
            self._consider(request)
        self._send(request, view, answered)
        return True

    def pin(self, worker: int, service: int, answered: Callable[[int, Done], None]) -> None:
        """A request that insists on a worker."""
        self._send(self._request(service), self._views[worker], answered)

    def _request(self, service: int) -> Request:
        """As `Dispatcher` has it."""
        expected = self.expectations[service]
        return Request(
            service,
            1,
            None,
            expected.forward_s(1),
            expected.expected_load_s(),
            expected.expected_load_s("host"),
            self._timeline.now,
            expected.decode_s + self._batch_wait_s,
            self._max_batch,
            expected.forward,
        )

    def _send(self, request: Request, view: WorkerView, answered: Callable[[int, Done], None]) -> None:
        sent, worker = self._timeline.now, self.workers[view.index]
        coming, _ = view.sent(request)
        view.resident.setdefault(request.service, EXPECTED)

        def arrive() -> None:
            job = worker.add(request.service)
            self._flights[view.index, job] = _Flight(coming, answered)

        self._timeline.at(sent + self._way_s, arrive)

    def _done(self, worker: int, job: Job, done: Done) -> None:
        flight = self._flights.pop((worker, job))

        def back() -> None:
            view, expected = self._views[worker], self.expectations[job.model]
            view.answered(flight.coming, job.images, done.ended)
            view.prefetched.discard(job.model)
            view.limits[job.model] = done.pays_up_to or self._max_batch
            if done.ended > view.learned_until:  # once for a batch
                view.learned_until = done.ended
                expected.learn_forward(done.forward_s, done.batch_size)
            flight.answered(worker, done)

        self._timeline.at(self._timeline.now + self._way_s, back)

    def _moved(self, worker: int, event: Loaded | Evicted) -> None:
        """As `WorkerPool.moved` has it."""
        view = self._views[worker]
        if event.tier == "host":
            (view.staged.add if isinstance(event, Loaded) else view.staged.discard)(event.service)
            return
        view.free_bytes = self.workers[worker].cache.device.budget_bytes - event.used_bytes
        if isinstance(event, Evicted):
            self.evictions += 1
            view.resident.pop(event.service, None)
            view.prefetched.discard(event.service)
            return
        self.loads += 1
        view.resident[event.service] = "warm"
        if event.why == "prefetch":
            view.prefetched.add(event.service)
        self.expectations[event.service].learn_load(event.seconds, event.source)

    def _consider(self, request: Request) -> None:
        position = worth_prefetching(request, self.expectations[request.service].weights_bytes, self._views)
        if position is not None:
            self._views[position].prefetching.add(request.service)
            self.workers[self._views[position].index].hint(request.service)

    def _prefetched(self, worker: int, service: int) -> None:
        self._views[worker].prefetching.discard(service)
