"""The services: what each one is, what it has answered, and how an answer names its classes."""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from dlmodels.engines.base import Temperature
from dlmodels.errors import RepositoryError
from dlmodels.repository import ModelSpec, read_labels, scan

from dlserve.errors import ServiceExistsError, ServiceNotFoundError, StartError
from dlserve.front.expectation import Expectation
from dlserve.front.parameters import DEFAULT_DATATYPE, Output

MOST_ROWS = 256
"""Answered calls that wait to be counted: so few that counting them delays nobody."""


@dataclass(slots=True)
class BatchTotals:
    """Of the forwards of one batch size: how many, and seconds summed over them."""

    executions: float = 0.0
    decode_s: float = 0.0
    forward_s: float = 0.0
    post_s: float = 0.0

    @property
    def count(self) -> int:
        """Of whole forwards."""
        return max(1, round(self.executions))


@dataclass(slots=True)
class Statistics:
    """Totals over a service's life: counts, and seconds per call summed. Right once they are `settled`."""

    images: int = 0
    success: int = 0
    failure: int = 0
    predict_s: float = 0.0
    failure_s: float = 0.0
    """Of that, in calls that failed."""
    stages_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of answered calls, by stage."""
    batches: dict[int, BatchTotals] = field(default_factory=lambda: defaultdict(BatchTotals))
    """By batch size. A forward that answered several calls counts in parts, so all its parts make one."""
    last_at: float = 0.0
    """When the last call was answered, in seconds since 1970; 0: never."""
    _rows: list[tuple[int, int, float, Mapping[str, float]]] = field(default_factory=list)
    """What `succeeded` was told and is not in the totals yet: many at once cost each a fraction of what one costs."""

    @property
    def transform_s(self) -> float:
        """Decoding and resizing, as DeepDetect's `transform`."""
        return self.stages_s["decode"]

    @property
    def executions(self) -> int:
        """Forwards that answered calls."""
        return round(sum(batch.executions for batch in self.batches.values()))

    def succeeded(self, images: int, batch_size: int, timing: Mapping[str, float], total_s: float) -> None:
        """A call of so many images was answered from a forward of `batch_size`."""
        self.success += 1
        self.last_at = time.time()
        self._rows.append((images, batch_size, total_s, timing))
        if len(self._rows) >= MOST_ROWS:
            self.settled()

    def settled(self) -> "Statistics":
        """These, with every call in the totals."""
        stages = self.stages_s
        for images, batch_size, total_s, timing in self._rows:
            self.images += images
            self.predict_s += total_s
            for stage, seconds in timing.items():
                stages[stage] += seconds
            share = images / max(1, batch_size)
            batch = self.batches[batch_size]
            batch.executions += share
            batch.decode_s += timing["decode"] * share
            batch.forward_s += timing["forward"] * share
            batch.post_s += timing["post"] * share
        self._rows.clear()
        return self

    def failed(self, total_s: float) -> None:
        """A call got an error."""
        self.failure += 1
        self.predict_s += total_s
        self.failure_s += total_s

    def add(self, other: "Statistics") -> None:
        """Count what another front end has counted."""
        for name in ("images", "success", "failure", "predict_s", "failure_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.last_at = max(self.last_at, other.last_at)
        for stage, seconds in other.stages_s.items():
            self.stages_s[stage] += seconds
        for size, more in other.batches.items():
            batch = self.batches[size]
            for name in ("executions", "decode_s", "forward_s", "post_s"):
                setattr(batch, name, getattr(batch, name) + getattr(more, name))

    def as_deepdetect(self) -> dict[str, int | float]:
        """`service_stats`: counts as integers; averages are -1 before the first call, as there."""
        calls = self.success + self.failure
        predict_ms = self.predict_s * 1e3 / calls if calls else -1.0
        transform_ms = self.transform_s * 1e3 / calls if calls else -1.0
        return {
            "inference_count": self.images,
            "predict_success": self.success,
            "predict_failure": self.failure,
            "predict_count": calls,
            "avg_batch_size": self.images / calls if calls else -1.0,
            "avg_predict_duration_ms": predict_ms,
            "avg_predict_duration_s": predict_ms / 1e3,
            "avg_predict_duration": predict_ms / 1e3,
            "avg_transform_duration_ms": transform_ms,
            "avg_transform_duration_s": transform_ms / 1e3,
            "avg_transform_duration": transform_ms / 1e3,
            "total_predict_duration_ms": self.predict_s * 1e3,
            "total_transform_duration_ms": self.transform_s * 1e3,
        }


@dataclass(slots=True)
class Service:
    """One service. `spec.input` holds the creation's parameters."""

    number: int
    """Unique over the server's life; an unloaded service that is loaded again has a new one."""
    lineage: int
    """The number that it had at first."""
    name: str
    spec: ModelSpec
    labels: tuple[str, ...]
    output: Output = Output()
    description: str = ""
    mllib: str = ""
    created_with: dict[str, Any] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=Statistics)
    expectation: Expectation = field(default_factory=Expectation)
    settings: dict[str, Any] = field(default_factory=dict)
    """What its framework really uses, read back; empty until a worker has built it."""
    reload_tiers: tuple[Temperature, ...] = ()
    """The colder tiers that a request may ask to start from; empty until a worker has built it."""

    @property
    def simulated(self) -> bool:
        """Whether its answers come from no real model."""
        return self.spec.engine == "simulated"

    @property
    def datatype(self) -> str:
        """The precision that it was created with."""
        return str(self.spec.parameters.get("datatype") or DEFAULT_DATATYPE)

    def describe(self, statistics: Statistics) -> dict[str, Any]:
        """DeepDetect's service object, with our facts under `dlserve`; `statistics`: of all front ends."""
        stats = {"data_mem_test": self.expectation.weights_bytes} if self.expectation.weights_bytes else {}
        return {
            "name": self.name,
            "description": self.description,
            "mllib": self.mllib,
            "mltype": "classification",
            "type": "supervised",
            "predict": True,
            "training": False,
            "repository": self.spec.folder,
            "width": self.spec.input.width,
            "height": self.spec.input.height,
            "parameters": {
                "input": {"connector": "image", **msgspec.to_builtins(self.spec.input)},
                "mllib": {**self.created_with, "nclasses": self.spec.classes},
                "output": {"best": self.output.best, "confidence_threshold": self.output.threshold},
            },
            "stats": stats,
            "model_stats": stats,
            "service_stats": statistics.as_deepdetect(),
            "dlserve": {
                "engine": self.spec.engine,
                "architecture": self.spec.architecture,
                "weights_bytes": self.expectation.weights_bytes,
                "simulated": self.simulated,
                "settings": self.settings,
                "reload_tiers": self.reload_tiers,
            },
        }


