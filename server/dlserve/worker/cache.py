"""The models of one device: a byte budget, least recently used first out. Knows engines only by their contract.

A model is added once, prepared and without weights; `use` brings its weights to the device if they are not there and
keeps them there while it is used. The budget counts the weights' bytes on the device and is never exceeded, not even
while a model loads. One lock guards everything and is held during a load: loads are single-flight, and whoever asks for
the same model meanwhile finds it warm.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

from dlmodels.engines.base import Model, Temperature
from dlmodels.errors import ModelError, OutOfMemoryError

from dlserve.messages import Evicted, Loaded

log = logging.getLogger(__name__)
_MIB = 1 << 20
Reason = Literal["room", "asked", "forgotten"]


class CannotFitError(ModelError):
    """The budget has no room for a model's weights, whatever is evicted."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model whose weights are on the device."""

    model: Model
    found: Temperature
    """Where its weights were when it was asked for."""
    load_s: float
    """What getting it cost: evictions and load; 0 where it was warm."""


class ModelCache:
    """The prepared models of one device, and which of them have their weights there."""

    def __init__(self, budget_bytes: int, on_event: Callable[[Loaded | Evicted], None]) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._on_event = on_event
        self._models: dict[int, Model] = {}
        self._resident: dict[int, int] = {}
        """Service -> bytes on the device, least recently used first."""
        self._users: Counter[int] = Counter()
        self._lock = threading.RLock()

    def __contains__(self, service: int) -> bool:
        """Whether the service's weights are on the device now."""
        return service in self._resident

    def add(self, service: int, model: Model) -> None:
        """Keep a prepared model for a service."""
        with self._lock:
            self._models[service] = model

    @contextmanager
    def use(self, service: int) -> Iterator[Resident]:
        """The service's model, on the device and staying there inside the `with`.

        Raises CannotFitError, or LoadError or OutOfMemoryError from the model; nothing of it is then on the device.
        """
        with self._lock:
            resident = self._ensure(service)
            self._users[service] += 1
        try:
            yield resident
        finally:
            with self._lock:
                self._users[service] -= 1

    def demote(self, service: int) -> None:
        """Take the service's weights off the device because a request asked for a cold start. Harmless when cold."""
        with self._lock:
            if service in self._resident:
                self._evict(service, "asked")

    def forget(self, service: int) -> None:
        """Drop a deleted service's weights and its skeleton. Harmless when it was never added."""
        with self._lock:
            if service in self._resident:
                self._evict(service, "forgotten")
            self._models.pop(service, None)
            self._users.pop(service, None)

    def clear(self) -> None:
        """Drop every model."""
        with self._lock:
            for service in list(self._models):
                self.forget(service)

    def check(self) -> None:
        """Raise AssertionError if the books do not balance; for tests."""
        with self._lock:
            used = sum(self._resident.values())
            if used != self.used_bytes:
                raise AssertionError(f"{self.used_bytes} bytes are booked, the models take {used}")
            if used > self.budget_bytes:
                raise AssertionError(f"{used} bytes are used of a budget of {self.budget_bytes}")
            if strangers := set(self._resident) - set(self._models):
                raise AssertionError(f"weights of unknown services are on the device: {strangers}")
            if any(count < 0 for count in self._users.values()):
                raise AssertionError(f"a model was given back more often than taken: {self._users}")
            if missing := {service for service, count in self._users.items() if count} - set(self._resident):
                raise AssertionError(f"models in use are not on the device: {missing}")

    def _ensure(self, service: int) -> Resident:
        model = self._models[service]
        if service in self._resident:
            self._resident[service] = self._resident.pop(service)  # now the most recently used
            return Resident(model, "warm", 0.0)
        began = perf_counter()
        size = model.weights_bytes
        self._make_room(model, size)
        load_s = self._load(service, model)
        self._resident[service] = size
        self.used_bytes += size
        self._on_event(Loaded(service, "disk", load_s, size, self.used_bytes))
        return Resident(model, "disk", perf_counter() - began)

    def _load(self, service: int, model: Model) -> float:
        """Load; where the device has less room than the budget says, evict all that is unused and try once more."""
        try:
            return _timed_load(model)
        except OutOfMemoryError as exc:
            evictable = self._evictable()
            if not evictable:
                raise
            log.warning(
                "no memory to load service %d (%s): evicting %d unused models and trying again; a smaller --cache-mb"
                " would keep this from happening",
                service,
                exc,
                len(evictable),
            )
        for other in evictable:
            self._evict(other, "room")
        return _timed_load(model)

    def _make_room(self, model: Model, size: int) -> None:
        name = model.spec.name
        if size > self.budget_bytes:
            raise CannotFitError(
                f"model {name!r} needs {_mib(size)} on the device and this worker's budget is"
                f" {_mib(self.budget_bytes)}: raise --cache-mb or serve a smaller model"
            )
        evictable = self._evictable()
        pinned = self.used_bytes - sum(self._resident[service] for service in evictable)
        if pinned + size > self.budget_bytes:
            raise CannotFitError(
                f"model {name!r} needs {_mib(size)} on the device; of this worker's {_mib(self.budget_bytes)} the"
                f" models in use just now hold {_mib(pinned)}: try again, or raise --cache-mb"
            )
        for service in evictable:
            if self.used_bytes + size <= self.budget_bytes:
                return
            self._evict(service, "room")

    def _evictable(self) -> list[int]:
        """Services on the device that nobody uses, least recently used first."""
        return [service for service in self._resident if not self._users[service]]

    def _evict(self, service: int, reason: Reason) -> None:
        if self._users[service]:
            raise RuntimeError(f"service {service} is in use and must not leave the device")
        self._models[service].unload()
        size = self._resident.pop(service)
        self.used_bytes -= size
        self._on_event(Evicted(service, reason, size, self.used_bytes))


def _timed_load(model: Model) -> float:
    """Load and return the seconds it took; what a failed load has left is given back."""
    began = perf_counter()
    try:
        model.load()
    except BaseException:
        model.unload()
        raise
    return perf_counter() - began


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f} MiB"
