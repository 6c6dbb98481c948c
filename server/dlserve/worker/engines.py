"""The engines of this process: each made and started once, when it is first asked for."""

import gc
import logging
import platform
import threading
from pathlib import Path
from time import perf_counter

from dlmodels.engines import engine_type, known_engines
from dlmodels.engines.base import Engine, Place
from dlmodels.errors import EngineUnavailableError

from dlserve import hardware
from dlserve.messages import EngineFacts

log = logging.getLogger(__name__)


class Engines:
    """Engines by name, all on one device."""

    def __init__(self, place: Place) -> None:
        self._place = place
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
        engine = engine_type(name)(self._place)
        if missing := engine.missing(self._place.device):
            raise EngineUnavailableError(missing)
        engine.start()
        # A framework's hundred thousands of objects live as long as the process; collections need not walk them again.
        gc.collect()
        gc.freeze()
        log.info("engine %s is ready on %s after %.1f s", name, self._place.device, perf_counter() - began)
        return engine

    def facts(self) -> tuple[EngineFacts, ...]:
        """What every engine can do here, and why those that cannot work; imports no framework."""
        return tuple(self._facts(engine_type(name)) for name in known_engines())

    def _facts(self, kind: type[Engine]) -> EngineFacts:
        return EngineFacts(
            name=kind.name,
            version=kind.version(),
            formats=kind.formats,
            devices=kind.devices,
            settings=kind.settings_type.__struct_fields__,
            missing=kind.missing(self._place.device),
        )


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
