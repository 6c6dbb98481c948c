"""The torch engine, with real networks on the CPU."""

import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from dlmodels.engines.base import Engine, Memory, Place
from dlmodels.engines.torch import TorchEngine
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_zoo import ZooModel
from dlmodels.errors import (
    EngineUnavailableError,
    ForwardError,
    LoadError,
    OutOfMemoryError,
    RepositoryError,
    UnknownArchitectureError,
)
from dlmodels.images import InputSpec, Planes
from dlmodels.repository import ModelSpec, read_model

from .networks import NETWORKS, by_torchvision, pictures


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_those_of_torchvision_with_the_same_weights(engine: Engine, repository: Path, name: str) -> None:
    model = engine.prepare(read_model(repository / name))
    model.load()
    reference = by_torchvision(repository, name)
    batch = pictures(2)
    with torch.inference_mode():
        expected = reference(torch.from_numpy(batch)).softmax(1).numpy()
    assert np.abs(model.run(batch) - expected).max() < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_gives_what_its_images_give_alone(engine: Engine, repository: Path, name: str) -> None:
    model = engine.prepare(read_model(repository / name))
    model.load()
    batch = pictures(5)
    together = model.run(batch)
    alone = np.concatenate([model.run(batch[i : i + 1]) for i in range(5)])
    assert together.shape == (5, 1000)
    assert together.dtype == np.float32
    assert np.abs(together - alone).max() < 1e-4
    assert np.array_equal(together.argmax(axis=1), alone.argmax(axis=1))
    assert len(set(together.argmax(axis=1))) > 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_reload_gives_the_same_answer_and_an_unload_leaves_no_byte(
    engine: Engine, repository: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(repository / name, tmp_path / name)
    spec = read_model(tmp_path / name)
    model = engine.prepare(spec)
    assert isinstance(model, ZooModel)
    tensors = list(model._network.state_dict(keep_vars=True).values())
    weights = str(tmp_path / name / "weights.safetensors")
    answers = []
    for _ in range(3):
        assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 0
        assert weights not in mapped_files()
        model.load()
        model.load()  # harmless
        assert weights in mapped_files()
        answers.append(model.run(pictures(2)))
        model.unload()
        model.unload()  # harmless
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])
    assert model.weights_bytes == spec.weights_bytes == Path(weights).stat().st_size


def test_weights_are_used_where_they_lie_in_the_file(engine: Engine, repository: Path) -> None:
    model = engine.prepare(read_model(repository / "squeezenet1_1"))
    assert isinstance(model, ZooModel)
    model.load()
    storages = {tensor.untyped_storage().data_ptr() for tensor in model._network.state_dict().values()}
    assert len(storages) == 1


def test_a_file_in_torchs_own_layout_gives_the_same_answers(engine: Engine, repository: Path, tmp_path: Path) -> None:
    ours = engine.prepare(read_model(repository / "squeezenet1_1"))
    state = {
        name: tensor.contiguous() for name, tensor in by_torchvision(repository, "squeezenet1_1").state_dict().items()
    }
    safetensors.torch.save_file(state, tmp_path / "their.safetensors")
    spec = read_model(tmp_path, classes=1000, architecture="squeezenet1_1", image_input=ours.spec.input)
    theirs = engine.prepare(spec)
    ours.load()
    theirs.load()
    assert np.abs(theirs.run(pictures(2)) - ours.run(pictures(2))).max() < 1e-5


def test_it_can_be_said_which_tiers_a_cpu_has(engine: Engine, repository: Path) -> None:
    model = engine.prepare(read_model(repository / "squeezenet1_1"))
    assert (model.decodes, model.reload_tiers) == (True, ("disk",))


def test_running_without_weights_is_an_error(engine: Engine, repository: Path) -> None:
    model = engine.prepare(read_model(repository / "squeezenet1_1"))
    with pytest.raises(ForwardError, match="is not loaded"):
        model.run(pictures(1))


def test_many_labels_are_sigmoids_of_the_same_scores(engine: Engine, repository: Path) -> None:
    spec = msgspec.structs.replace(read_model(repository / "shufflenet_v2_x0_5"), multi_label=True)
    model = engine.prepare(spec)
    model.load()
    reference = by_torchvision(repository, spec.name)
    with torch.inference_mode():
        expected = reference(torch.from_numpy(pictures(2))).sigmoid().numpy()
    assert np.abs(model.run(pictures(2)) - expected).max() < 1e-5


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((3, 224, 224), np.float32),
        np.zeros((1, 3, 224, 224), np.float64),
        np.zeros((0, 3, 224, 224), np.float32),
        [b"bytes"],
    ],
)
def test_a_batch_of_another_kind_is_refused(engine: Engine, repository: Path, batch: Planes) -> None:
    model = engine.prepare(read_model(repository / "squeezenet1_1"))
    model.load()
    with pytest.raises(ForwardError, match="takes float32"):
        model.run(batch)


@pytest.mark.parametrize("shape", [(1, 1, 224, 224), (1, 3, 4, 4)])
def test_a_batch_that_the_network_cannot_take_is_a_forward_error(
    engine: Engine, repository: Path, shape: tuple[int, ...]
) -> None:
    model = engine.prepare(read_model(repository / "squeezenet1_1"))
    model.load()
    with pytest.raises(ForwardError, match=re.escape(f"failed on a batch of shape {shape}")):
        model.run(np.zeros(shape, np.float32))
    assert model.run(pictures(1)).shape == (1, 1000)


