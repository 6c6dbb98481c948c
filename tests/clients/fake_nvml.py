"""NVML as pynvml has it, of GPUs that were made up: what is asked for and cannot be told raises as the real one does."""

# ruff: noqa: N802, N815  the names are pynvml's

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pynvml


@dataclass
class FakeGpu:
    """Answers are drawn one a call, so that a test says what each sample sees."""

    memory_bytes: int = 16 << 30
    uuid: str = "GPU-0"
    used_bytes: Iterator[int] = field(default_factory=lambda: repeat(1 << 30))
    utilization: Iterator[tuple[int, int]] = field(default_factory=lambda: repeat((0, 0)))
    """Percent of time: of a kernel, and of reading or writing memory."""
    power_mw: Iterator[int] = field(default_factory=lambda: repeat(100_000))
    energy_mj: Iterator[int] = field(default_factory=lambda: repeat(0))
    sm_percent: float = 0.0
    """Between any two samples of GPM."""


class FakeNvml:
    """In the place of the module pynvml. `mute`: functions that this device or driver does not support."""

    NVMLError = pynvml.NVMLError
    NVML_SUCCESS = pynvml.NVML_SUCCESS
    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_CLOCK_MEM = pynvml.NVML_CLOCK_MEM
    NVML_GPM_METRIC_SM_UTIL = pynvml.NVML_GPM_METRIC_SM_UTIL
    NVML_GPM_METRICS_GET_VERSION = pynvml.NVML_GPM_METRICS_GET_VERSION
    c_nvmlGpmMetricsGet_t = staticmethod(lambda: SimpleNamespace(metrics=[SimpleNamespace()]))

    def __init__(self, gpus: Sequence[FakeGpu], mute: frozenset[str] = frozenset()) -> None:
        self._gpus = gpus
        self._mute = mute
        self.open = 0
        """nvmlInit less nvmlShutdown."""
        self.samples = 0
        """Of GPM: allocated less freed."""

    def nvmlInit(self) -> None:
        """Like a machine with a driver."""
        self.open += 1

    def nvmlShutdown(self) -> None:
        """The inverse."""
        self.open -= 1

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "_mute"):
            return _unsupported
        return object.__getattribute__(self, name)

    def nvmlDeviceGetCount(self) -> int:
        """How many."""
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        """The device itself."""
        return self._gpus[index]

    def nvmlSystemGetDriverVersion(self) -> str:
        """Made up."""
        return "570.1"

    def nvmlDeviceGetName(self, _: FakeGpu) -> str:
        """Made up."""
        return "Fake GPU"

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:
        """Its own."""
        return gpu.uuid

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> SimpleNamespace:
        """Total and used."""
        return SimpleNamespace(total=gpu.memory_bytes, used=next(gpu.used_bytes))

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> SimpleNamespace:
        """Percent."""
        gpu_percent, memory_percent = next(gpu.utilization)
        return SimpleNamespace(gpu=gpu_percent, memory=memory_percent)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:
        """Milliwatts."""
        return next(gpu.power_mw)

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:
        """Millijoules since the driver was loaded."""
        return next(gpu.energy_mj)

    def nvmlDeviceGetClockInfo(self, _: FakeGpu, kind: int) -> int:
        """MHz."""
        return {pynvml.NVML_CLOCK_SM: 1410, pynvml.NVML_CLOCK_MEM: 2619}[kind]

    def nvmlDeviceGetMaxClockInfo(self, _: FakeGpu, kind: int) -> int:
        """MHz."""
        return {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind]

    def nvmlDeviceGetEnforcedPowerLimit(self, _: FakeGpu) -> int:
        """Milliwatts."""
        return 350_000

    def nvmlDeviceGetCurrPcieLinkGeneration(self, _: FakeGpu) -> int:
        """Idle."""
        return 1

    def nvmlDeviceGetMaxPcieLinkGeneration(self, _: FakeGpu) -> int:
        """Of device and slot."""
        return 5

    def nvmlDeviceGetCurrPcieLinkWidth(self, _: FakeGpu) -> int:
        """Lanes."""
        return 8

    def nvmlDeviceGetMaxPcieLinkWidth(self, _: FakeGpu) -> int:
        """Lanes."""
        return 16

    def nvmlGpmQueryDeviceSupport(self, _: FakeGpu) -> SimpleNamespace:
        """Like Hopper."""
        return SimpleNamespace(isSupportedDevice=1)

    def nvmlGpmSampleAlloc(self) -> SimpleNamespace:
        """To be freed."""
        self.samples += 1
        return SimpleNamespace(gpu=None)

    def nvmlGpmSampleFree(self, _: SimpleNamespace) -> None:
        """The inverse."""
        self.samples -= 1

    def nvmlGpmSampleGet(self, gpu: FakeGpu, sample: SimpleNamespace) -> SimpleNamespace:
        """Taken now."""
        sample.gpu = gpu
        return sample

    def nvmlGpmMetricsGet(self, asked: SimpleNamespace) -> SimpleNamespace:
        """Of the first metric."""
        assert asked.numMetrics == 1
        assert asked.sample1.gpu is asked.sample2.gpu
        asked.metrics[0].value = asked.sample1.gpu.sm_percent
        asked.metrics[0].nvmlReturn = 0
        return asked


def _unsupported(*_: object) -> object:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
