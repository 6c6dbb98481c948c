"""All that the server was told, resolved against the machine it runs on: one frozen Config, before anything starts."""

import argparse
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

import msgspec
from dlmodels.engines.host import host_memory

from dlserve import hardware
from dlserve.errors import StartError
from dlserve.eviction import Eviction

Policy = Literal["predicted", "least-loaded", "round-robin", "random", "two-choices", "affinity"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
LogFormat = Literal["text", "json"]
MIB = 1 << 20
DEFAULT_MODELS_DIR = "models/repository"
_CPU_CACHE_SHARE = 0.5
_GPU_CACHE_SHARE = 0.7
"""Of a device's free memory, what weights may take; the rest is for activations and the framework."""
_PINNED_SHARE = 0.3
"""Of a GPU machine's free memory, what all workers together may pin: it can be used for nothing else then."""


class WorkerPlan(msgspec.Struct, frozen=True):
    """Where one worker runs and what it may use."""

    device: str
    threads: int
    budget_bytes: int
    host_bytes: int = 0
    """Of pinned memory, for weights that have left the device."""


class Limits(msgspec.Struct, frozen=True):
    """What a client may ask for."""

    body_bytes: int
    images: int
    pixels: int
    queue: int
    """Calls that may be waiting or running on one worker."""
    queue_bytes: int
    """Bytes of request bodies that the front ends may hold in all."""


class Config(msgspec.Struct, frozen=True):
    """The server's settings. Paths are absolute; "" where there is none."""

    host: str
    port: int
    models_dir: str
    data_roots: tuple[str, ...]
    allow_urls: tuple[str, ...]
    api_key: str
    front_ends: int
    """Processes that speak HTTP, on one port."""
    front_end_timeout_s: float
    workers: tuple[WorkerPlan, ...]
    visible_gpus: str | None
    """CUDA_VISIBLE_DEVICES as it was at the start; None: unset."""
    max_batch: int
    batch_wait_s: float
    limits: Limits
    preload: tuple[str, ...]
    pinned: tuple[str, ...]
    eviction: Eviction
    drop_page_cache: bool
    balance: Policy
    prefetch: bool
    seed: int
    worker_timeout_s: float
    start_timeout_s: float
    drain_timeout_s: float
    log_format: LogFormat


def resolve(options: argparse.Namespace, environment: Mapping[str, str]) -> Config:
    """Check the options together and fill in what depends on the machine. Raises StartError saying what to change."""
    api_key = _api_key(options.api_key_file)
    visible_gpus = environment.get("CUDA_VISIBLE_DEVICES")
    _check_host(options.host, bool(api_key), options.insecure)
    return Config(
        host=options.host,
        port=options.port,
        models_dir=_models_dir(options.models_dir),
        data_roots=tuple(_folder(root, "--data-root") for root in options.data_root),
        allow_urls=tuple(host.lower() for host in options.allow_url),
        api_key=api_key,
        front_ends=options.front_ends,
        front_end_timeout_s=options.front_end_timeout,
        workers=_workers(options.devices, options.workers, options.cache_mb, options.host_cache_mb, visible_gpus),
        visible_gpus=visible_gpus,
        max_batch=options.max_batch,
        batch_wait_s=options.batch_wait / 1e3,
        limits=Limits(
            body_bytes=options.max_body_mb * MIB,
            images=options.max_images,
            pixels=options.max_pixels,
            queue=options.queue,
            queue_bytes=options.queue_mb * MIB,
        ),
        preload=_names(options.preload),
        pinned=_names(options.pin),
        eviction=options.eviction,
        drop_page_cache=options.drop_page_cache,
        balance=options.balance,
        prefetch=options.prefetch,
        seed=options.seed,
        worker_timeout_s=options.worker_timeout,
        start_timeout_s=options.start_timeout,
        drain_timeout_s=options.drain_timeout,
        log_format=options.log_format,
    )


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in given.split(",") if name.strip())


