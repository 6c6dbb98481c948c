"""One GPU as NVML sees it while something runs on it: how busy, how full, how much power and energy.

No figure here is of this process alone: NVML tells of the device, whoever uses it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml
from dlmodels.visible_gpus import visible_gpus

from dlclient.errors import PointError

PERIOD_S = 1.0
"""What NVML's utilization is of: the past sixth of a second to a second, by device (NVML API reference, nvmlUtilization_t)."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class GpuReading:
    """At one moment. None: this device or its driver does not tell."""

    kernel: float | None
    """Fraction of the past PERIOD_S, or less, in which a kernel ran."""
    memory: float | None
    """The same, in which its memory was read or written."""
    memory_bytes: int | None
    power_w: float | None
    energy_j: float | None
    """Since the driver was loaded."""


class GpuProbe:
    """The GPU that CUDA calls `index` in this process, between `open` and `close`. `nvml`: the module, or a fake of it."""

    def __init__(self, index: int, nvml: Any = pynvml) -> None:
        self._index = index
        self._nvml = nvml
        self._handle: object = None
        self._first: Any = None
        """Of GPM's samples; None: not supported, or not marked yet."""

    def open(self) -> None:
        """Find the device. Raises PointError."""
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as exc:
            raise PointError(
                f"NVML cannot be started ({exc}): install NVIDIA's driver, or measure on cpu", kind="unsupported"
            ) from exc
        handles = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), self._nvml)
        if self._index >= len(handles):
            self._nvml.nvmlShutdown()
            raise PointError(
                f"there is no GPU {self._index} among the {len(handles)} that CUDA_VISIBLE_DEVICES leaves:"
                " name another device",
                kind="unsupported",
            )
        self._handle = handles[self._index]

    def read(self) -> GpuReading:
        """Now; takes about a millisecond."""
        nvml = self._nvml
        rates = self._told(nvml.nvmlDeviceGetUtilizationRates, self._handle)
        memory = self._told(nvml.nvmlDeviceGetMemoryInfo, self._handle)
        power_mw = self._told(nvml.nvmlDeviceGetPowerUsage, self._handle)
        energy_mj = self._told(nvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
        return GpuReading(
            kernel=None if rates is None else rates.gpu / 100,
            memory=None if rates is None else rates.memory / 100,
            memory_bytes=None if memory is None else int(memory.used),
            power_w=None if power_mw is None else power_mw / 1000,
            energy_j=None if energy_mj is None else energy_mj / 1000,
        )

    def mark(self) -> None:
        """From here on `sm_activity` is to count."""
        self._first = self._gpm_sample()

    def sm_activity(self) -> float | None:
        """Mean fraction of multiprocessors that were busy since `mark`, by GPM's counters; None before Hopper."""
        if self._first is None:
            return None
        first, self._first = self._first, None
        last = self._gpm_sample()
        try:
            return None if last is None else self._between(first, last)
        finally:
            for sample in (first, last):
                if sample is not None:
                    self._nvml.nvmlGpmSampleFree(sample)

    def close(self) -> None:
        """Give NVML back. Harmless when not open."""
        if self._handle is not None:
            self.sm_activity()  # frees what is left of a mark
            self._handle = None
            self._nvml.nvmlShutdown()

    def _gpm_sample(self) -> Any:
        nvml = self._nvml
        support = self._told(nvml.nvmlGpmQueryDeviceSupport, self._handle)
        if support is None or not support.isSupportedDevice:
            return None
        sample = self._told(nvml.nvmlGpmSampleAlloc)
        if sample is not None and self._told(nvml.nvmlGpmSampleGet, self._handle, sample) is None:
            nvml.nvmlGpmSampleFree(sample)
            return None
        return sample

    def _between(self, first: Any, last: Any) -> float | None:
        nvml = self._nvml
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version = nvml.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = 1
        asked.sample1, asked.sample2 = first, last
        asked.metrics[0].metricId = nvml.NVML_GPM_METRIC_SM_UTIL
        if self._told(nvml.nvmlGpmMetricsGet, asked) is None or asked.metrics[0].nvmlReturn != nvml.NVML_SUCCESS:
            return None
        return float(asked.metrics[0].value) / 100

    def _told(self, ask: Callable[..., _Value], *about: object) -> _Value | None:
        try:
            return ask(*about)
        except self._nvml.NVMLError:
            return None
