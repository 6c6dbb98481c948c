"""The torch engine, with real networks on the CPU."""

import pickle
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from dlmodels.engines.base import Engine, Memory
from dlmodels.engines.torch import TorchEngine
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_script import ScriptModel
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

NETWORKS = ("squeezenet1_1", "shufflenet_v2_x0_5")
SMALL = InputSpec(width=16, height=16)


@pytest.fixture(scope="module")
def engine() -> Engine:
    started = TorchEngine("cpu", 1)
    started.start()
    return started


@pytest.fixture(scope="module")
def gpu() -> Engine:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU on this machine")
    started = TorchEngine("cuda:0", 1)
    started.start()
    return started


def pictures(count: int, shape: tuple[int, int, int] = (3, 224, 224)) -> Planes:
    """Smooth random pictures, all different."""
    random = np.random.default_rng(0)
    cells = random.standard_normal((count, shape[0], 8, 8), dtype=np.float32)
    return cells.repeat(shape[1] // 8, 2).repeat(shape[2] // 8, 3)


def by_torchvision(repository: Path, name: str) -> torch.nn.Module:
    """The same network by torchvision's own means; the filters of our files lie as (out, height, width, in)."""
    state = safetensors.torch.load_file(repository / name / "weights.safetensors")
    network: torch.nn.Module = torchvision.models.get_model(name, weights=None).eval()
    network.load_state_dict(
        {key: tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor for key, tensor in state.items()}
    )
    return network


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
    tensors = list(model._module.state_dict(keep_vars=True).values())
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
    storages = {tensor.untyped_storage().data_ptr() for tensor in model._module.state_dict().values()}
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
            ({"weights": "net.pt"}, "or a TorchScript *.pt without one"),
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


class Scores(NamedTuple):
    """What a network with auxiliary classifiers returns."""

    logits: torch.Tensor
    aux: torch.Tensor | None


class Tiny(torch.nn.Module):
    """Five classes from 3 x 16 x 16, or what `kind` asks for."""

    def __init__(self, kind: str = "plain") -> None:
        super().__init__()
        self.kind = kind
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.last = torch.nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores; misbehaves for batches where `kind` says so."""
        x = self.last(self.convolution(x).mean((2, 3)))
        if self.kind == "memory" and x.size(0) > 1:
            x = x + torch.zeros(1 << 52, device=x.device)[0]
        if self.kind == "nan" and x.size(0) > 1:
            x = x / torch.zeros_like(x)
        if self.kind == "squeezed":
            x = x[:, :, None, None]
        if self.kind == "one score":
            x = x.mean()
        return x


class TwoOutputs(Tiny):
    """As GoogLeNet, scripted."""

    def forward(self, x: torch.Tensor) -> Scores:  # type: ignore[override]
        """Scores of both classifiers."""
        scores = self.last(self.convolution(x).mean((2, 3)))
        return Scores(scores, scores * 0)


class Pair(Tiny):
    """Two tensors of which neither is named."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Scores twice."""
        scores = self.last(self.convolution(x).mean((2, 3)))
        return scores, scores


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., ModelSpec]:
    """Save a network as TorchScript in a folder of its own, as a person would drop it in."""

    def _script(module: torch.nn.Module, classes: int = 5, image_input: InputSpec = SMALL) -> ModelSpec:
        torch.manual_seed(0)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        folder = tmp_path / "scripted"
        folder.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.jit.save(torch.jit.script(module.eval()), folder / "net.pt")
        return read_model(folder, classes=classes, image_input=image_input)

    return _script


