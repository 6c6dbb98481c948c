"""The models of one device: two tiers of weights, each with a byte budget. Knows engines only by their contract.

A model is added once, prepared and without weights; `use` brings its weights to the device if they are not there and
keeps them there while it is used. Where the engine has a host tier, a load from disk goes by way of it, so that a model
that must leave the device later is in host memory yet. Budgets count the weights' bytes and are never exceeded, not even
while a model loads. One lock guards everything and is held during a load: loads are single-flight, and whoever asks for
the same model meanwhile finds it warm.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from types import TracebackType

import msgspec
from dlmodels.engines.base import Model, Temperature
from dlmodels.errors import OutOfMemoryError
from dlmodels.spec import ModelSpec

from dlserve.eviction import Eviction
from dlserve.messages import Evicted, Loaded, Why
from dlserve.worker.entry import CannotFitError, Entry, Reason, mib
from dlserve.worker.eviction import rank_of, residence_s, room_after_s, victims
from dlserve.worker.host_tier import HostTier
from dlserve.worker.tier import Books

log = logging.getLogger(__name__)


class Resident(msgspec.Struct, frozen=True, gc=False):
    """A model whose weights are on the device."""

    model: Model
    found: Temperature
    """Where its weights were when it was asked for."""
    load_s: float
    """What getting it cost: evictions and load; 0 where it was warm."""


class ModelCache:
    """The prepared models of one device, and where their weights are."""

    def __init__(
        self,
        budget_bytes: int,
        on_event: Callable[[Loaded | Evicted], None],
        *,
        host_bytes: int = 0,
        eviction: Eviction = "value",
        reading: Callable[[ModelSpec], AbstractContextManager[None]] = lambda spec: nullcontext(),  # noqa: ARG005  none is told
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """`reading`: entered around every reading of a model's files."""
        self.device = Books("device", budget_bytes)
        self._on_event = on_event
        self._rank = rank_of(eviction)
        self._host = HostTier(host_bytes, self._rank, on_event, reading, clock)
        self._reading = reading
        self._clock = clock
        self._entries: dict[int, Entry] = {}
        self._lock = threading.RLock()

    @property
    def host(self) -> Books:
        """What is in host memory."""
        return self._host.books

    def __contains__(self, service: int) -> bool:
        """Whether the service's weights are on the device now."""
        return service in self.device

    def temperature(self, service: int) -> Temperature:
        """Where the service's weights are now. Never waits, not even for a load."""
        return "warm" if service in self.device else "host" if service in self._host else "disk"

    def wait_s(self, service: int) -> float:
        """Seconds until the service can be used; 0 also where waiting would not help, and `use` says why.

        It must be waited for where there is room only if a model leaves that has not earned its load yet.
        """
        with self._lock:
            entry = self._entries.get(service)
            if entry is None or service in self.device:
                return 0.0
            lacking = self.device.lacking(entry.model.weights_bytes)
            if lacking <= 0:
                return 0.0
            now = self._clock()
            leaving = [
                (max(other.usage.stays_until - now, 0.0), self.device.size_of(other.service))
                for other in self._evictable()
            ]
            return room_after_s(leaving, lacking) or 0.0

    def add(self, service: int, model: Model, *, pinned: bool = False) -> None:
        """Keep a prepared model for a service; a pinned one never leaves the device for another's sake."""
        with self._lock:
            self._entries[service] = Entry(service, model, pinned)

    def use(self, service: int, why: Why = "request", requests: int = 1) -> AbstractContextManager[Resident]:
        """The service's model, on the device and staying there inside the `with`. `requests`: that want it at once.

        Entering raises CannotFitError, or LoadError or OutOfMemoryError from the model; nothing of it is then on the device.
        """
        return _Use(self, service, why, requests)

    def _take(self, service: int, why: Why, requests: int) -> tuple[Entry, Resident]:
        with self._lock:
            entry = self._entries[service]
            if why in {"request", "cold"}:
                # A cold start gains nothing by a warm model: it is no reason to keep it.
                entry.usage.used(self._clock(), requests if why == "request" else 0)
            resident = self._ensure(entry, why)
            entry.users += 1
        return entry, resident

    def _give_back(self, entry: Entry) -> None:
        with self._lock:
            entry.users -= 1

    def prefetch(self, service: int) -> float:
        """Bring the service's weights to the device if no other must leave for them; the seconds of the load, 0 if none.

        Raises as `use` does.
        """
        with self._lock:
            entry = self._entries.get(service)
            if entry is None or service in self.device or self.device.lacking(entry.model.weights_bytes) > 0:
                return 0.0
            return self._ensure(entry, "prefetch").load_s

    def demote(self, service: int, to: Temperature) -> None:
        """Make the service's weights as cold as a request asked. Harmless where they are.

        "host": they are staged first where they must be. Raises CannotFitError, LoadError or OutOfMemoryError.
        """
        with self._lock:
            entry = self._entries[service]
            if to == "host" and service not in self._host:
                self._host.make_room(entry)
                self._host.stage(entry, "cold")
            if service in self.device:
                self._evict(entry, "asked")
            if to == "disk":
                self._host.unstage(entry, "asked")

    def forget(self, service: int) -> None:
        """Drop a deleted service's weights and its skeleton. Harmless when it was never added."""
        with self._lock:
            entry = self._entries.get(service)
            if entry is None:
                return
            if service in self.device:
                self._evict(entry, "forgotten")
            self._host.unstage(entry, "forgotten")
            del self._entries[service]

    def clear(self) -> None:
        """Drop every model."""
        with self._lock:
            for service in list(self._entries):
                self.forget(service)

    def check(self) -> None:
        """Raise AssertionError if the books do not balance; for tests."""
        with self._lock:
            for books in (self.device, self.host):
                books.check(set(self._entries))
            for entry in self._entries.values():
                name = entry.model.spec.name
                if entry.users < 0:
                    raise AssertionError(f"{name} was given back more often than taken: {entry.users}")
                if entry.users and entry.service not in self.device:
                    raise AssertionError(f"{name} is in use and not on the device")
                if entry.model.staged != (entry.service in self._host):
                    raise AssertionError(f"{name}: the books of the host tier are wrong about it")

    # ---- onto the device

    def _ensure(self, entry: Entry, why: Why) -> Resident:
        service, model, usage = entry.service, entry.model, entry.usage
        if service in self.device:
            return Resident(model, "warm", 0.0)
        found = self.temperature(service)
        began = self._clock()
        self._make_room(entry)
        if found == "disk" and self._host.welcomes(entry):
            self._host.stage(entry, why)
        copy_from = self.temperature(service)
        copy_s = self._load(entry)
        now = self._clock()
        usage.learn(copy_from, copy_s)
        if copy_from != found:
            usage.learn(found, now - began)
        # What nobody has waited for has nothing to earn; a cold start measures, it does not want the model.
        usage.stays_until = now + residence_s(now - began) if why == "request" else now
        size = model.weights_bytes
        self.device.put(service, size)
        self._on_event(Loaded(service, "device", found, why, now, now - began, size, self.device.used_bytes))
        return Resident(model, found, self._clock() - began)

    def _load(self, entry: Entry) -> float:
        """Load; where the device has less room than the budget says, evict all that is unused and try once more."""
        try:
            return self._timed_load(entry)
        except OutOfMemoryError as exc:
            evictable = self._evictable()
            if not evictable:
                raise
            log.warning(
                "no memory to load service %d (%s): evicting %d unused models and trying again; a smaller --cache-mb"
                " would keep this from happening",
                entry.service,
                exc,
                len(evictable),
            )
        for other in evictable:
            self._evict(other, "room")
        return self._timed_load(entry)

    def _timed_load(self, entry: Entry) -> float:
        """Load and return the seconds it took; what a failed load has left is given back."""
        with nullcontext() if entry.service in self._host else self._reading(entry.model.spec):
            began = self._clock()
            try:
                entry.model.load()
            except BaseException:
                entry.model.unload()
                raise
            return self._clock() - began

    def _make_room(self, entry: Entry) -> None:
        name, size, budget = entry.model.spec.name, entry.model.weights_bytes, self.device.budget_bytes
        if size > budget:
            raise CannotFitError(
                f"model {name!r} needs {mib(size)} on the device and this worker's budget is"
                f" {mib(budget)}: raise --cache-mb or serve a smaller model"
            )
        now = self._clock()
        free = [other for other in self._evictable() if other.usage.stays_until <= now]
        candidates = [other.candidate("host" if other.service in self._host else "disk", now) for other in free]
        leaving = victims(candidates, self.device.lacking(size), self._rank)
        if leaving is None:
            held = self.device.used_bytes - sum(self.device.size_of(other.service) for other in free)
            raise CannotFitError(
                f"model {name!r} needs {mib(size)} on the device; of this worker's {mib(budget)} the models that are"
                f" pinned, in use just now or have only just been loaded hold {mib(held)}: try again, pin fewer models,"
                " or raise --cache-mb"
            )
        for service in leaving:
            self._evict(self._entries[service], "room")

    def _evictable(self) -> list[Entry]:
        """Models on the device that nobody uses and that are not pinned."""
        on_device = (self._entries[service] for service in self.device.services)
        return [entry for entry in on_device if not entry.users and not entry.pinned]

    def _evict(self, entry: Entry, reason: Reason) -> None:
        if entry.users:
            raise RuntimeError(f"service {entry.service} is in use and must not leave the device")
        entry.model.unload()
        size = self.device.take(entry.service)
        self._on_event(Evicted(entry.service, "device", reason, self._clock(), size, self.device.used_bytes))


class _Use:
    """What `ModelCache.use` returns; a class, for a generator would cost a job more than the rest of it."""

    __slots__ = ("_cache", "_entry", "_requests", "_service", "_why")

    def __init__(self, cache: ModelCache, service: int, why: Why, requests: int) -> None:
        self._cache = cache
        self._service = service
        self._why: Why = why
        self._requests = requests
        self._entry: Entry | None = None

    def __enter__(self) -> Resident:
        self._entry, resident = self._cache._take(self._service, self._why, self._requests)  # noqa: SLF001  a part of it
        return resident

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._entry is not None
        self._cache._give_back(self._entry)  # noqa: SLF001  as above
