"""A DeepDetect-style server tells of itself in /info: its services and, if it is dlserve, its workers."""

import msgspec
from dlclient.client import Client
from dlclient.errors import ClientError, ConnectionFailedError, ServerError

from dlload.discovery.base import Target, Worker
from dlload.errors import TargetError


class NoInfoError(TargetError):
    """Something answers there, but not /info."""


class _ServiceExtras(msgspec.Struct):
    weights_bytes: int | None = None
    simulated: bool = False


class _Service(msgspec.Struct):
    name: str
    dlserve: _ServiceExtras = msgspec.field(default_factory=_ServiceExtras)


class _ServerExtras(msgspec.Struct):
    workers: tuple[Worker, ...] = ()


class _Head(msgspec.Struct):
    services: tuple[_Service, ...] = ()
    dlserve: _ServerExtras | None = None


def look_at(client: Client) -> Target:
    """Ask the server what it is. Raises TargetError; NoInfoError where it has no /info."""
    try:
        info = client.info()
        head = msgspec.convert(info, type=_Head)
    except ConnectionFailedError as exc:
        raise TargetError(
            f"no server at {client.url} ({exc.__cause__ or exc}); start one (dlserve) or give its address with --host"
        ) from exc
    except (ClientError, msgspec.ValidationError) as exc:
        kind = NoInfoError if isinstance(exc, ServerError) and exc.status in {404, 405, 501} else TargetError
        raise kind(f"{client.url} does not answer /info as a DeepDetect-style server does: {exc}") from exc
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
