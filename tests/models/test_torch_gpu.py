"""The torch engine on an NVIDIA GPU: the same code as on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dlmodels.engines.base import Engine
from dlmodels.engines.torch import TorchEngine
from dlmodels.errors import (
    OutOfMemoryError,
)
from dlmodels.repository import ModelSpec, read_model

from .networks import NETWORKS, Tiny, pictures


@pytest.fixture(scope="module")
def gpu() -> Engine:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU on this machine")
    started = TorchEngine("cuda:0", 1)
    started.start()
    return started


@pytest.mark.gpu
class TestGpu:
    """The same code on an NVIDIA GPU."""

    @pytest.mark.parametrize("name", NETWORKS)
    def test_answers_are_those_of_the_cpu(self, gpu: Engine, engine: Engine, repository: Path, name: str) -> None:
        spec = read_model(repository / name)
        answers = []
        for one in (gpu, engine):
            model = one.prepare(spec)
            model.load()
            answers.append(model.run(pictures(4)))
        assert np.abs(answers[0] - answers[1]).max() < 1e-3

    def test_a_batch_gives_what_its_images_give_alone(self, gpu: Engine, repository: Path) -> None:
        model = gpu.prepare(read_model(repository / "squeezenet1_1"))
        model.load()
        batch = pictures(7)
        alone = np.concatenate([model.run(batch[i : i + 1]) for i in range(7)])
        assert np.abs(model.run(batch) - alone).max() < 1e-4

    def test_a_reload_gives_the_same_answer_and_an_unload_leaves_no_byte(self, gpu: Engine, repository: Path) -> None:
        model = gpu.prepare(read_model(repository / "squeezenet1_1"))
        model.load()
        expected = model.run(pictures(2))
        model.unload()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            model.load()
            assert torch.cuda.memory_allocated() - before >= model.weights_bytes
            assert np.array_equal(model.run(pictures(2)), expected)
            model.unload()
            assert torch.cuda.memory_allocated() == before

    def test_memory_is_the_gpus_and_kept_blocks_count_as_free(self, gpu: Engine, repository: Path) -> None:
        model = gpu.prepare(read_model(repository / "squeezenet1_1"))
        before = gpu.memory()
        model.load()
        assert before.free_bytes - gpu.memory().free_bytes >= model.weights_bytes
        model.unload()
        assert abs(gpu.memory().free_bytes - before.free_bytes) < 8 << 20
        assert gpu.memory().total_bytes == torch.cuda.get_device_properties(0).total_memory

    def test_a_batch_too_large_for_the_gpu_is_out_of_memory_and_the_next_one_runs(
        self, gpu: Engine, script: Callable[..., ModelSpec]
    ) -> None:
        model = gpu.prepare(script(Tiny("memory")))
        model.load()
        with pytest.raises(OutOfMemoryError, match="no memory for a batch of 2 on cuda:0"):
            model.run(pictures(2, (3, 16, 16)))
        assert model.run(pictures(1, (3, 16, 16))).shape == (1, 5)
