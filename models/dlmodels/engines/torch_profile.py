"""torch.profiler around some inferences."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from dlmodels.engines.profiling import Profiled, busy_fraction, top_operators

_ALL = "dlmodels: all"
_CPU = "CPU"
_NO_KERNELS = ("Memcpy", "Memset", _ALL)
"""How what is on the GPU's timeline beside kernels is called."""


def profile_torch(run: Callable[[], object], device: str) -> Profiled:
    """Run it once to let the profiler set itself up, then once watched."""
    on_gpu = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities):
        run()
    with profile(activities=activities) as watched, record_function(_ALL):
        run()
        if on_gpu:
            torch.cuda.synchronize()
    own: dict[str, float] = {
        average.key: average.self_device_time_total if on_gpu else average.self_cpu_time_total
        for average in watched.key_averages()
        if average.device_type.name == _CPU
        and average.key != _ALL  # kernels have rows of their own, beside their operators'
    }
    events = list(watched.events())
    return Profiled(kernel_busy(events) if on_gpu else None, top_operators(own))


def kernel_busy(events: Iterable[Any]) -> float:
    """Fraction of the time of the watched run, as the CPU saw it, in which a kernel ran on the GPU's timeline."""
    all_events = list(events)
    (whole,) = [one.time_range for one in all_events if one.name == _ALL and one.device_type.name == _CPU]
    kernels = [
        (one.time_range.start, one.time_range.end)
        for one in all_events
        if one.device_type.name != _CPU and not one.name.startswith(_NO_KERNELS)
    ]
    return busy_fraction(kernels, whole.start, whole.end)
