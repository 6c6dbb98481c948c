"""What is known of a server under test before anything is sent to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from dlload.protocols.kserve import ModelForm

Style = Literal["deepdetect", "kserve", "torchserve", "named"]
"""By what API the server told of itself; named: by none, its user told."""


class Worker(msgspec.Struct):
    """One worker process of dlserve."""

    worker: int
    up: bool = True
    budget_bytes: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Registration:
    """How TorchServe was told to serve a model, to be told so again."""

    url: str
    """Of the model's archive, as its management API takes it."""
    settings: Mapping[str, int]
    """By the names of the management API's parameters."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a server tells of itself. `workers` is empty where it does not tell of any."""

    url: str
    info: dict[str, Any]
    """What it said, as it is."""
    is_dlserve: bool
    services: tuple[str, ...]
    """All of the server's that are ready, in alphabetical order."""
    weights_bytes: Mapping[str, int] = field(default_factory=dict)
    """By service, where known."""
    simulated: frozenset[str] = frozenset()
    """The services that a simulated engine answers for."""
    workers: tuple[Worker, ...] = ()
    style: Style = "deepdetect"
    not_ready: Mapping[str, str] = field(default_factory=dict)
    """The other services, and why."""
    models: Mapping[str, ModelForm] = field(default_factory=dict)
    """KServe only, of the services of the run: their inputs."""
    takes_binary: bool = False
    """KServe only: whether tensors may be sent as bytes."""
    can_list: bool = True
    """Whether the server tells what it has; else services are those that its user named."""
    registrations: Mapping[str, Registration] = field(default_factory=dict)
    """TorchServe only."""

    def workers_to_pin(self, services: tuple[str, ...]) -> tuple[int, ...]:
        """Workers that can hold all of these services' weights at once; empty if one cannot, or it is not known."""
        needed = sum(self.weights_bytes.get(service, 0) for service in services)
        up = [worker for worker in self.workers if worker.up]
        if all(worker.budget_bytes >= needed for worker in up):
            return tuple(worker.worker for worker in up)
        return ()
