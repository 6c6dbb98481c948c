"""What this machine has, found without importing a framework: cores, memory, GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pynvml
from dlmodels.visible_gpus import visible_gpus


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as NVML sees it; memory in bytes, `utilization` 0..1, `power_w` in watts or None where not told."""

    index: int
    name: str
    total_bytes: int
    used_bytes: int
    utilization: float | None
    power_w: float | None


def cores() -> int:
    """CPU cores that this process may use: its affinity, cut down to the container's quota."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


@contextmanager
def _nvml() -> Iterator[bool]:
    """NVML started and shut down again; False where there is no NVIDIA driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def gpus(visible: str | None) -> tuple[Gpu, ...]:
    """The GPUs as CUDA will number them.

    `visible` is CUDA_VISIBLE_DEVICES (None: unset, all).
    """
    with _nvml() as there:
        if not there:
            return ()
        return tuple(_describe(index, handle) for index, handle in enumerate(visible_gpus(visible, pynvml)))


def _describe(index: int, handle: object) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        utilization = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except pynvml.NVMLError:
        utilization = None
    try:
        power_w = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
    except pynvml.NVMLError:
        power_w = None
    return Gpu(index, str(pynvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.used), utilization, power_w)
