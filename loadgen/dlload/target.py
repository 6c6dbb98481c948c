"""The server under test, as it describes itself in /info: its services, its workers, and what may be asked of it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from dlclient.client import Client, Json
from dlclient.errors import ClientError, ConnectionFailedError

from dlload.errors import TargetError
from dlload.options import StreamOptions

logger = logging.getLogger(__name__)


class _ServiceExtras(msgspec.Struct):
    weights_bytes: int | None = None
    simulated: bool = False


class _Service(msgspec.Struct):
    name: str
    dlserve: _ServiceExtras = msgspec.field(default_factory=_ServiceExtras)


class Worker(msgspec.Struct):
    """One worker process of dlserve."""

    worker: int
    up: bool = True
    budget_bytes: int = 0
    generation: int = 0


class _ServerExtras(msgspec.Struct):
    workers: tuple[Worker, ...] = ()


class _Head(msgspec.Struct):
    services: tuple[_Service, ...] = ()
    dlserve: _ServerExtras | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a server tells of itself. `workers` is empty where it does not tell of any."""

    url: str
    info: Json
    is_dlserve: bool
    services: tuple[str, ...]
    """All of the server's, in alphabetical order."""
    weights_bytes: Mapping[str, int]
    """By service, where known."""
    simulated: frozenset[str]
    """The services that a simulated engine answers for."""
    workers: tuple[Worker, ...]

    def workers_to_pin(self, services: tuple[str, ...]) -> tuple[int, ...]:
        """Workers that can hold all of these services' weights at once; empty if one cannot, or it is not known."""
        needed = sum(self.weights_bytes.get(service, 0) for service in services)
        up = [worker for worker in self.workers if worker.up]
        if all(worker.budget_bytes >= needed for worker in up):
            return tuple(worker.worker for worker in up)
        return ()


def look_at(client: Client) -> Target:
    """Ask the server what it is. Raises TargetError."""
    try:
        info = client.info()
        head = msgspec.convert(info, type=_Head)
    except ConnectionFailedError as exc:
        raise TargetError(
            f"no server at {client.url} ({exc.__cause__ or exc}); start one (dlserve) or give its address with --host"
        ) from exc
    except (ClientError, msgspec.ValidationError) as exc:
        raise TargetError(f"{client.url} does not answer /info as a DeepDetect-style server does: {exc}") from exc
    extras = {service.name: service.dlserve for service in head.services}
    return Target(
        url=client.url,
        info=info,
        is_dlserve=head.dlserve is not None,
        services=tuple(sorted(extras)),
        weights_bytes={name: extra.weights_bytes for name, extra in extras.items() if extra.weights_bytes},
        simulated=frozenset(name for name, extra in extras.items() if extra.simulated),
        workers=head.dlserve.workers if head.dlserve else (),
    )


def find_target(client: Client, options: StreamOptions) -> tuple[Target, tuple[str, ...]]:
    """The server, with every service that the options ask for, and their names. Raises TargetError."""
    target = look_at(client)
    missing = [name for name in options.services if name not in target.services]
    if missing and options.model_dir is None:
        raise TargetError(
            f"{target.url} has no service {', '.join(missing)} (it has {', '.join(target.services) or 'none'}); "
            "create it, or name the folder that holds its model folder with --model-dir"
        )
    if missing:
        for name in missing:
            _create(client, options, name)
        target = look_at(client)
    services = options.services or target.services
    if not services:
        raise TargetError(
            f"{target.url} has no service; build a model and start dlserve with it "
            "(dlmodels build resnet18 --repository models/repository)"
        )
    _check_workers(target, options.gpu_num)
    return target, services


def protocol_name(options: StreamOptions, target: Target) -> str:
    """Which protocol the options mean for this server."""
    if options.protocol != "auto":
        return options.protocol
    return "raw" if target.is_dlserve and options.batch_size == 1 else "deepdetect"


def _create(client: Client, options: StreamOptions, name: str) -> None:
    repository = f"{options.model_dir}/{name}"
    logger.info("creating service %s from %s", name, repository)
    try:
        client.create_service(name, mllib="torch", model={"repository": repository})
    except ClientError as exc:
        raise TargetError(f"service {name} cannot be created from {repository}: {exc}") from exc


def _check_workers(target: Target, gpu_num: int | None) -> None:
    if gpu_num is None:
        return
    if not target.workers:
        logger.warning("%s does not tell its workers: --gpu-num %d cannot be checked", target.url, gpu_num)
        return
    up = sum(worker.up for worker in target.workers)
    if up != gpu_num:
        raise TargetError(
            f"--gpu-num {gpu_num}: {target.url} runs {up} workers; start it with dlserve --workers {gpu_num}, "
            "or leave gpu_num out"
        )
