"""TorchScript files in the torch engine."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.torch import TorchEngine
from dlmodels.engines.torch_script import ScriptModel
from dlmodels.errors import (
    ForwardError,
    LoadError,
    OutOfMemoryError,
    SettingError,
)
from dlmodels.images import InputSpec
from dlmodels.repository import ModelSpec, read_model

from .fake_gpu import FakeGpu
from .networks import SMALL, Pair, Scores, Tiny, TwoOutputs, pictures


class Twins(Tiny):
    """Parameters with equal content, one that is a part of another, and one in another layout."""

    also_zeros: torch.Tensor
    more_zeros: torch.Tensor
    table: torch.Tensor
    row: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.zeros = torch.nn.Parameter(torch.zeros(5))
        self.register_buffer("also_zeros", torch.zeros(5))
        self.register_buffer("more_zeros", torch.zeros(5))
        self.register_buffer("table", torch.arange(10.0).reshape(2, 5))
        self.register_buffer("row", self.table[1])
        self.convolution.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        scores: torch.Tensor = self.last(self.convolution(x).mean((2, 3)))
        return scores + self.zeros + self.also_zeros * self.more_zeros + self.table[0] * self.row


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
        assert model.weights_bytes == (Path(spec.folder) / spec.weights).stat().st_size

    def test_nothing_of_it_stays_when_unloaded(self, engine: Engine, script: Callable[..., ModelSpec]) -> None:
        spec = script(Tiny())
        model = engine.prepare(spec)
        assert isinstance(model, ScriptModel)
        assert model._kept is not None
        tensors = [*model._kept.parameters(), *model._kept.buffers()]
        assert len(tensors) == 4
        weights = str(Path(spec.folder) / spec.weights)
        for _ in range(2):
            assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 0
            assert weights not in Path("/proc/self/maps").read_text()
            model.load()
            assert weights in Path("/proc/self/maps").read_text()
            model.unload()
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

    def test_code_that_writes_files_is_refused_and_not_run(
        self, engine: Engine, script: Callable[..., ModelSpec], tmp_path: Path
    ) -> None:
        class Saving(Tiny):
            def __init__(self) -> None:
                super().__init__()
                self.path = str(tmp_path / "sprung")

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                torch.save(x, self.path)
                return x.mean((2, 3))

        with pytest.raises(
            LoadError, match=r"has code that reads or writes files \(code/.*\.py\), which is not run here"
        ):
            engine.prepare(script(Saving(), classes=3))
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

    def test_each_weight_comes_from_its_own_record(self, engine: Engine, script: Callable[..., ModelSpec]) -> None:
        module = Twins()
        spec = script(module)
        model = engine.prepare(spec)
        assert isinstance(model, ScriptModel)
        model.load()
        assert model._kept is not None
        state = module.state_dict()
        assert len({tensor.untyped_storage().data_ptr() for tensor in model._kept.state_dict().values()}) == 1
        for name, tensor in model._kept.state_dict().items():
            assert torch.equal(tensor, state[name])
            assert tensor.stride() == state[name].stride()
        batch = pictures(2, (3, 16, 16))
        with torch.inference_mode():
            expected = module(torch.from_numpy(batch)).softmax(1).numpy()
        assert np.abs(model.run(batch) - expected).max() < 1e-5

    @pytest.mark.usefixtures("computes_bf16")
    def test_a_module_whose_weights_are_part_of_its_code_is_read_anew_and_dropped(
        self, engine: Engine, tmp_path: Path
    ) -> None:
        class Wide(Tiny):
            def __init__(self) -> None:
                super().__init__()
                self.wide = torch.nn.Linear(5, 4000)
                self.narrow = torch.nn.Linear(4000, 5)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                scores: torch.Tensor = self.narrow(self.wide(self.last(self.convolution(x).mean((2, 3)))))
                return scores

        module = Wide().eval()
        batch = pictures(2, (3, 16, 16))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            traced = torch.jit.trace(module, torch.from_numpy(batch))  # type: ignore[no-untyped-call]
            torch.jit.save(torch.jit.freeze(traced.eval()), tmp_path / "net.pt")
        spec = read_model(tmp_path, classes=5, image_input=SMALL)
        model = engine.prepare(spec)
        assert isinstance(model, ScriptModel)
        assert model.settings["weights"] == "torch.jit.load"
        with torch.inference_mode():
            expected = module(torch.from_numpy(batch)).softmax(1).numpy()
        for _ in range(2):
            assert model._kept is None
            assert model._anew._module is None
            model.load()
            assert np.abs(model.run(batch) - expected).max() < 1e-5
            model.unload()
        assert model.weights_bytes >= (5 * 4000 + 4000 * 5) * 4
        with pytest.raises(SettingError, match="cannot be had, as the weights are constants"):
            engine.prepare(msgspec.structs.replace(spec, parameters={"datatype": "bf16"}))

    @pytest.mark.parametrize(("kind", "multi_label"), [("probabilities", False), ("independent", True)])
    def test_answers_that_are_probabilities_already_stay_as_they_are(
        self, engine: Engine, script: Callable[..., ModelSpec], kind: str, multi_label: bool
    ) -> None:
        module = Tiny(kind)
        model = engine.prepare(msgspec.structs.replace(script(module), multi_label=multi_label))
        model.load()
        batch = pictures(3, (3, 16, 16))
        with torch.inference_mode():
            expected = module(torch.from_numpy(batch)).numpy()
        assert np.abs(model.run(batch) - expected).max() < 1e-6

    def test_it_is_read_where_nothing_is_to_be_mapped(self, script: Callable[..., ModelSpec]) -> None:
        module = Twins()
        reading = TorchEngine(Place("cpu", 1, map_files=False))
        reading.start()
        model = reading.prepare(script(module))
        model.load()
        with torch.inference_mode():
            expected = module(torch.from_numpy(pictures(2, (3, 16, 16)))).softmax(1).numpy()
        assert np.abs(model.run(pictures(2, (3, 16, 16))) - expected).max() < 1e-5

    @pytest.mark.parametrize("host_bytes", [0, 1 << 20])
    def test_the_way_to_a_gpu_gives_the_same(
        self, engine: Engine, script: Callable[..., ModelSpec], host_bytes: int
    ) -> None:
        spec = script(Twins())
        reference = engine.prepare(spec)
        reference.load()
        gpu = FakeGpu(host_bytes)
        model = ScriptModel(msgspec.structs.replace(spec, parameters={"cuda_graphs": False}), gpu)
        if host_bytes:
            model.stage()
        model.load()
        assert gpu.late.done < gpu.late.asked
        batch = pictures(2, (3, 16, 16))
        assert np.abs(model.run(batch) - reference.run(batch)).max() < 1e-6
        model.unload()
        model.unstage()

    @pytest.mark.usefixtures("computes_bf16")
    def test_bf16_is_near_the_full_precision(self, engine: Engine, script: Callable[..., ModelSpec]) -> None:
        spec = script(Tiny())
        full = engine.prepare(spec)
        full.load()
        model = engine.prepare(msgspec.structs.replace(spec, parameters={"datatype": "bf16"}))
        for _ in range(2):
            model.load()
            batch = pictures(3, (3, 16, 16))
            assert np.abs(model.run(batch) - full.run(batch)).max() < 0.05
            model.unload()

    def test_it_cannot_be_compiled(self, engine: Engine, script: Callable[..., ModelSpec]) -> None:
        spec = msgspec.structs.replace(script(Tiny()), parameters={"compile": True})
        with pytest.raises(SettingError, match="TorchScript cannot be compiled"):
            engine.prepare(spec)
