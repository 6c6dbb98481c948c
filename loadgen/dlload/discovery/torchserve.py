"""TorchServe tells of its models at its management API, on a port of its own."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from dlload.discovery.asker import Asker
from dlload.discovery.base import Registration, Target
from dlload.errors import TargetError

logger = logging.getLogger(__name__)

MANAGEMENT_PORT = 8081
_PAGE = 100
_SETTINGS: Mapping[str, str] = {
    "minWorkers": "initial_workers",
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay",
}
"""What a description calls it -> what a registration calls it."""


class _Listed(msgspec.Struct, rename="camel"):
    model_name: str
    model_url: str = ""


class _Page(msgspec.Struct, rename="camel"):
    models: tuple[_Listed, ...] = ()
    next_page_token: str | None = None


class _ModelWorker(msgspec.Struct):
    status: str = ""


class _Described(msgspec.Struct, rename="camel"):
    model_name: str
    model_url: str = ""
    workers: tuple[_ModelWorker, ...] = ()


def management_url(host: str) -> str:
    """Where it is unless said otherwise: port 8081 of the same host."""
    parts = urlsplit(host)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{name}:{MANAGEMENT_PORT}"


def look_at(asker: Asker, management: Asker, services: Sequence[str]) -> Target:
    """The server; `services` are all that is known of it where its management API is not there. Raises TargetError."""
    status, _ = asker.ask("GET", "/ping")
    if status != 200:
        raise TargetError(f"{asker.url}/ping: HTTP {status}; see whether TorchServe listens there, and its log")
    try:
        names = _names(management)
    except TargetError as exc:
        if not services:
            raise TargetError(
                f"TorchServe's management API is needed to list its models: {exc}; or name --services"
            ) from exc
        logger.warning("TorchServe's management API does not answer: models cannot be checked nor reloaded (%s)", exc)
        return Target(
            asker.url, {}, is_dlserve=False, services=tuple(sorted(services)), style="torchserve", can_list=False
        )
    target = Target(asker.url, {}, is_dlserve=False, services=(), style="torchserve")
    for name in names:
        target = _with(
            target, name, management.told(list[dict[str, Any]], "GET", f"/models/{quote(name, safe='')}") or []
        )
    return replace(target, services=tuple(sorted(target.services)))


def _names(management: Asker) -> list[str]:
    names: list[str] = []
    token: str | None = ""
    while token is not None:
        page = management.told(_Page, "GET", f"/models?limit={_PAGE}" + (f"&next_page_token={token}" if token else ""))
        if page is None:
            raise TargetError(f"{management.url} does not know /models; name it with --management-url")
        names += [model.model_name for model in page.models]
        token = page.next_page_token
    return names


def _with(target: Target, name: str, said: list[dict[str, Any]]) -> Target:
    """One model more."""
    info = {**target.info, name: said}
    try:
        described = msgspec.convert(said, list[_Described])
    except msgspec.ValidationError as exc:
        raise TargetError(f"what TorchServe says of model {name} is no description: {exc}") from exc
    if not any(worker.status == "READY" for one in described for worker in one.workers):
        why = "no worker of it is READY"
        return replace(target, info=info, not_ready={**target.not_ready, name: why})
    settings = {asked: said[0][told] for told, asked in _SETTINGS.items() if isinstance(said[0].get(told), int)}
    registration = Registration(described[0].model_url, settings)
    return replace(
        target,
        info=info,
        services=(*target.services, name),
        registrations={**target.registrations, name: registration},
    )
