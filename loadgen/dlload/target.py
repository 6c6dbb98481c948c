"""The server under test: what it tells of itself by its own API, and whether that fits what is asked of it."""

import logging
import time
from dataclasses import replace

from dlclient.client import Client
from dlclient.errors import ClientError

from dlload.discovery import kserve, torchserve
from dlload.discovery.asker import Asker
from dlload.discovery.base import Target, Worker
from dlload.discovery.deepdetect import NoInfoError, look_at
from dlload.errors import TargetError
from dlload.options import StreamOptions

__all__ = ["Target", "Worker", "find_target", "look_again", "look_at", "protocol_name"]

logger = logging.getLogger(__name__)
UP_S = 60.0
"""How long the workers of a server that has just been started may take to come up."""
_LOOK_S = 0.2


def find_target(client: Client, options: StreamOptions) -> tuple[Target, tuple[str, ...]]:
    """The server with all its workers up and every service that the options ask for, and their names. Raises TargetError."""
    target = _with_all_workers(client, options, _look(client, options))
    if target.style == "deepdetect":
        target = _create_missing(client, options, target)
    services = _services(target, options)
    if target.style == "kserve":
        asker = _asker(options)
        if not target.can_list:
            target = kserve.check_ready(asker, target, services)
        target = kserve.with_models(asker, target, services, options.asking.input_tensor)
    _check_workers(target, options.gpu_num)
    return target, services


def look_again(client: Client, options: StreamOptions, before: Target) -> Target:
    """The same target as it is now. Raises TargetError."""
    if before.style == "deepdetect" or before.workers:
        now = look_at(client)
        return now if before.style == "deepdetect" else _with_dlserve(before, now)
    if before.style == "kserve":
        now = kserve.look_at(_asker(options))
        return replace(before, not_ready=now.not_ready)
    return before


def replaced_workers(before: Target, now: Target) -> list[int]:
    """Workers that are another process now. Pure."""
    generations = {worker.worker: worker.generation for worker in before.workers}
    return [worker.worker for worker in now.workers if worker.generation != generations.get(worker.worker)]


def protocol_name(options: StreamOptions, target: Target) -> str:
    """Which protocol the options mean for this server."""
    if options.protocol != "auto":
        return options.protocol
    if target.style == "kserve":
        return "kserve"
    return "raw" if target.is_dlserve and options.batch_size == 1 else "deepdetect"


def _look(client: Client, options: StreamOptions) -> Target:
    asking = options.asking
    if options.protocol == "json" or (options.protocol == "raw" and asking.url_template is not None):
        return Target(
            options.url, {}, is_dlserve=False, services=tuple(sorted(options.services)), style="named", can_list=False
        )
    if options.protocol == "kserve":
        return _look_kserve(client, options)
    if options.protocol == "torchserve":
        management = asking.management_url or torchserve.management_url(options.url)
        key = asking.management_key or options.api_key
        return torchserve.look_at(_asker(options), Asker(management, key, options.timeout_s), options.services)
    try:
        return look_at(client)
    except NoInfoError as exc:
        if options.protocol != "auto":
            raise
        try:
            return kserve.look_at(_asker(options))
        except TargetError as other:
            raise TargetError(f"{exc}; nor is it another server that can be told by asking: {other}") from exc


def _with_all_workers(client: Client, options: StreamOptions, target: Target) -> Target:
    """The target once they are up: one that came later would find its weights cold in a phase that is to be warm."""
    by = time.monotonic() + UP_S
    waits = False
    while down := [str(worker.worker) for worker in target.workers if not worker.up]:
        workers = f"worker {', '.join(down)} of {len(target.workers)}"
        if time.monotonic() >= by:
            raise TargetError(
                f"{target.url}: {workers} did not come up in {UP_S:g} s; see the server's log, or start it with fewer --workers"
            )
        if not waits:
            logger.info("waiting for %s of %s to come up", workers, target.url)
            waits = True
        time.sleep(_LOOK_S)
        target = look_again(client, options, target)
    return target


def _look_kserve(client: Client, options: StreamOptions) -> Target:
    target = kserve.look_at(_asker(options))
    return _with_dlserve(target, look_at(client)) if target.is_dlserve else target


def _with_dlserve(target: Target, told: Target) -> Target:
    """A target asked by /v2 that is dlserve tells more in /info."""
    return replace(
        target,
        info={**target.info, "info": told.info},
        weights_bytes=told.weights_bytes,
        simulated=told.simulated,
        workers=told.workers,
    )


def _asker(options: StreamOptions) -> Asker:
    return Asker(options.url, options.api_key, options.timeout_s)


def _create_missing(client: Client, options: StreamOptions, target: Target) -> Target:
    missing = [name for name in options.services if name not in target.services]
    if not missing:
        return target
    if options.model_dir is None:
        raise TargetError(
            f"{target.url} has no service {', '.join(missing)} (it has {', '.join(target.services) or 'none'}); "
            "create it, or name the folder that holds its model folder with --model-dir"
        )
    for name in missing:
        _create(client, options, name)
    return look_at(client)


def _services(target: Target, options: StreamOptions) -> tuple[str, ...]:
    """Those asked for, as the server spells them, or all."""
    if not target.can_list:
        if not options.services:
            raise TargetError(f"{target.url} cannot be asked what it serves; name its services with --services")
        return options.services
    if not options.services and target.services:
        return target.services
    if not options.services:
        if target.not_ready:
            waiting = ", ".join(f"{name} ({why})" for name, why in target.not_ready.items())
            raise TargetError(f"{target.url} has no model that is ready; load one of {waiting}")
        raise TargetError(
            f"{target.url} has no service; build a model and start dlserve with it "
            "(dlmodels build resnet18 --repository models/repository)"
            if target.style == "deepdetect"
            else f"{target.url} has no model; give it one"
        )
    return tuple(_spelled(target, name) for name in options.services)


def _spelled(target: Target, asked: str) -> str:
    for name in (*target.services, *target.not_ready):
        if name == asked or (name.casefold() == asked.casefold() and asked not in target.services):
            if why := target.not_ready.get(name):
                raise TargetError(f"{target.url}: model {name} is not ready: {why}; load it, or see --services")
            return name
    raise TargetError(
        f"{target.url} has no model {asked} (it has {', '.join(target.services) or 'none'}); see --services"
    )


def _create(client: Client, options: StreamOptions, name: str) -> None:
    repository = f"{options.model_dir}/{name}"
    logger.info("creating service %s from %s", name, repository)
    try:
        client.create_service(name, mllib=options.asking.mllib, model={"repository": repository})
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
