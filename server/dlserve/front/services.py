"""The services: what each one is, and how an answer names its classes."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
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
from dlserve.front.statistics import Served, Statistics


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
    served: Served = field(default_factory=Served)
    """Shared by all that had or will have its name."""
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

    def settled(self) -> Statistics:
        """Its statistics, with every call counted."""
        self.served.settled()
        return self.statistics

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
        self.served: dict[str, Served] = defaultdict(Served)
        """What was answered, by the services' names: of those too that are deleted."""
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
        service.served = self.served[service.name]
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
