"""Caffe's files and ONNX in OpenCV."""

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import psutil
import pytest
import safetensors.numpy
import torch
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.opencv import OpenCvEngine
from dlmodels.engines.opencv_model import OpenCvModel
from dlmodels.errors import EngineUnavailableError, ForwardError, LoadError, RepositoryError, SettingError
from dlmodels.images import InputSpec
from dlmodels.repository import ModelSpec, read_model
from onnx import helper

from .caffe_files import Layer, Small, SqueezeNet, input_dims, input_layer, write_caffe
from .networks import SMALL, pictures
from .onnx_files import Net

SHAPE = (10, 3, 16, 16)
"""As a deploy.prototxt has it: with a batch size that binds nobody."""
BATCH = pictures(3, (3, 16, 16))


@pytest.fixture(scope="module")
def opencv() -> Engine:
    started = OpenCvEngine(Place("cpu", 2))
    started.start()
    return started


@pytest.fixture
def caffe(tmp_path: Path) -> Path:
    """A folder with a small network, as a person would drop it in."""
    write_caffe(tmp_path, input_dims(SHAPE), Small().layers())
    return tmp_path


def described(
    folder: Path, parameters: dict[str, object] | None = None, image_input: InputSpec = SMALL, classes: int = 5
) -> ModelSpec:
    """As a person would drop it in, and say what it is."""
    spec = read_model(folder, engine="opencv", classes=classes, image_input=image_input)
    return msgspec.structs.replace(spec, parameters=parameters or {})


@pytest.mark.parametrize("head", [input_dims(SHAPE), input_layer(SHAPE)], ids=["input_dim", "Input layer"])
@pytest.mark.parametrize("parameters", [{}, {"winograd": False}], ids=["winograd", "plain"])
def test_a_caffe_network_answers_as_torch_does_for_any_batch_and_after_a_reload(
    opencv: Engine, tmp_path: Path, head: str, parameters: dict[str, object]
) -> None:
    network = Small()
    write_caffe(tmp_path, head, network.layers())
    model = opencv.prepare(described(tmp_path, parameters))
    expected = network.answers(BATCH)
    for _ in range(2):
        model.load()
        model.load()
        for count in (3, 1, 2, 3):
            assert np.abs(model.run(BATCH[:count]) - expected[:count]).max() < 1e-4
        model.unload()
        model.unload()
    assert model.most_images is None
    assert model.weights_bytes >= sum(
        (tmp_path / name).stat().st_size for name in ("deploy.prototxt", "net.caffemodel")
    )


def test_a_real_network_in_caffes_files_answers_as_torch_does(
    opencv: Engine, engine: Engine, repository: Path, tmp_path: Path
) -> None:
    own = read_model(repository / "squeezenet1_1")
    state = safetensors.numpy.load_file(repository / "squeezenet1_1" / own.weights)
    filters = {key: value.transpose(0, 3, 1, 2) if value.ndim == 4 else value for key, value in state.items()}
    write_caffe(tmp_path, input_dims((1, *own.input.shape)), SqueezeNet(filters).layers())
    batch = pictures(2)
    answers = []
    for each, spec in ((engine, own), (opencv, described(tmp_path, image_input=own.input, classes=1000))):
        model = each.prepare(spec)
        model.load()
        answers.append(model.run(batch))
        model.unload()
    assert np.abs(answers[0] - answers[1]).max() < 1e-4
    files = (tmp_path / "net.caffemodel").stat().st_size
    assert model.weights_bytes > 2 * files, "OpenCV's own copies of the filters count"


@pytest.mark.parametrize("net", [Net(), Net(softmax=True), Net(batch=4)], ids=["free batch", "softmax", "batch of 4"])
def test_an_onnx_file_answers_as_numpy_does(opencv: Engine, tmp_path: Path, net: Net) -> None:
    net.write(tmp_path)
    model = opencv.prepare(described(tmp_path))
    assert model.most_images == net.batch
    model.load()
    for count in (1, 3, 2):
        assert np.abs(model.run(BATCH[:count]) - net.answer(BATCH[:count])).max() < 1e-5