def _folder(path: str, option: str) -> str:
    if not Path(path).is_dir():
        raise StartError(f"{option} {path}: there is no such folder")
    return os.path.realpath(path)


def _models_dir(given: str | None) -> str:
    if given is None:
        return os.path.realpath(DEFAULT_MODELS_DIR) if Path(DEFAULT_MODELS_DIR).is_dir() else ""
    if not Path(given).is_dir():
        raise StartError(
            f"--models-dir {given}: there is no such folder; build a model with: dlmodels build resnet18 --repository {given}"
        )
    return os.path.realpath(given)


def _api_key(path: str | None) -> str:
    if path is None:
        return ""
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise StartError(f"--api-key-file {path}: cannot be read: {exc}") from exc
    if not re.fullmatch(r"[!-~]{8,}", key):
        raise StartError(
            f"--api-key-file {path}: put one key of at least 8 printable characters, without blanks, in it"
        )
    return key


def _check_host(host: str, has_key: bool, insecure: bool) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not (loopback or has_key or insecure):
        raise StartError(
            f"--host {host} can be reached from other machines: give --api-key-file FILE, or --insecure to serve without a key"
        )


def _workers(
    devices: str, count: int | None, cache_mb: int | None, host_mb: int | None, visible: str | None
) -> tuple[WorkerPlan, ...]:
    gpus = hardware.gpus(visible)
    names = _devices(devices, len(gpus))
    if names == ["cpu"]:
        cores = hardware.cores()
        count = count or max(1, cores // 2)
        free = host_memory().free_bytes
        # Memory of the device is memory of the host here: a tier between them would hold the same bytes twice.
        host_bytes = (host_mb or 0) * MIB
        return _share(["cpu"] * count, cores, cache_mb, host_bytes, lambda _: int(free * _CPU_CACHE_SHARE))
    count = count or len(names)
    if count < len(names):
        raise StartError(f"--workers {count} is fewer than the {len(names)} devices: give at least one worker to each")
    free_of = {f"cuda:{gpu.index}": gpu.total_bytes - gpu.used_bytes for gpu in gpus}
    placed = [names[index % len(names)] for index in range(count)]
    pinned_bytes = int(host_memory().free_bytes * _PINNED_SHARE) // count if host_mb is None else host_mb * MIB
    return _share(
        placed, hardware.cores(), cache_mb, pinned_bytes, lambda device: int(free_of[device] * _GPU_CACHE_SHARE)
    )


def _devices(given: str, gpus: int) -> list[str]:
    """The distinct devices that `--devices` names; "auto" is every GPU, or the CPU where there is none."""
    if given == "auto":
        return [f"cuda:{index}" for index in range(gpus)] or ["cpu"]
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name != "cpu" and not re.fullmatch(r"cuda:\d+", name):
            raise StartError(f"--devices {given}: {name!r} is no device; write auto, cpu, or a list like cuda:0,cuda:1")
        if name != "cpu" and int(name[5:]) >= gpus:
            has = f"has {gpus}, numbered from 0" if gpus else "has none that its driver shows"
            raise StartError(
                f"--devices {given}: there is no GPU {name}; this machine {has}. See nvidia-smi, or use --devices cpu"
            )
    if len(set(names)) != len(names):
        raise StartError(f"--devices {given}: a device is named twice; for several workers on one device use --workers")
    if "cpu" in names and len(names) > 1:
        raise StartError(f"--devices {given}: serve from the CPU or from GPUs, not both")
    return names


def _share(
    placed: list[str], cores: int, cache_mb: int | None, host_bytes: int, room: Callable[[str], int]
) -> tuple[WorkerPlan, ...]:
    """Deal the cores' threads and each device's memory out between the workers placed on it."""
    threads, extra = divmod(cores, len(placed))
    return tuple(
        WorkerPlan(
            device=device,
            threads=max(1, threads + (index < extra)),
            budget_bytes=cache_mb * MIB if cache_mb is not None else room(device) // placed.count(device),
            host_bytes=host_bytes,
        )
        for index, device in enumerate(placed)
    )