class TestTorchScript:
    """Files as DeepDetect uses them."""

    @pytest.mark.parametrize("module", [Tiny(), Tiny("squeezed"), TwoOutputs()], ids=["plain", "squeezed", "auxiliary"])
    def test_answers_are_the_networks_own_and_survive_a_reload(
        self, engine: Engine, script: Callable[..., ModelSpec], module: torch.nn.Module
    ) -> None:
        spec = script(module)
        model = engine.prepare(spec)
        batch = pictures(3, (3, 16, 16))
        with torch.inference_mode():
            output = module(torch.from_numpy(batch))
            scores = output.logits if isinstance(output, Scores) else output
            expected = scores.reshape(3, 5).softmax(1).numpy()
        for _ in range(2):
            model.load()
            model.load()
            assert np.abs(model.run(batch) - expected).max() < 1e-5
            model.unload()
            model.unload()
        assert model.weights_bytes == (3 * 4 * 9 + 4 + 4 * 5 + 5) * 4

    def test_nothing_of_it_stays_when_unloaded(self, engine: Engine, script: Callable[..., ModelSpec]) -> None:
        model = engine.prepare(script(Tiny()))
        assert isinstance(model, ScriptModel)
        assert model._module is None
        with pytest.raises(ForwardError, match="is not loaded"):
            model.run(pictures(1, (3, 16, 16)))

    @pytest.mark.parametrize(
        ("module", "classes", "image_input", "expected"),
        [
            (Tiny(), 7, SMALL, "gives scores of shape (1, 5) for a batch of 1, where 7 classes are expected"),
            (Tiny("one score"), 5, SMALL, "gives scores of shape ()"),
            (Pair(), 5, SMALL, "gives no single tensor of class scores, but tuple"),
            (Tiny(), 5, InputSpec(width=16, height=16, bw=True), "failed on a batch of shape (1, 1, 16, 16)"),
        ],
    )
    def test_a_network_that_is_not_as_described_is_refused_at_once(
        self,
        engine: Engine,
        script: Callable[..., ModelSpec],
        module: torch.nn.Module,
        classes: int,
        image_input: InputSpec,
        expected: str,
    ) -> None:
        with pytest.raises(LoadError, match=re.escape(expected)):
            engine.prepare(script(module, classes, image_input))

    def test_a_batch_too_large_for_the_memory_is_told_from_other_failures(
        self, engine: Engine, script: Callable[..., ModelSpec]
    ) -> None:
        model = engine.prepare(script(Tiny("memory")))
        model.load()
        with pytest.raises(OutOfMemoryError, match="no memory for a batch of 2 on cpu: send fewer images"):
            model.run(pictures(2, (3, 16, 16)))
        assert model.run(pictures(1, (3, 16, 16))).shape == (1, 5)

    def test_answers_that_are_no_numbers_are_an_error(self, engine: Engine, script: Callable[..., ModelSpec]) -> None:
        model = engine.prepare(script(Tiny("nan")))
        model.load()
        with pytest.raises(ForwardError, match="not finite"):
            model.run(pictures(2, (3, 16, 16)))

    def test_pickles_are_never_loaded(self, engine: Engine, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        folder = tmp_path / "m"
        folder.mkdir()
        saves: dict[str, Callable[[Path], object]] = {
            "pickled checkpoint": lambda path: torch.save({"a": Trap()}, path),
            "no TorchScript file": lambda path: path.write_bytes(pickle.dumps(Trap())),
        }
        for expected, save in saves.items():
            save(folder / "net.pt")
            with pytest.raises(LoadError, match=f"{expected}.*save the network with torch.jit.save"):
                engine.prepare(read_model(folder, classes=5))
        assert not (tmp_path / "sprung").exists()

    def test_a_damaged_or_foreign_file_is_refused(self, engine: Engine, script: Callable[..., ModelSpec]) -> None:
        spec = script(Tiny())
        path = Path(spec.folder) / spec.weights
        content = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            weights = max((archive.read(name) for name in archive.namelist() if "/data/" in name), key=len)
        flipped = content.replace(weights, weights[:-1] + bytes([weights[-1] ^ 1]))
        for damaged, expected in (
            (b"", "no TorchScript file"),
            (b"hello", "no TorchScript file"),
            (content[:-100], "no TorchScript file"),
            (flipped, "is damaged in net/data/"),
        ):
            path.write_bytes(damaged)
            with pytest.raises(LoadError, match=expected):
                engine.prepare(read_model(path.parent, classes=5, image_input=SMALL))

    def test_a_file_that_changed_after_it_was_prepared_does_not_load(
        self, engine: Engine, script: Callable[..., ModelSpec]
    ) -> None:
        spec = script(Tiny())
        model = engine.prepare(spec)
        path = Path(spec.folder) / spec.weights
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(LoadError, match="has changed since it was checked"):
            model.load()
        path.unlink()
        with pytest.raises(LoadError, match="put the file back"):
            model.load()


class TestEngine:
    """What is not about a model."""

    def test_threads_are_what_the_process_was_given(self, engine: Engine) -> None:
        assert torch.get_num_threads() == engine.threads == 1

    def test_its_version_is_torchs(self, engine: Engine) -> None:
        assert engine.version().split("+")[0] == torch.__version__.split("+")[0]

    def test_its_memory_on_a_cpu_is_the_machines(self, engine: Engine) -> None:
        memory = engine.memory()
        assert 0 < memory.free_bytes <= memory.total_bytes

    @pytest.mark.parametrize("device", ["cuda:99", "cuda"])
    def test_a_device_that_is_not_there_is_unavailable(self, device: str) -> None:
        with pytest.raises(EngineUnavailableError, match=rf"there is no device '{device}' here: torch sees \d+ GPUs"):
            TorchEngine(device, 1).start()

    def test_it_must_be_started_first(self) -> None:
        with pytest.raises(EngineUnavailableError, match="call start"):
            TorchEngine("cpu", 1).prepare(ModelSpec("m", "torch"))


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
