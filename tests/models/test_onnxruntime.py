"""ONNX files in ONNX Runtime."""

import pickle
import re
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
import onnx
import psutil
import pytest
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.onnxruntime import OnnxRuntimeEngine
from dlmodels.engines.onnxruntime_runtime import OnnxRuntimeModel
from dlmodels.errors import (
    EngineUnavailableError,
    ForwardError,
    LoadError,
    ModelError,
    OutOfMemoryError,
    RepositoryError,
    SettingError,
)
from dlmodels.repository import ModelSpec, read_model, write_model

from .onnx_files import IMAGE, Net, noise


@pytest.fixture(scope="module")
def ort() -> Engine:
    started = OnnxRuntimeEngine(Place("cpu", 2))
    started.start()
    return started


def described(folder: Path, **parameters: object) -> ModelSpec:
    """As a person would drop it in, and say what it is."""
    spec = read_model(folder, engine="onnxruntime", classes=5, image_input=IMAGE)
    return msgspec.structs.replace(spec, parameters=parameters)


@pytest.mark.parametrize(
    ("net", "tolerance"),
    [
        (Net(), 1e-5),
        (Net(softmax=True), 1e-5),
        (Net(channels_last=True), 1e-5),
        (Net(batch=1), 1e-5),
        (Net(batch=4), 1e-5),
        (Net(half=True), 5e-3),
        (Net(more_outputs=[("embedding", 7)]), 1e-5),
    ],
    ids=["plain", "softmax", "nhwc", "batch of 1", "batch of 4", "half", "two outputs"],
)
def test_answers_are_the_networks_own_and_survive_a_reload(
    ort: Engine, tmp_path: Path, net: Net, tolerance: float
) -> None:
    net.write(tmp_path)
    model = ort.prepare(described(tmp_path))
    assert model.most_images == net.batch
    images = noise(min(3, net.batch or 3))
    for _ in range(2):
        model.load()
        model.load()
        for batch in (images, images[:1]):
            rows = model.run(batch)
            assert rows.dtype == np.float32
            assert np.abs(rows - net.answer(batch)).max() < tolerance
        model.unload()
        model.unload()
    with pytest.raises(ForwardError, match="is not loaded"):
        model.run(images)


def test_independent_classes_get_a_sigmoid(ort: Engine, tmp_path: Path) -> None:
    net = Net()
    net.write(tmp_path)
    model = ort.prepare(msgspec.structs.replace(described(tmp_path), multi_label=True))
    model.load()
    images = noise(2)
    assert np.abs(model.run(images) - 1 / (1 + np.exp(-images.mean((2, 3)) @ net.weights.T))).max() < 1e-5


@pytest.mark.parametrize("map_files", [True, False])
def test_weights_in_a_file_of_their_own_are_used_and_watched(tmp_path: Path, map_files: bool) -> None:
    net = Net()
    net.write(tmp_path, data="net.onnx.data")
    engine = OnnxRuntimeEngine(Place("cpu", 1, map_files=map_files))
    engine.start()
    model = engine.prepare(described(tmp_path))
    assert model.weights_bytes == sum((tmp_path / name).stat().st_size for name in ("net.onnx", "net.onnx.data"))
    model.load()
    assert np.abs(model.run(noise(2)) - net.answer(noise(2))).max() < 1e-5
    mapped = {entry.path for entry in psutil.Process().memory_maps()}
    assert str(tmp_path / "net.onnx.data") not in mapped or map_files
    model.unload()
    assert str(tmp_path / "net.onnx.data") not in {entry.path for entry in psutil.Process().memory_maps()}
    (tmp_path / "net.onnx.data").write_bytes(b"x" * 61)
    with pytest.raises(LoadError, match="has changed since it was checked"):
        model.load()