def test_a_batch_that_may_not_be_written_to_runs(engine: Engine, repository: Path) -> None:
    model = engine.prepare(read_model(repository / "squeezenet1_1"))
    model.load()
    batch = pictures(1)
    expected = model.run(batch)
    batch.flags.writeable = False
    assert np.array_equal(model.run(batch), expected)


class TestWrongFiles:
    """Weights that do not fit are refused when the model is prepared, or at the latest when it is loaded."""

    @pytest.fixture
    def spec(self, repository: Path, tmp_path: Path) -> ModelSpec:
        """A model of its own, of which nothing but the size is recorded."""
        shutil.copytree(repository / "squeezenet1_1", tmp_path / "m")
        (tmp_path / "m/model.toml").unlink()
        return read_model(tmp_path / "m", architecture="squeezenet1_1", classes=1000)

    def test_a_hash_that_differs(self, engine: Engine, repository: Path, tmp_path: Path) -> None:
        shutil.copytree(repository / "squeezenet1_1", tmp_path / "m")
        path = tmp_path / "m/weights.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(LoadError, match="another content than its sha256"):
            engine.prepare(read_model(tmp_path / "m"))

    def test_a_truncated_file(self, engine: Engine, spec: ModelSpec) -> None:
        path = Path(spec.folder) / spec.weights
        path.write_bytes(path.read_bytes()[:-1000])
        facts = msgspec.structs.replace(spec.files[spec.weights], bytes=path.stat().st_size)
        with pytest.raises(LoadError, match="no whole safetensors file"):
            engine.prepare(msgspec.structs.replace(spec, files={spec.weights: facts}))

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"architecture": "resnet18"}, "another network than resnet18: it lacks bn1.bias and"),
            (
                {"classes": 10},
                "has the shape (1000, 1, 1, 512), where squeezenet1_1 with 10 classes has (10, 1, 1, 512): correct `classes`",
            ),
        ],
    )
    def test_weights_of_another_network(
        self, engine: Engine, spec: ModelSpec, change: dict[str, object], expected: str
    ) -> None:
        with pytest.raises(LoadError, match=re.escape(expected)):
            engine.prepare(msgspec.structs.replace(spec, **change))

    def test_weights_of_another_type(self, engine: Engine, spec: ModelSpec) -> None:
        path = Path(spec.folder) / spec.weights
        halves = {name: tensor.half() for name, tensor in safetensors.torch.load_file(path).items()}
        safetensors.torch.save_file(halves, path)
        with pytest.raises(LoadError, match=r"has the type F16, not torch.float32: convert the weights"):
            engine.prepare(msgspec.structs.replace(spec, files={}))

    def test_an_architecture_that_the_zoo_has_not(self, engine: Engine, spec: ModelSpec) -> None:
        with pytest.raises(UnknownArchitectureError, match="Did you mean squeezenet1_1"):
            engine.prepare(msgspec.structs.replace(spec, architecture="squeezenet_1_1"))

    @pytest.mark.parametrize("image_input", [InputSpec(bw=True), InputSpec(width=5, height=5)])
    def test_an_input_that_the_network_cannot_take(
        self, engine: Engine, spec: ModelSpec, image_input: InputSpec
    ) -> None:
        with pytest.raises(RepositoryError, match="squeezenet1_1 does not take an input of"):
            engine.prepare(msgspec.structs.replace(spec, input=image_input))

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"weights": ""}, "names no weights"),
            ({"architecture": ""}, "torch takes *.safetensors with an architecture of the zoo"),
            ({"weights": "net.pt"}, "or a torch.export *.pt2 without one"),
        ],
    )
    def test_weights_without_what_belongs_to_them(
        self, engine: Engine, spec: ModelSpec, change: dict[str, object], expected: str
    ) -> None:
        with pytest.raises(RepositoryError, match=re.escape(expected)):
            engine.prepare(msgspec.structs.replace(spec, **change))

    def test_a_file_that_changed_or_went_after_it_was_prepared(self, engine: Engine, spec: ModelSpec) -> None:
        model = engine.prepare(spec)
        path = Path(spec.folder) / spec.weights
        path.write_bytes(path.read_bytes()[:-4])
        with pytest.raises(LoadError, match="has changed since it was checked"):
            model.load()
        path.unlink()
        with pytest.raises(LoadError, match="put the file back"):
            model.load()

    def test_weights_larger_than_the_memory(
        self, engine: Engine, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = engine.prepare(spec)
        monkeypatch.setattr(TorchDevice, "memory", lambda _: Memory(1 << 40, 1000))
        with pytest.raises(OutOfMemoryError, match="do not fit the 1000 bytes that are free on cpu"):
            model.load()


class TestEngine:
    """What is not about a model."""

    def test_threads_are_what_the_process_was_given(self, engine: Engine) -> None:
        assert torch.get_num_threads() == engine.place.threads == 1

    def test_its_version_is_torchs(self, engine: Engine) -> None:
        assert engine.version().split("+")[0] == torch.__version__.split("+")[0]

    def test_its_memory_on_a_cpu_is_the_machines(self, engine: Engine) -> None:
        memory = engine.memory()
        assert 0 < memory.free_bytes <= memory.total_bytes

    @pytest.mark.parametrize("device", ["cuda:99", "cuda"])
    def test_a_device_that_is_not_there_is_unavailable(self, device: str) -> None:
        with pytest.raises(EngineUnavailableError, match=rf"there is no device '{device}' here: torch sees \d+ GPUs"):
            TorchEngine(Place(device, 1)).start()

    def test_it_must_be_started_first(self) -> None:
        with pytest.raises(EngineUnavailableError, match="call start"):
            TorchEngine(Place("cpu", 1)).prepare(ModelSpec("m", "torch"))
