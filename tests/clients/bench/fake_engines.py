"""Engines that answer too early, or wrongly, in every way that a careless clock would not notice."""

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from dlclient.bench import inproc
from dlmodels.engines.base import Engine, Memory, Model
from dlmodels.images import InputSpec
from dlmodels.repository import ModelSpec
from numpy.typing import NDArray

CLASSES = 8
COMPUTING_S = 0.03
Rows = NDArray[np.float32]


def truth(batch: Any) -> Rows:
    """What a batch's right answer is: probabilities that depend on its pixels."""
    means = np.stack([np.asarray(image)[:, ::4, ::4].mean(axis=(1, 2)) for image in batch])
    powers = np.exp(np.concatenate([means * 3, np.zeros((len(means), CLASSES - 3), np.float32)], axis=1))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


class Lazy:
    """As MXNet's arrays: who wants the content waits for it."""

    def __init__(self, rows: Rows, ready: float) -> None:
        self._rows = rows
        self._ready = ready

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Rows:
        time.sleep(max(self._ready - time.perf_counter(), 0))
        return self._rows


class Device:
    """Computes one batch after the other in a thread of its own, `COMPUTING_S` each."""

    def __init__(self) -> None:
        self.free_at = 0.0

    def ready_at(self) -> float:
        """When what is asked for now will be done."""
        self.free_at = max(self.free_at, time.perf_counter()) + COMPUTING_S
        return self.free_at

    def later(self, ready: float, act: Callable[[], None]) -> None:
        """Act then, without anyone waiting."""
        timer = threading.Timer(max(ready - time.perf_counter(), 0), act)
        timer.daemon = True
        timer.start()


class FakeModel(Model):
    """Answers by the way that `parameters["way"]` names."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self._device = Device()
        self._buffer = np.full((1, CLASSES), 1 / CLASSES, np.float32)
        self._before: Rows | None = None
        self.calls = 0

    @property
    def weights_bytes(self) -> int:
        """Some."""
        return 1000

    def load(self) -> None:
        """Nothing to do."""

    def unload(self) -> None:
        """Nothing to do."""

    def run(self, batch: Any) -> Any:
        """What the way gives."""
        self.calls += 1
        return getattr(self, f"_{self.spec.parameters['way']}")(np.array(batch))

    def _honest(self, batch: Rows) -> Rows:
        time.sleep(COMPUTING_S)
        return truth(batch)

    def _lazy(self, batch: Rows) -> Lazy:
        return Lazy(truth(batch), self._device.ready_at())

    def _filled_later(self, batch: Rows) -> Rows:
        """As a copy to pinned memory that nobody waits for."""
        rows = np.zeros((len(batch), CLASSES), np.float32)
        answer = truth(batch)
        self._device.later(self._device.ready_at(), lambda: np.copyto(rows, answer))
        return rows

    def _same_buffer(self, batch: Rows) -> Rows:
        """One buffer for all answers, which always holds an answer: the last one's, for now."""
        answer = truth(batch)
        self._device.later(self._device.ready_at(), lambda: np.copyto(self._buffer, answer))
        return self._buffer

    def _one_behind(self, batch: Rows) -> Rows:
        """As a pipeline: each call gets what the call before it asked for."""
        before, self._before = self._before, truth(batch)
        return self._before if before is None else before

    def _constant(self, batch: Rows) -> Rows:
        return np.full((len(batch), CLASSES), 1 / CLASSES, np.float32)

    def _late_in_the_end(self, batch: Rows) -> Rows:
        """Honest for as long as anyone could look twice, then as the one buffer."""
        return self._honest(batch) if self.calls <= 15 else self._buffer


class FakeEngine(Engine):
    """For the way that the model's parameters name."""

    name: ClassVar[str] = "fake"

    def start(self) -> None:
        """Nothing to import."""

    def prepare(self, spec: ModelSpec) -> FakeModel:
        """The model."""
        return FakeModel(spec)

    def memory(self) -> Memory:
        """Plenty."""
        return Memory(1 << 30, 1 << 30)


def install(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Have every point in this process measure the engine of that way."""
    spec = ModelSpec("fake", "fake", classes=CLASSES, input=InputSpec(16, 16, scale=1 / 255), parameters={"way": way})
    monkeypatch.setattr(inproc, "find_model", lambda *_: spec)
    monkeypatch.setattr(inproc, "engine_type", lambda _: FakeEngine)
