"""A thousand loads and evictions over eight models give their memory back (acceptance 7 of the issue on engines)."""

import gc
import itertools
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from dlmodels.engines.base import Engine, Model, Place
from dlmodels.engines.torch import TorchEngine
from dlmodels.repository import ModelSpec, read_model

from .networks import Tiny, pictures

CYCLES, SETTLED = 1000, 50
TOLERANCE = 0.05
SHAPE = (3, 16, 16)
"""Small pictures: it is the loads that count."""


class Broad(Tiny):
    """More than a MiB of weights, so that a few per cent of them left behind in each cycle would be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.broad = torch.nn.Linear(5, 1 << 15)
        self.narrow = torch.nn.Linear(1 << 15, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        scores: torch.Tensor = self.narrow(self.broad(self.last(self.convolution(x).mean((2, 3)))))
        return scores


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def cycle(models: list[Model], shape: tuple[int, int, int] = SHAPE, resident: int = 3) -> tuple[int, int]:
    """Load and run each in turn, with at most `resident` loaded; the process's memory after 50 and after 1,000 cycles."""
    batch = pictures(1, shape)
    loaded: list[Model] = []
    settled = 0
    for count, model in zip(range(1, CYCLES + 1), itertools.cycle(models), strict=False):
        if len(loaded) == resident:
            loaded.pop(0).unload()
        model.load()
        loaded.append(model)
        if count % 7 == 0:  # not a divisor of the number of models: each has its turn
            model.run(batch)
        if count == SETTLED:
            settled = resident_bytes()
    end = resident_bytes()
    for model in loaded:
        model.unload()
    return settled, end


def check(settled: int, end: int) -> None:
    print(f"{settled >> 20} MiB after {SETTLED} cycles, {end >> 20} MiB after {CYCLES}")
    assert abs(end - settled) < TOLERANCE * settled


@pytest.mark.parametrize(
    ("kind", "map_files"), [("script", False), ("export", True)], ids=["script-read", "export-mapped"]
)
def test_memory_after_1000_cycles_is_that_after_50(
    script: Callable[..., ModelSpec], export: Callable[..., ModelSpec], kind: str, map_files: bool
) -> None:
    engine = TorchEngine(Place("cpu", 1, map_files=map_files))
    engine.start()
    spec = script(Broad()) if kind == "script" else export(Broad())
    settled, end = cycle([engine.prepare(spec) for _ in range(8)])
    check(settled, end)


def test_zoo_networks_as_well(engine: Engine, repository: Path) -> None:
    spec = read_model(repository / "squeezenet1_1")
    settled, end = cycle([engine.prepare(spec) for _ in range(8)], (3, 64, 64))
    check(settled, end)