def test_an_onnx_file_that_opencv_would_take_for_another_is_refused(opencv: Engine, tmp_path: Path) -> None:
    for net, expected in (
        (Net(half=True), "computes in float32"),
        (Net(operator="GlobalMagic"), "cannot be read by OpenCV"),
    ):
        net.write(tmp_path)
        with pytest.raises(LoadError, match=expected):
            opencv.prepare(described(tmp_path))
    Net().write(tmp_path, data="weights.bin")
    with pytest.raises(LoadError, match=r"keeps weights in weights\.bin, which OpenCV does not read"):
        opencv.prepare(described(tmp_path))


def test_weights_that_are_copies_of_others_are_refused(opencv: Engine, tmp_path: Path) -> None:
    model = Net().proto()
    model.graph.node[-1].input[1] = "copy"
    model.graph.node.insert(0, helper.make_node("Identity", ["weights"], ["copy"]))
    onnx.save_model(model, tmp_path / "net.onnx")
    with pytest.raises(LoadError, match="uses the weights 'weights' twice"):
        opencv.prepare(described(tmp_path))


@pytest.mark.parametrize("counted", [0, 1])
def test_padding_that_opencv_does_not_count_in_means_is_refused(opencv: Engine, tmp_path: Path, counted: int) -> None:
    model = Net().proto()
    pool = helper.make_node(
        "AveragePool", ["data"], ["blurred"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=counted
    )
    model.graph.node[0].input[0] = "blurred"
    model.graph.node.insert(0, pool)
    onnx.save_model(model, tmp_path / "net.onnx")
    if counted:
        with pytest.raises(LoadError, match="count_include_pad"):
            opencv.prepare(described(tmp_path))
    else:
        opencv.prepare(described(tmp_path))


def test_threads_are_set_and_read_back_whatever_others_set_meanwhile(caffe: Path) -> None:
    before = cv2.getNumThreads()
    try:
        for threads in (2, 1):
            engine = OpenCvEngine(Place("cpu", threads))
            engine.start()
            model = engine.prepare(described(caffe))
            model.load()
            cv2.setNumThreads(3)  # as whoever decodes images might
            model.run(BATCH)
            assert model.settings["threads"] == cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)


def test_the_output_with_the_classes_is_found_among_several_or_named(opencv: Engine, tmp_path: Path) -> None:
    network = Small()
    aside = Layer("aside", "Pooling", ["sum"], "aside", "pooling_param { pool: MAX global_pooling: true }")
    write_caffe(tmp_path, input_dims(SHAPE), [*network.layers(), aside])
    model = opencv.prepare(described(tmp_path))
    assert model.settings["output"] == "prob"
    model.load()
    assert np.abs(model.run(BATCH) - network.answers(BATCH)).max() < 1e-4
    with pytest.raises(SettingError, match="has no output 'probe'"):
        opencv.prepare(described(tmp_path, {"output": "probe"}))


def test_settings_that_it_would_ignore_are_refused(opencv: Engine, caffe: Path) -> None:
    wrong: tuple[tuple[dict[str, object], str], ...] = (
        ({"winogard": True}, "Did you mean 'winograd'"),
        ({"datatype": "fp16"}, "datatype"),
    )
    for parameters, expected in wrong:
        with pytest.raises(SettingError, match=expected):
            opencv.prepare(described(caffe, parameters))
    assert opencv.prepare(described(caffe, {"winograd": False})).settings["winograd"] is False


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace("LRN", "LocalNorm"), "layers that OpenCV lacks"),
        (lambda text: text[:-40], "is no prototxt of Caffe (it ends too early)"),
        (lambda text: text.replace("}", "]", 1), "has ']' where it should not be"),
        (lambda _: "", "has no layers"),
        (lambda text: text.replace("16", "20"), "takes pictures of shape (?, 3, 20, 20), and"),
        (lambda text: text.replace('"Convolution"', '"ImageData"', 1), "is a network for training"),
        (lambda text: text.replace('"conv2"', '"conv3"'), "the weights belong to another network"),
    ],
    ids=["unknown layer", "truncated", "syntax", "empty", "other size", "training", "other weights"],
)
def test_a_prototxt_that_does_not_fit_is_refused_with_a_cure(
    opencv: Engine, caffe: Path, capfd: pytest.CaptureFixture[str], change: Callable[[str], str], expected: str
) -> None:
    path = caffe / "deploy.prototxt"
    path.write_text(change(path.read_text()))
    with pytest.raises(LoadError, match=re.escape(expected)):
        opencv.prepare(described(caffe))
    assert capfd.readouterr().err == ""


