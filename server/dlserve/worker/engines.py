"""The engines of this process: each made and started once, when it is first asked for."""

import gc
import importlib.metadata
import logging
import platform
import threading
from pathlib import Path
from time import perf_counter
from types import MappingProxyType

from dlmodels.engines import create_engine, known_engines
from dlmodels.engines.base import Engine

from dlserve import hardware

log = logging.getLogger(__name__)
_DISTRIBUTIONS = MappingProxyType({"simulated": "", "opencv": "opencv-python-headless"})
"""Engine -> the package that carries its framework, where that is not the engine's own name; "": it needs none."""


class Engines:
    """Engines by name, all on one device."""

    def __init__(self, device: str, threads: int) -> None:
        self._device = device
        self._threads = threads
        self._started: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Engine:
        """The engine, started; the first call imports its framework, which takes seconds.

        Raises UnknownEngineError or EngineUnavailableError; the next call tries again.
        """
        engine = self._started.get(name)
        if engine is not None:
            return engine
        with self._lock:
            engine = self._started.get(name)
            if engine is None:
                engine = self._started[name] = self._start(name)
        return engine

    def _start(self, name: str) -> Engine:
        began = perf_counter()
        engine = create_engine(name, self._device, self._threads)
        engine.start()
        # A framework's hundred thousands of objects live as long as the process; collections need not walk them again.
        gc.collect()
        gc.freeze()
        log.info("engine %s is ready on %s after %.1f s", name, self._device, perf_counter() - began)
        return engine

    def versions(self) -> dict[str, str]:
        """Engine -> its framework's version, or "unavailable: why"; imports nothing."""
        return {name: self._version(name) for name in known_engines()}

    def _version(self, name: str) -> str:
        if name in self._started:
            return self._started[name].version()
        distribution = _DISTRIBUTIONS.get(name, name)
        if not distribution:
            return ""
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            return f"unavailable: the package {distribution} is not installed"


def device_name(device: str, visible_gpus: str | None) -> str:
    """What the device calls itself: the processor's or the GPU's product name. `visible_gpus`: CUDA_VISIBLE_DEVICES."""
    if device == "cpu":
        return _processor_name()
    index = int(device.removeprefix("cuda:"))
    return next((gpu.name for gpu in hardware.gpus(visible_gpus) if gpu.index == index), device)


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == "model name"]
    return names[0] if names else platform.machine()
