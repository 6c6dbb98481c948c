"""TorchScript files in the torch engine."""

import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dlmodels.engines.base import Engine
from dlmodels.engines.torch_script import ScriptModel
from dlmodels.errors import (
    ForwardError,
    LoadError,
    OutOfMemoryError,
)
from dlmodels.images import InputSpec
from dlmodels.repository import ModelSpec, read_model

from .networks import SMALL, Pair, Scores, Tiny, TwoOutputs, pictures


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