class Registry:
    """Services by name; names are lower-cased, as in DeepDetect."""

    def __init__(self, first_number: int = 0) -> None:
        """`first_number`: of services that are made here; no other process makes any from there on."""
        self._numbers = itertools.count(first_number)
        self._services: dict[str, Service] = {}
        self._unloaded: dict[str, Service] = {}
        self._reserved: set[str] = set()

    def __iter__(self) -> Iterator[Service]:
        return iter(list(self._services.values()))

    def __len__(self) -> int:
        return len(self._services)

    def find(self, name: str) -> Service:
        """The service of that name. Raises ServiceNotFoundError."""
        try:
            return self._services[name]
        except KeyError:
            pass
        try:
            return self._services[name.lower()]
        except KeyError:
            pass
        if name.lower() in self._unloaded:
            cure = f"POST /v2/repository/models/{name.lower()}/load brings it back"
            raise ServiceNotFoundError(f"service {name!r:.80} is unloaded; {cure}")
        raise ServiceNotFoundError(f"there is no service {name!r:.80}; GET /info lists them")

    @property
    def unloaded(self) -> tuple[Service, ...]:
        """Those that were unloaded, and can be loaded again."""
        return tuple(self._unloaded.values())

    def find_unloaded(self, name: str) -> Service | None:
        """The service of that name, if it is unloaded."""
        return self._unloaded.get(name.lower())

    def by_number(self, number: int) -> Service | None:
        """The service of that number, None if it was deleted."""
        return next((service for service in self._services.values() if service.number == number), None)

    def make(self, spec: ModelSpec, **more: Any) -> Service:
        """A service that is not known under its name yet: see `add`. Raises RepositoryError for bad labels."""
        labels = read_labels(Path(spec.folder) / spec.labels, spec.classes) if spec.labels else ()
        number = next(self._numbers)
        mllib = more.pop("mllib", spec.engine)
        service = Service(number, number, spec.name, spec, labels, mllib=mllib, **more)
        simulated_bytes = spec.parameters.get("bytes", 0)
        service.expectation.weights_bytes = (
            int(simulated_bytes) if service.simulated and isinstance(simulated_bytes, int) else spec.weights_bytes
        )
        return service

    def check_new(self, name: str) -> None:
        """Raises ServiceExistsError where there is a service of that name."""
        if name.lower() in self._services:
            raise ServiceExistsError(f"{name!r:.80}; delete it first, or choose another name")

    def check_free(self, name: str) -> None:
        """Raises ServiceExistsError where the name is taken or being taken."""
        self.check_new(name)
        if name.lower() in self._reserved:
            raise ServiceExistsError(f"{name!r:.80} is being created by another call")

    def reserve(self, name: str) -> None:
        """Hold a name while its service is being made. Raises ServiceExistsError."""
        self.check_free(name)
        self._reserved.add(name)

    def release(self, name: str) -> None:
        """Give up a reservation."""
        self._reserved.discard(name)

    def add(self, service: Service) -> None:
        """Make a service known under its name."""
        self._unloaded.pop(service.name, None)
        self._services[service.name] = service

    def remove(self, service: Service) -> None:
        """Forget a service, loaded or not."""
        self._services.pop(service.name, None)
        self._unloaded.pop(service.name, None)

    def unload(self, service: Service) -> None:
        """Serve it no longer, but remember what it was."""
        self._unloaded[service.name] = service
        self._services.pop(service.name, None)

    def again(self, service: Service) -> Service:
        """An unloaded service under a new number: to workers it is another one. Its totals go on. See `add`."""
        return replace(service, number=next(self._numbers), settings={}, reload_tiers=())


def from_folder(registry: Registry, models_dir: str) -> None:
    """Make every model folder a service. Raises StartError naming the folder that cannot be read and the cure."""
    if not models_dir:
        return
    try:
        for spec in scan(Path(models_dir)):
            registry.add(registry.make(spec))
    except RepositoryError as exc:
        raise StartError(str(exc)) from exc
