"""The torch engine on an NVIDIA GPU: the same code as on the CPU, and what only a GPU has."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from dlmodels.engines.arena import PAGE_BYTES
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.torch import TorchEngine
from dlmodels.engines.torch_model import TorchModel
from dlmodels.errors import OutOfMemoryError
from dlmodels.repository import ModelSpec, read_model

from .networks import NETWORKS, Tiny, pictures

HOST_BYTES = 256 << 20


@pytest.fixture(scope="module")
def gpu() -> Engine:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU on this machine")
    started = TorchEngine(Place("cuda:0", 1, host_bytes=HOST_BYTES))
    started.start()
    return started


@pytest.fixture
def spec(repository: Path) -> ModelSpec:
    return read_model(repository / "squeezenet1_1")


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

    @pytest.mark.parametrize("kind", ["script", "export"])
    def test_files_with_their_own_graph_as_well(
        self,
        gpu: Engine,
        engine: Engine,
        script: Callable[..., ModelSpec],
        export: Callable[..., ModelSpec],
        kind: str,
    ) -> None:
        spec = script(Tiny()) if kind == "script" else export(Tiny())
        reference = engine.prepare(spec)
        reference.load()
        expected = reference.run(pictures(4, (3, 16, 16)))
        model = gpu.prepare(spec)
        for staged in (False, True):
            if staged:
                model.stage()
            model.load()
            assert np.abs(model.run(pictures(4, (3, 16, 16))) - expected).max() < 1e-3
            model.unload()
        model.unstage()

    def test_a_batch_gives_what_its_images_give_alone(self, gpu: Engine, spec: ModelSpec) -> None:
        model = gpu.prepare(spec)
        model.load()
        batch = pictures(7)
        alone = np.concatenate([model.run(batch[i : i + 1]) for i in range(7)])
        assert np.abs(model.run(batch) - alone).max() < 1e-4

    def test_a_reload_gives_the_same_answer_and_an_unload_leaves_no_byte(self, gpu: Engine, spec: ModelSpec) -> None:
        model = gpu.prepare(spec)
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

    def test_memory_is_the_gpus_and_kept_blocks_count_as_free(self, gpu: Engine, spec: ModelSpec) -> None:
        model = gpu.prepare(spec)
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

    @pytest.mark.parametrize(("datatype", "tolerance"), [("tf32", 0.05), ("bf16", 0.3), ("fp16", 0.05)])
    def test_lower_precisions_are_near_the_full_one(
        self, gpu: Engine, spec: ModelSpec, datatype: str, tolerance: float
    ) -> None:
        full = gpu.prepare(spec)
        full.load()
        model = gpu.prepare(msgspec.structs.replace(spec, parameters={"datatype": datatype}))
        model.load()
        found = model.run(pictures(3))
        assert np.abs(found - full.run(pictures(3))).max() < tolerance
        assert np.abs(found.sum(axis=1) - 1).max() < 1e-5
        assert (model.weights_bytes < 0.52 * full.weights_bytes) is (datatype != "tf32")
        assert model.settings["datatype"] == datatype


@pytest.mark.gpu
class TestHostTier:
    """Weights in pinned memory."""

    def test_a_load_from_it_needs_no_file_and_gives_the_same(
        self, gpu: Engine, spec: ModelSpec, tmp_path: Path
    ) -> None:
        shutil.copytree(spec.folder, tmp_path / "m")
        model = gpu.prepare(msgspec.structs.replace(spec, folder=str(tmp_path / "m")))
        assert model.reload_tiers == ("host", "disk")
        model.load()
        expected = model.run(pictures(2))
        model.unload()
        model.stage()
        (tmp_path / "m" / spec.weights).unlink()
        for _ in range(3):
            model.load()
            assert np.array_equal(model.run(pictures(2)), expected)
            model.unload()
            assert model.staged
        model.unstage()
        assert not model.staged

    def test_one_that_is_full_says_so_and_what_is_in_it_stays(self, gpu: Engine, spec: ModelSpec) -> None:
        rounded = -(-spec.weights_bytes // PAGE_BYTES) * PAGE_BYTES
        models = [gpu.prepare(spec) for _ in range(HOST_BYTES // rounded + 1)]
        for model in models[:-1]:
            model.stage()
        with pytest.raises(OutOfMemoryError, match="unstage another model"):
            models[-1].stage()
        assert [model.staged for model in models] == [True] * (len(models) - 1) + [False]
        for model in models:
            model.unstage()

    def test_copies_from_it_are_asynchronous(self, gpu: Engine, spec: ModelSpec) -> None:
        model = gpu.prepare(spec)
        assert isinstance(model, TorchModel)
        model.stage()
        model.load()
        assert not model._weights.settled
        model.run(pictures(1))
        assert model._weights.settled
        model.unload()
        model.unstage()


@pytest.mark.gpu
class TestCudaGraphs:
    """Recorded forwards."""

    def test_a_replayed_forward_gives_the_same_also_for_other_images_and_after_a_reload(
        self, gpu: Engine, spec: ModelSpec
    ) -> None:
        plain = gpu.prepare(msgspec.structs.replace(spec, parameters={"cuda_graphs": False}))
        plain.load()
        model = gpu.prepare(spec)
        assert isinstance(model, TorchModel)
        assert model.settings["cuda_graphs"] is True
        assert model._graphs is not None
        batch = pictures(6)
        for _ in range(2):
            model.load()
            for turn in range(6):
                images = batch[turn : turn + 1]
                assert np.abs(model.run(images) - plain.run(images)).max() < 1e-5
            assert list(model._graphs.shapes) == [(1, 3, 224, 224)]
            model.unload()
            assert not model._graphs.shapes

    def test_what_was_recorded_gives_its_memory_back(self, gpu: Engine, spec: ModelSpec) -> None:
        model = gpu.prepare(spec)
        used = []
        for _ in range(5):
            model.load()
            for _ in range(4):
                model.run(pictures(2))
            model.unload()
            used.append(torch.cuda.memory_allocated())
        assert used[1] == used[-1]