def test_settings_are_read_back_from_the_session(ort: Engine, tmp_path: Path) -> None:
    Net(batch=2).write(tmp_path)
    model = ort.prepare(described(tmp_path, optimization="basic", datatype="fp32"))
    assert model.settings == {
        "provider": "CPUExecutionProvider",
        "threads": 2,
        "optimization": "basic",
        "datatype": "fp32",
        "layout": "nchw",
        "opset": 13,
        "ir_version": 8,
    }


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"theads": 2}, "has a setting 'theads', which does not exist. Valid are: datatype, optimization, output"),
        ({"optimization": "most"}, "optimization: Invalid enum value 'most'"),
        ({"datatype": "fp16"}, "computes in the type of the graph, fp32, not in fp16: leave datatype out, or export"),
        ({"datatype": "tf32"}, "datatype tf32 is for GPUs"),
        ({"output": "logits"}, "has no output 'logits': correct `output`; there are 'scores' (?, 5)"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(
    ort: Engine, tmp_path: Path, parameters: dict[str, Any], expected: str
) -> None:
    Net().write(tmp_path)
    with pytest.raises(SettingError, match=re.escape(expected)):
        ort.prepare(described(tmp_path, **parameters))


def test_the_output_that_is_named_is_taken(ort: Engine, tmp_path: Path) -> None:
    Net(more_outputs=[("ones", 5)]).write(tmp_path)
    with pytest.raises(LoadError, match="has 2 outputs of 5 classes, where one is expected"):
        ort.prepare(described(tmp_path))
    model = ort.prepare(described(tmp_path, output="ones"))
    model.load()
    assert np.allclose(model.run(noise(2)), 0.2)


def test_a_wrong_hash_is_told_before_the_file_is_used(ort: Engine, tmp_path: Path) -> None:
    path = Net().write(tmp_path)
    spec = write_model(tmp_path, described(tmp_path))
    other = Net(seed=1).proto().SerializeToString()
    assert len(other) == path.stat().st_size
    path.write_bytes(other)
    with pytest.raises(LoadError, match="another content than its sha256"):
        ort.prepare(spec)


def test_what_another_framework_wrote_is_refused(ort: Engine, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    whole = Net().write(tmp_path).read_bytes()
    for content in (pickle.dumps(Trap()), b"PK\x03\x04" + b"\0" * 99, b'{"nodes": []}', whole[: len(whole) // 2], b""):
        (tmp_path / "net.onnx").write_bytes(content)
        with pytest.raises(LoadError, match="is no whole ONNX file"):
            ort.prepare(described(tmp_path))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (
            Net(operator="GlobalSecretPool"),
            "(Error No Op registered for GlobalSecretPool with domain_version of 13): export",
        ),
        (
            Net(opset=999),
            "(ONNX Runtime only *guarantees* support for models stamped with official released onnx opset",
        ),
        (Net(side=8), "takes pictures of shape (?, 3, 8, 8), and"),
    ],
)
def test_a_graph_that_cannot_work_is_told_with_a_cure(ort: Engine, tmp_path: Path, net: Net, expected: str) -> None:
    net.write(tmp_path)
    with pytest.raises(LoadError, match=re.escape(expected)):
        ort.prepare(described(tmp_path))


def test_the_number_of_classes_is_checked(ort: Engine, tmp_path: Path) -> None:
    Net().write(tmp_path)
    with pytest.raises(
        LoadError, match=r"gives scores of shape \(1, 5\) for a batch of 1, where 7 classes are expected"
    ):
        ort.prepare(msgspec.structs.replace(described(tmp_path), classes=7))


def test_missing_weights_are_told(ort: Engine, tmp_path: Path) -> None:
    Net().write(tmp_path, data="net.onnx.data")
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(LoadError, match=r"keeps weights in the file 'net.onnx.data', which is missing"):
        ort.prepare(described(tmp_path))
    (tmp_path / "net.onnx.data").write_bytes(b"\0" * 10)
    with pytest.raises(LoadError, match="cannot be loaded by onnxruntime"):
        ort.prepare(described(tmp_path))


def test_other_files_than_onnx_are_refused(ort: Engine, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"onnxruntime takes an \*.onnx without one"):
        ort.prepare(ModelSpec("m", "onnxruntime", str(tmp_path), weights="net.pt"))
    with pytest.raises(RepositoryError, match=r"the architecture 'resnet18'"):
        ort.prepare(ModelSpec("m", "onnxruntime", str(tmp_path), weights="net.onnx", architecture="resnet18"))


def test_a_batch_that_the_graph_does_not_take_is_refused(ort: Engine, tmp_path: Path) -> None:
    Net(batch=2).write(tmp_path)
    model = ort.prepare(described(tmp_path))
    model.load()
    with pytest.raises(ForwardError, match="takes batches of 2, not of 3: send fewer images at once"):
        model.run(noise(3))
    with pytest.raises(ForwardError, match="takes float32"):
        model.run(noise(0))


def test_a_forward_that_fails_is_told_and_the_next_one_works(ort: Engine, tmp_path: Path) -> None:
    net = Net()
    model = net.proto()
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_param = "side"
    onnx.save_model(model, tmp_path / "net.onnx")
    prepared = ort.prepare(described(tmp_path))
    prepared.load()
    with pytest.raises(ForwardError, match="failed on a batch of 1"):
        prepared.run(np.zeros((1, 4, 16, 16), np.float32))
    assert np.abs(prepared.run(noise(2)) - net.answer(noise(2))).max() < 1e-5


def greedy(path: Path) -> None:
    """A network that makes a tensor of one number for one picture, and of 2^50 for two."""
    model = Net(opset=15).proto()
    numbers = {"huge": 1 << 50, "one": 1}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array([number], np.int64), name) for name, number in numbers.items()
    )
    model.graph.node.extend(
        [
            onnx.helper.make_node("Shape", ["data"], ["count"], start=0, end=1),
            onnx.helper.make_node("Sub", ["count", "one"], ["others"]),
            onnx.helper.make_node("Mul", ["others", "huge"], ["many"]),
            onnx.helper.make_node("Max", ["many", "one"], ["size"]),
            onnx.helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            onnx.helper.make_node("ReduceMax", ["zeros"], ["zero"], axes=[0], keepdims=1),
            onnx.helper.make_node("Add", ["scores", "zero"], ["sum"]),
        ]
    )
    model.graph.output[0].name = "sum"
    onnx.save_model(model, path)