def test_a_caffemodel_that_is_damaged_or_anothers_is_refused_with_a_cure(
    opencv: Engine, caffe: Path, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    path = caffe / "net.caffemodel"
    whole = path.read_bytes()
    other = tmp_path_factory.mktemp("other") / "net.pt"
    torch.save({"weight": torch.zeros(3)}, other)
    for content in (b"", b"hello", pickle.dumps({"a": 1}), other.read_bytes(), whole[:-7], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(LoadError, match=r"copy it again|put the right files there"):
            opencv.prepare(described(caffe))
    assert capfd.readouterr().err == ""
    path.write_bytes(whole)
    assert opencv.prepare(described(caffe)).weights_bytes > 0


def test_files_that_go_or_change_after_they_were_checked_do_not_load(opencv: Engine, caffe: Path) -> None:
    model = opencv.prepare(described(caffe))
    path = caffe / "net.caffemodel"
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    with pytest.raises(LoadError, match="has changed since it was checked"):
        model.load()
    path.unlink()
    with pytest.raises(LoadError, match="put the file back"):
        model.load()


def test_what_is_no_model_of_opencv_is_refused(opencv: Engine, caffe: Path) -> None:
    spec = described(caffe)
    for wrong in ({"graph": ""}, {"architecture": "squeezenet1_1"}, {"weights": "net.pt"}):
        with pytest.raises(RepositoryError, match="opencv takes a"):
            opencv.prepare(msgspec.structs.replace(spec, **wrong))
    with pytest.raises(EngineUnavailableError, match="call start"):
        OpenCvEngine(Place("cpu", 1)).prepare(spec)


def test_nothing_runs_before_it_is_loaded_and_bad_batches_are_told(opencv: Engine, caffe: Path) -> None:
    model = opencv.prepare(described(caffe))
    with pytest.raises(ForwardError, match="is not loaded"):
        model.run(BATCH)
    model.load()
    bad: Any
    for bad in (BATCH[:0], BATCH.astype(np.float64), BATCH[0], [b"raw"]):
        with pytest.raises(ForwardError, match="takes float32"):
            model.run(bad)
    with pytest.raises(ForwardError, match="failed on a batch of shape"):
        model.run(np.zeros((1, 1, 16, 16), np.float32))
    assert model.run(BATCH).shape == (3, 5)


def test_memory_that_is_not_there_is_told_as_such(caffe: Path) -> None:
    code = """
import resource, sys
import numpy as np
from dlmodels.engines.base import Place
from dlmodels.engines.opencv import OpenCvEngine
from dlmodels.errors import OutOfMemoryError
from dlmodels.images import InputSpec
from dlmodels.repository import read_model
engine = OpenCvEngine(Place("cpu", 1))
engine.start()
model = engine.prepare(read_model(__import__("pathlib").Path(sys.argv[1]), engine="opencv", classes=5,
                                  image_input=InputSpec(width=16, height=16)))
model.load()
batch = np.zeros((40_000, 3, 16, 16), np.float32)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))
try:
    model.run(batch)
except OutOfMemoryError as exc:
    print(exc)
print(model.run(batch[:2]).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(caffe)], check=False, capture_output=True, text=True, timeout=120
    )
    assert "no memory for a batch of 40000 on cpu: send fewer images" in done.stdout, done.stderr
    assert "(2, 5)" in done.stdout, done.stderr


def test_memory_after_two_hundred_loads_is_that_after_fifty(opencv: Engine, caffe: Path) -> None:
    model = opencv.prepare(described(caffe))
    assert isinstance(model, OpenCvModel)
    process = psutil.Process()
    after_fifty = 0
    for cycle in range(200):
        model.load()
        model.run(BATCH)
        model.unload()
        if cycle == 49:
            after_fifty = process.memory_info().rss
    assert process.memory_info().rss < 1.05 * after_fifty
    assert model._net is None


def test_only_the_librarys_lines_are_taken_from_stderr() -> None:
    code = (
        "import os, re\n"
        "from dlmodels.engines.native_stderr import captured_stderr\n"
        "with captured_stderr(re.compile('library')) as lines:\n"
        "    os.write(2, b'ours\\nlibrary: bad\\nhalf a line')\n"
        "print(lines)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['library: bad']\n"
    assert done.stderr == "ours\nhalf a line"
