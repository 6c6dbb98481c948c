"""A worker of a simulation: the server's own batcher and cache, and simulated models that pass a simulated time."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dlmodels.engines.base import Place, Temperature
from dlmodels.engines.simulated import SimulatedEngine
from dlmodels.errors import ModelError
from dlmodels.spec import ModelSpec

from dlserve.eviction import Eviction
from dlserve.forward_times import ForwardTimes
from dlserve.messages import TEMPERATURES, Evicted, Loaded
from dlserve.simulation.timeline import Timeline
from dlserve.worker.batcher import Batcher
from dlserve.worker.cache import ModelCache

_IMAGE = (b"image",)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A request on its worker."""

    model: int
    arrival: int
    """Its place in the order of arrival."""
    received: float
    """When it came."""
    found: Temperature
    """Where the weights were then."""
    forward_times: ForwardTimes
    """Of its model, on this worker."""
    deadline: float | None = None
    images: int = 1
    alone: bool = False

    @property
    def key(self) -> Hashable:
        """Jobs of one model may share a batch."""
        return self.model


@dataclass(frozen=True, slots=True)
class Done:
    """A job was run. Seconds."""

    load_s: float
    forward_s: float
    cache: Temperature
    batch_size: int
    ended: float
    """When the forward did."""
    pays_up_to: int
    """As in `Reply`."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of a worker, each at its time: the front end."""

    done: Callable[[int, Job, Done], None]
    moved: Callable[[int, Loaded | Evicted], None]
    prefetched: Callable[[int, int], None]
    """A hint was followed, or was of no use: worker, service."""


class SimulatedWorker:
    """Gets jobs, and tells the listener what came of them."""

    def __init__(
        self,
        index: int,
        specs: Sequence[ModelSpec],
        timeline: Timeline,
        listener: Listener,
        *,
        budget_bytes: int,
        host_bytes: int,
        eviction: Eviction,
        max_batch: int,
        batch_wait_s: float,
    ) -> None:
        """The services' numbers are the places of their models in `specs`. Raises ModelError of a bad profile."""
        self.index = index
        self.busy_s = 0.0
        self._timeline = timeline
        self._listener = listener
        self._passed_s = 0.0
        """Within what the device does now: its sleeps so far."""
        self._busy = False
        self._loading: tuple[int, float] = (-1, 0.0)
        """The service whose weights came last, and when they were there."""
        self._waking_s = 0.0
        self._forward_times = [ForwardTimes() for _ in specs]
        self._pastimes: list[int] = []
        self._arrivals = 0
        engine = SimulatedEngine(Place("cpu", 1, host_bytes))
        engine.start()
        engine.sleep = self._sleep
        self.cache = ModelCache(
            budget_bytes,
            self._moved,
            host_bytes=host_bytes,
            eviction=eviction,
            clock=lambda: timeline.now + self._passed_s,
        )
        self._batcher: Batcher[Job] = Batcher(max_batch, self.cache, batch_wait_s)
        for service, spec in enumerate(specs):
            self.cache.add(service, engine.prepare(spec))

    def add(self, service: int) -> Job:
        """A job has arrived."""
        self._arrivals += 1
        job = Job(service, self._arrivals, self._timeline.now, self._temperature(service), self._forward_times[service])
        self._batcher.add(job)
        self._go_on()
        return job

    def hint(self, service: int) -> None:
        """Load a service's weights once there is nothing else to do."""
        self._pastimes.append(service)
        self._go_on()

    def _temperature(self, service: int) -> Temperature:
        """Where the weights are now: while they are being loaded, not yet on the device."""
        loading, ready_s = self._loading
        return "disk" if service == loading and self._timeline.now < ready_s else self.cache.temperature(service)

    def _go_on(self) -> None:
        """Begin what is next, if the device is free."""
        if self._busy:
            return
        batch = self._batcher.take(self._timeline.now)
        if batch:
            self._begin(lambda: self._run(batch))
        elif self._batcher.again_in_s:
            self._wake_in(self._batcher.again_in_s)
        elif self._pastimes and not len(self._batcher):
            service = self._pastimes.pop(0)
            self._begin(lambda: self._prefetch(service))

    def _begin(self, work: Callable[[], Callable[[], None]]) -> None:
        """Do something with the device; what `work` returns is called when its time has passed."""
        self._busy, self._passed_s = True, 0.0
        told = work()
        took_s, self._passed_s = self._passed_s, 0.0
        self.busy_s += took_s

        def end() -> None:
            self._busy = False
            told()
            self._go_on()

        self._timeline.at(self._timeline.now + took_s, end)

    def _run(self, batch: Sequence[Job]) -> Callable[[], None]:
        """The batch, from weights to answers."""
        service = batch[0].model
        with self.cache.use(service, "request", len(batch)) as resident:
            loaded_s = self._passed_s
            resident.model.run(_IMAGE * len(batch))
            forward_s = self._passed_s - loaded_s
        ended, times = self._timeline.now + self._passed_s, self._forward_times[service]

        def told() -> None:
            times.learn(len(batch), forward_s)
            for job in batch:
                found = max(job.found, resident.found, key=TEMPERATURES.index)
                done = Done(resident.load_s, forward_s, found, len(batch), ended, times.pays_up_to)
                self._listener.done(self.index, job, done)

        return told

    def _prefetch(self, service: int) -> Callable[[], None]:
        with suppress(ModelError):  # a hint that cannot be followed is dropped, as by the server
            self.cache.prefetch(service)
        return lambda: self._listener.prefetched(self.index, service)

    def _wake_in(self, seconds: float) -> None:
        """Look again when there may be room, or company."""
        at_s = self._timeline.now + seconds
        if at_s != self._waking_s:
            self._waking_s = at_s
            self._timeline.at(at_s, self._go_on)

    def _moved(self, event: Loaded | Evicted) -> None:
        if isinstance(event, Loaded) and event.tier == "device":
            self._loading = (event.service, event.at)
        self._timeline.at(event.at, lambda: self._listener.moved(self.index, event))

    def _sleep(self, seconds: float) -> None:
        self._passed_s += seconds
