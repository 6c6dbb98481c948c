"""A worker without threads or time: the real batcher, cache and policies, simulated models, a clock that is a number."""

import itertools
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from dlmodels.engines.base import Place
from dlmodels.engines.simulated import SimulatedEngine
from dlmodels.spec import ModelSpec
from dlserve.eviction import Eviction
from dlserve.forward_times import ForwardTimes
from dlserve.messages import Evicted, Loaded
from dlserve.worker.batcher import Batcher
from dlserve.worker.cache import ModelCache
from dlserve.worker.eviction import residence_s

MODEL_BYTES = 100


@dataclass(frozen=True)
class Call:
    """One request: of a model, due at a time."""

    arrival: int
    model: int
    due: float
    images: int = 1
    alone: bool = False
    deadline: float | None = None
    forward_times: ForwardTimes = field(default_factory=ForwardTimes)

    @property
    def received(self) -> float:
        """As soon as it is due."""
        return self.due

    @property
    def key(self) -> Hashable:
        """Calls of one model share batches."""
        return self.model


@dataclass
class Outcome:
    """What became of the calls, in order of their ends."""

    latencies_s: list[float] = field(default_factory=list)
    of_model: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """The latencies of each model's calls."""
    hits: int = 0
    loads: int = 0

    @property
    def hit_rate(self) -> float:
        """Of calls that found their weights on the device."""
        return self.hits / len(self.latencies_s)

    def percentile(self, share: float) -> float:
        """Latency that this share of the calls did not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Simulation:
    """One worker; `run` plays calls and returns what they found."""

    def __init__(
        self, models: int, *, fit: int, eviction: Eviction, load_s: float, forward_s: float, max_batch: int = 8
    ) -> None:
        self.now = 0.0
        engine = SimulatedEngine(Place("cpu", 1))
        engine.start()
        engine.sleep = self.pass_time
        self.events: list[Loaded | Evicted] = []
        self.cache = ModelCache(fit * MODEL_BYTES, self.note, eviction=eviction, clock=lambda: self.now)
        self.batcher: Batcher[Call] = Batcher(max_batch, self.cache)
        self.longest_wait_s = 0.0
        """That the load next in line had to wait for room."""
        parameters: dict[str, object] = {"load_s": load_s, "forward_s": forward_s, "bytes": MODEL_BYTES}
        for number in range(models):
            self.cache.add(number, engine.prepare(ModelSpec(f"m{number}", "simulated", parameters=parameters)))

    def pass_time(self, seconds: float) -> None:
        """What a sleep is here."""
        self.now += seconds

    def note(self, event: Loaded | Evicted) -> None:
        """Keep an event, and see that the budget holds at that very moment."""
        assert event.used_bytes <= self.cache.device.budget_bytes
        self.events.append(event)

    def run(self, calls: Sequence[Call]) -> Outcome:
        """Play calls, given in order of their due times."""
        outcome, coming = Outcome(), list(reversed(calls))
        while coming or len(self.batcher):
            while coming and coming[-1].due <= self.now:
                self.batcher.add(coming.pop())
            batch = self.batcher.take(self.now)
            self.longest_wait_s = max(self.longest_wait_s, self.batcher.room_in_s)
            if batch:
                self._play(batch, outcome)
                continue
            waits = [self.now + self.batcher.room_in_s] if self.batcher.room_in_s else []
            self.now = min([*waits, *(call.due for call in coming[-1:])])
        return outcome

    def _play(self, batch: list[Call], outcome: Outcome) -> None:
        model = batch[0].model
        if batch[0].alone:
            self.cache.demote(model, "disk")
        with self.cache.use(model, "cold" if batch[0].alone else "request", len(batch)) as resident:
            self.cache.check()
            resident.model.run([b"x"] * len(batch))
        self.cache.check()
        outcome.hits += len(batch) * (resident.found == "warm")
        outcome.loads += resident.found != "warm"
        latencies_s = [self.now - call.due for call in batch]
        outcome.latencies_s += latencies_s
        outcome.of_model[model] += latencies_s


def zipf_calls(count: int, models: int, exponent: float, rate: float, seed: int) -> list[Call]:
    """Poisson arrivals of requests whose model is drawn from Zipf's law; the same for a seed."""
    draws = random.Random(seed)
    weights = [1 / rank**exponent for rank in range(1, models + 1)]
    order = draws.sample(range(models), models)
    due = itertools.accumulate(draws.expovariate(rate) for _ in range(count))
    chosen = draws.choices(order, weights, k=count)
    return [Call(number, model, at) for number, (model, at) in enumerate(zip(chosen, due, strict=True))]


def early_evictions(events: Sequence[Loaded | Evicted]) -> list[tuple[int, float]]:
    """Models that left for another sooner after a load for a request than that had earned them: (service, seconds)."""
    loaded: dict[int, Loaded] = {}
    early = []
    for event in events:
        if event.tier != "device":
            continue
        if isinstance(event, Loaded):
            loaded[event.service] = event
        elif event.reason == "room":
            since = loaded[event.service]
            if since.why == "request" and event.at - since.at < residence_s(since.seconds) - 1e-9:
                early.append((event.service, event.at - since.at))
    return early
