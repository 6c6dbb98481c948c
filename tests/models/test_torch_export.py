"""torch.export files in the torch engine."""

import json
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.torch import TorchEngine
from dlmodels.engines.torch_export import Pt2Model
from dlmodels.errors import ForwardError, LoadError
from dlmodels.images import InputSpec
from dlmodels.repository import ModelSpec, read_model

from .fake_gpu import FakeGpu
from .networks import SMALL, Pair, Tiny, pictures

Export = Callable[..., ModelSpec]
SHAPE = (3, 16, 16)


class Tied(Tiny):
    """A parameter that is a part of another, a buffer that is not saved with the state, and a constant tensor."""

    offset: torch.Tensor
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.both = torch.nn.Parameter(torch.zeros(2, 5))
        self.one = torch.nn.Parameter(self.both.detach()[1])
        self.register_buffer("offset", torch.arange(5.0), persistent=False)
        self.register_buffer("count", torch.tensor([3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores."""
        scores: torch.Tensor = super().forward(x) * self.one + self.both[0] + self.offset * self.count
        return scores + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def path_of(spec: ModelSpec) -> Path:
    return Path(spec.folder) / spec.weights


def rewrite(spec: ModelSpec, change: Callable[[str, bytes], bytes | None]) -> ModelSpec:
    """Put each member of the archive through `change`; None: leave it out. The spec of what is there then."""
    path = path_of(spec)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, content in members.items():
        inner = name.partition("/")[2]
        changed = None if inner.startswith(".data/") else change(inner, content)
        if changed is not None:
            writer.write_record(inner, changed, len(changed))
    writer.write_end_of_file()
    return read_model(path.parent, classes=5, image_input=SMALL)


def _replaced(wanted: str, content: bytes, name: str, old: bytes) -> bytes:
    return content if name == wanted else old


def with_document(spec: ModelSpec, change: Callable[[Any], object]) -> ModelSpec:
    """Change the document that describes the graph."""

    def _change(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return rewrite(spec, _change)


@pytest.mark.parametrize("module", [Tiny(), Tiny("squeezed"), Tied()], ids=["plain", "squeezed", "tied"])
def test_answers_are_the_networks_own_for_any_batch_and_survive_a_reload(
    engine: Engine, export: Export, module: torch.nn.Module
) -> None:
    spec = export(module)
    model = engine.prepare(spec)
    assert isinstance(model, Pt2Model)
    assert model.most_images is None
    for count in (1, 2, 7):
        batch = pictures(count, SHAPE)
        with torch.inference_mode():
            expected = module(torch.from_numpy(batch)).reshape(count, 5).softmax(1).numpy()
        model.load()
        model.load()
        assert str(path_of(spec)) in Path("/proc/self/maps").read_text()
        assert np.abs(model.run(batch) - expected).max() < 1e-5
        model.unload()
        model.unload()
        assert str(path_of(spec)) not in Path("/proc/self/maps").read_text()
    assert model.weights_bytes == path_of(spec).stat().st_size


def test_nothing_of_it_stays_when_unloaded(engine: Engine, export: Export) -> None:
    model = engine.prepare(export(Tied()))
    assert isinstance(model, Pt2Model)
    assert isinstance(model._network, torch.nn.Module)
    stores = [(inner._parameters, inner._buffers, vars(inner)) for inner in model._network.modules()]
    values = [value for three in stores for store in three for value in store.values()]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    assert len(tensors) == 9
    assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 0
    with pytest.raises(ForwardError, match="is not loaded"):
        model.run(pictures(1, SHAPE))


def test_a_fixed_batch_is_filled_up_and_its_limit_told(engine: Engine, export: Export) -> None:
    module = Tiny()
    model = engine.prepare(export(module, images=3))
    assert model.most_images == 3
    model.load()
    for count in (1, 3):
        batch = pictures(count, SHAPE)
        with torch.inference_mode():
            expected = module(torch.from_numpy(batch)).softmax(1).numpy()
        found = model.run(batch)
        assert found.shape == (count, 5)
        assert np.abs(found - expected).max() < 1e-5
    with pytest.raises(ForwardError, match="takes at most 3 images at once, not 4"):
        model.run(pictures(4, SHAPE))


@pytest.mark.parametrize("kind", ["plain", "probabilities"])
def test_answers_that_are_probabilities_already_stay_as_they_are(engine: Engine, export: Export, kind: str) -> None:
    module = Tiny(kind)
    model = engine.prepare(export(module))
    model.load()
    batch = pictures(2, SHAPE)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch))
    expected = (expected if kind == "probabilities" else expected.softmax(1)).numpy()
    assert np.abs(model.run(batch) - expected).max() < 1e-6


def test_it_is_read_where_nothing_is_to_be_mapped(export: Export) -> None:
    module = Tied()
    reading = TorchEngine(Place("cpu", 1, map_files=False))
    reading.start()
    model = reading.prepare(export(module))
    model.load()
    with torch.inference_mode():
        expected = module(torch.from_numpy(pictures(2, SHAPE))).softmax(1).numpy()
    assert np.abs(model.run(pictures(2, SHAPE)) - expected).max() < 1e-5


@pytest.mark.parametrize("host_bytes", [0, 1 << 20])
def test_the_way_to_a_gpu_gives_the_same(engine: Engine, export: Export, host_bytes: int) -> None:
    spec = export(Tied())
    reference = engine.prepare(spec)
    reference.load()
    gpu = FakeGpu(host_bytes)
    model = Pt2Model(msgspec.structs.replace(spec, parameters={"cuda_graphs": False}), gpu)
    if host_bytes:
        model.stage()
    model.load()
    assert gpu.late.done < gpu.late.asked
    assert np.abs(model.run(pictures(2, SHAPE)) - reference.run(pictures(2, SHAPE))).max() < 1e-6


@pytest.mark.usefixtures("computes_bf16")
def test_bf16_is_near_the_full_precision(engine: Engine, export: Export) -> None:
    spec = export(Tiny())
    model = engine.prepare(msgspec.structs.replace(spec, parameters={"datatype": "bf16"}))
    model.load()
    full = engine.prepare(spec)
    full.load()
    assert np.abs(model.run(pictures(3, SHAPE)) - full.run(pictures(3, SHAPE))).max() < 0.05


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_it_gives_the_same_for_any_batch_and_after_a_reload(engine: Engine, export: Export) -> None:
    spec = export(Tiny())
    plain = engine.prepare(spec)
    plain.load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inductor's own deprecations
        model = engine.prepare(msgspec.structs.replace(spec, parameters={"compile": True}))
        assert model.settings["compile"] is True
        for count in (1, 5):
            model.load()
            assert np.abs(model.run(pictures(count, SHAPE)) - plain.run(pictures(count, SHAPE))).max() < 1e-5
            model.unload()


@pytest.mark.parametrize(
    ("module", "change", "expected"),
    [
        (Tiny(), {"classes": 7}, "gives scores of shape (1, 5) for a batch of 1, where 7 classes are expected"),
        (Pair(), {}, "gives no single tensor of class scores, but tuple"),
        (Tiny(), {"input": InputSpec(width=16, height=24)}, "takes images of 3 channels and 16 x 16 pixels"),
        (Tiny(), {"input": InputSpec(width=16, height=16, bw=True)}, "where 'exported' has 1 and 16 x 16"),
    ],
)
def test_a_network_that_is_not_as_described_is_refused_at_once(
    engine: Engine, export: Export, module: torch.nn.Module, change: dict[str, object], expected: str
) -> None:
    with pytest.raises(LoadError, match=re.escape(expected)):
        engine.prepare(msgspec.structs.replace(export(module), **change))


class TestHostileFiles:
    """Nothing that a file says is run, and nothing in it unpickled."""

    def test_example_inputs_are_never_unpickled(self, engine: Engine, export: Export, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        torch.save(Trap(), tmp_path / "trap")
        trap = (tmp_path / "trap").read_bytes()
        spec = rewrite(export(Tiny()), lambda name, old: trap if name == "data/sample_inputs/model.pt" else old)
        model = engine.prepare(spec)
        model.load()
        assert model.run(pictures(1, SHAPE)).shape == (1, 5)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("folder", ["weights", "constants"])
    def test_weights_that_are_pickled_are_refused(self, engine: Engine, export: Export, folder: str) -> None:
        def pickled(name: str, content: bytes) -> bytes:
            if name != f"data/{folder}/model_{folder}_config.json":
                return content
            config = json.loads(content)
            entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
            config["config"]["last.bias"] = entry
            return json.dumps(config).encode()

        with pytest.raises(LoadError, match=r"has 'last.bias', which is pickled, which is not run here"):
            engine.prepare(rewrite(export(Tiny()), pickled))

    @pytest.mark.parametrize(
        "target",
        [
            "torch.ops.load_library",
            "torch.hub.load",
            "torch.ops.aten.from_file.default",
            "torch.ops.aten.save.default",
            "torch.ops.aten.set_grad_enabled.default",
            "_operator.methodcaller",
            "os.system",
            "torch.ops.aten.relu.default;x",
            "#extension:f",
        ],
    )
    def test_a_graph_that_calls_anything_but_an_operator_is_refused(
        self, engine: Engine, export: Export, target: str
    ) -> None:
        def call(document: Any) -> None:
            document["graph_module"]["graph"]["nodes"][0]["target"] = target

        with pytest.raises(LoadError, match=re.escape(f"the target {target!r}, which is not run here")):
            engine.prepare(with_document(export(Tiny()), call))

    def test_names_that_are_code_are_refused(self, engine: Engine, export: Export) -> None:
        code = "x=__import__('os').mkdir('sprung')"
        spec = export(Tiny())

        def rename(name: str, content: bytes) -> bytes:
            return content.replace(b'"x"', json.dumps(code).encode()) if name == "models/model.json" else content

        with pytest.raises(LoadError, match="which is not run here"):
            engine.prepare(rewrite(spec, rename))

    @pytest.mark.parametrize(
        "formula",
        [
            "__import__('os').mkdir('sprung')",
            "Symbol('s0').__class__",
            "(lambda: 1)()",
            "Symbol('__import__')",
            "[1][0]",
            "print(1)",
        ],
    )
    def test_formulas_that_are_code_are_refused(self, engine: Engine, export: Export, formula: str) -> None:
        spec = export(Tiny())
        was = re.compile(rb'"expr_str": "(?:[^"\\]|\\.)*"')
        now = b'"expr_str": ' + json.dumps(formula).encode()

        def change(name: str, content: bytes) -> bytes:
            return was.sub(lambda _: now, content) if name == "models/model.json" else content

        with pytest.raises(LoadError, match=r"the formula .* which is not run here"):
            engine.prepare(rewrite(spec, change))

    def test_guards_are_left_out_whatever_they_say(self, engine: Engine, export: Export) -> None:
        def guard(document: dict[str, object]) -> None:
            document["guards_code"] = ["__import__('os').mkdir('sprung')"]

        engine.prepare(with_document(export(Tiny()), guard))
        assert not Path("sprung").exists()

    def test_inputs_nested_in_classes_are_refused(self, engine: Engine, export: Export) -> None:
        spec = export(Tiny())

        def change(name: str, content: bytes) -> bytes:
            return content.replace(b"builtins.tuple", b"os.anything") if name == "models/model.json" else content

        with pytest.raises(LoadError, match=r"of the type 'os.anything'"):
            engine.prepare(rewrite(spec, change))


class TestWrongFiles:
    """Refused when prepared, with what to do."""

    @pytest.mark.parametrize("content", [b"", b"hello", os.urandom(1000)])
    def test_what_is_no_archive(self, engine: Engine, export: Export, content: bytes) -> None:
        spec = export(Tiny())
        path_of(spec).write_bytes(content)
        with pytest.raises(LoadError, match=r"is no torch\.export file: export the network with"):
            engine.prepare(read_model(path_of(spec).parent, classes=5, image_input=SMALL))

    def test_a_torchscript_file_under_that_name(
        self, engine: Engine, script: Callable[..., ModelSpec], export: Export
    ) -> None:
        spec = export(Tiny())
        shutil.copy(path_of(script(Tiny())), path_of(spec))
        with pytest.raises(LoadError, match=r"has no models/model.json"):
            engine.prepare(read_model(path_of(spec).parent, classes=5, image_input=SMALL))

    @pytest.mark.parametrize("name", ["models/model.json", "data/weights/model_weights_config.json"])
    def test_a_document_of_another_layout(self, engine: Engine, export: Export, name: str) -> None:
        spec = export(Tiny())
        for content in (b"{}", b"[1, 2]", b"not json"):
            wrong = rewrite(spec, partial(_replaced, name, content))
            with pytest.raises(LoadError, match=r"is not laid out as torch\.export\.save"):
                engine.prepare(wrong)

    def test_a_record_that_is_missing_or_too_short(self, engine: Engine, export: Export) -> None:
        spec = export(Tiny())
        first = "data/weights/weight_0"
        with pytest.raises(LoadError, match="is shorter than"):
            engine.prepare(rewrite(spec, lambda name, old: old[:-4] if name == first else old))
        with pytest.raises(LoadError, match="is compressed, missing or of a type"):
            engine.prepare(rewrite(spec, lambda name, old: None if name == first else old))

    def test_damaged_weights(self, engine: Engine, export: Export) -> None:
        spec = export(Tiny())
        content = bytearray(path_of(spec).read_bytes())
        content[70] ^= 1
        path_of(spec).write_bytes(content)
        with pytest.raises(LoadError, match="is damaged in"):
            engine.prepare(spec)

    def test_a_file_that_changed_after_it_was_prepared_does_not_load(self, engine: Engine, export: Export) -> None:
        spec = export(Tiny())
        model = engine.prepare(spec)
        path_of(spec).write_bytes(path_of(spec).read_bytes() + b"x")
        with pytest.raises(LoadError, match="has changed since it was checked"):
            model.load()