def test_running_out_of_memory_is_told_from_other_failures(ort: Engine, tmp_path: Path) -> None:
    greedy(tmp_path / "net.onnx")
    model = ort.prepare(described(tmp_path))
    model.load()
    with pytest.raises(OutOfMemoryError, match="no memory for a batch of 2 on cpu: send fewer images"):
        model.run(noise(2))
    assert model.run(noise(1)).shape == (1, 5)


def test_nothing_of_the_weights_stays_when_unloaded(ort: Engine, tmp_path: Path) -> None:
    model = Net().proto()
    blob = np.random.default_rng(0).standard_normal((5, 1 << 20)).astype(np.float32)  # 20 MiB
    model.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(blob, "wide"),
            onnx.numpy_helper.from_array(np.array([0], np.int64), "first"),
        ]
    )
    model.graph.node.extend(
        [
            onnx.helper.make_node("ReduceMean", ["wide"], ["bias"], axes=[1], keepdims=0),
            onnx.helper.make_node("Add", ["scores", "bias"], ["biased"]),
        ]
    )
    model.graph.output[0].name = "biased"
    onnx.save_model(model, tmp_path / "net.onnx")
    prepared = ort.prepare(described(tmp_path, optimization="disabled"))
    assert isinstance(prepared, OnnxRuntimeModel)
    resident = []
    for _ in range(110):
        prepared.load()
        prepared.run(noise(1))
        prepared.unload()
        assert prepared._session is None
        resident.append(psutil.Process().memory_info().rss)
    # Medians: one is now and then read before the pages are back.
    assert median(resident[100:]) < median(resident[:10]) + 10 * blob.nbytes, "90 times the weights, had they stayed"


def test_a_model_too_large_for_the_machine_is_not_begun(
    ort: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Net().write(tmp_path)
    model = ort.prepare(described(tmp_path))
    monkeypatch.setattr(type(model), "weights_bytes", 1 << 60)
    with pytest.raises(OutOfMemoryError, match=r"do not fit the .* bytes that are free: unload another model"):
        model.load()


def test_an_engine_that_was_not_started_says_so() -> None:
    with pytest.raises(EngineUnavailableError, match=r"call start\(\) first"):
        OnnxRuntimeEngine(Place("cpu", 1)).prepare(ModelSpec("m", "onnxruntime"))


def test_a_gpu_needs_the_other_distribution() -> None:
    assert OnnxRuntimeEngine.missing("cpu") == ""
    if OnnxRuntimeEngine.missing("cuda:0"):
        assert "install it in place of onnxruntime" in OnnxRuntimeEngine.missing("cuda:0")
        with pytest.raises(EngineUnavailableError, match="install onnxruntime-gpu in place of onnxruntime"):
            OnnxRuntimeEngine(Place("cuda:0", 1)).start()


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_answers(tmp_path: Path) -> None:
    net = Net()
    net.write(tmp_path)
    engine = OnnxRuntimeEngine(Place("cuda:0", 1))
    try:
        engine.start()
    except EngineUnavailableError as exc:
        pytest.skip(str(exc))
    for datatype in ("fp32", "tf32"):
        model = engine.prepare(described(tmp_path, datatype=datatype))
        assert model.settings["datatype"] == datatype
        model.load()
        assert np.abs(model.run(noise(3)) - net.answer(noise(3))).max() < 1e-2
        model.unload()
    assert 0 < engine.memory().free_bytes <= engine.memory().total_bytes


def test_what_is_wrong_is_raised_and_not_printed(
    ort: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Net(operator="GlobalSecretPool").write(tmp_path)
    with pytest.raises(ModelError):
        ort.prepare(described(tmp_path))
    Net().write(tmp_path)
    model = ort.prepare(described(tmp_path))
    model.load()
    with pytest.raises(ModelError):
        model.run(np.zeros((1, 4, 16, 16), np.float32))
    assert capfd.readouterr().err == ""
