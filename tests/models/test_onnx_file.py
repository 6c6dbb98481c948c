"""ONNX files read without a framework."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from dlmodels.engines.graph_input import TensorInfo
from dlmodels.engines.onnx_file import read_onnx_file, with_data_files
from dlmodels.errors import LoadError, RepositoryError
from dlmodels.repository import FileFacts, read_model
from onnx import TensorProto, helper, numpy_helper

from .onnx_files import IMAGE, Net

Write = Callable[[str, bytes | str], Path]


def test_what_a_file_says_of_itself_is_read(tmp_path: Path) -> None:
    found = read_onnx_file(Net(more_outputs=[("other", 7)]).write(tmp_path))
    assert found.inputs == (TensorInfo("data", "float32", (None, 3, 16, 16)),)
    assert found.outputs == (TensorInfo("scores", "float32", (None, 5)), TensorInfo("other", "float32", (None, 7)))
    assert found.operators == {"GlobalAveragePool", "Flatten", "Gemm"}
    assert (found.ir_version, found.opsets, found.data_files, found.dtype) == (8, {"": 13}, frozenset(), "float32")


def test_fixed_sizes_and_half_precision_are_seen(tmp_path: Path) -> None:
    found = read_onnx_file(Net(batch=4, half=True, channels_last=True).write(tmp_path))
    assert found.inputs == (TensorInfo("data", "float16", (4, 16, 16, 3)),)
    assert found.dtype == "float16"


def test_weights_that_an_old_file_lists_among_its_inputs_are_none(tmp_path: Path) -> None:
    model = Net().proto()
    model.graph.input.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, [5, 3]))
    onnx.save_model(model, tmp_path / "net.onnx")
    assert [tensor.name for tensor in read_onnx_file(tmp_path / "net.onnx").inputs] == ["data"]


def test_files_with_weights_are_found_wherever_a_tensor_names_them(tmp_path: Path) -> None:
    path = Net().write(tmp_path, data="net.onnx.data")
    model = onnx.load(path, load_external_data=False)
    tensor = numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32))
    onnx.external_data_helper.set_external_data(tensor, "inner.bin", 0, 12)
    tensor.data_location = TensorProto.EXTERNAL
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["scores"], [], then_branch=inner, else_branch=inner))
    onnx.save_model(model, path)
    found = read_onnx_file(path)
    assert found.data_files == {"net.onnx.data", "inner.bin"}
    assert {"If", "Constant"} < found.operators


def test_data_files_join_the_models_files(tmp_path: Path) -> None:
    path = Net().write(tmp_path, data="weights.bin")
    spec = read_model(tmp_path, engine="onnxruntime", classes=5, image_input=IMAGE)
    assert spec.files.keys() == {"net.onnx"}
    joined = with_data_files(spec, read_onnx_file(path))
    assert joined.files["weights.bin"] == FileFacts("", 60)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(LoadError, match=r"keeps weights in the file 'weights.bin', which is missing: copy it there"):
        with_data_files(spec, read_onnx_file(path))


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", ""])
def test_data_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = Net().write(tmp_path, data="weights.bin")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = name
    onnx.save_model(model, path)
    spec = read_model(tmp_path, engine="onnxruntime", classes=5, image_input=IMAGE)
    with pytest.raises((RepositoryError, LoadError), match=r"not inside its folder|which is missing"):
        with_data_files(spec, read_onnx_file(path))


def test_every_truncation_and_foreign_file_is_refused_in_a_sentence(write: Write, tmp_path: Path) -> None:
    whole = Net().write(tmp_path / "m").read_bytes()
    foreign = [b"", b"hello", b"PK\x03\x04" + b"\0" * 60, b"\x80\x04\x95" + whole, b"<?xml version='1.0'?>" + b" " * 99]
    for content in [*foreign, *(whole[:size] for size in range(len(whole)))]:
        path = write("net.onnx", content)
        with pytest.raises(LoadError, match=re.escape(f"{path} is no whole ONNX file: ")):
            read_onnx_file(path)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda graph: graph.node[1].input.pop(), "its operator 'Flatten' takes nothing"),
        (lambda graph: graph.initializer.pop(), "its operator 'Gemm' takes 'weights', which nothing gives"),
        (lambda graph: graph.node.pop(), "nothing gives its output 'scores'"),
        (lambda graph: graph.ClearField("node"), "its graph has no operators"),
    ],
)
def test_a_graph_with_loose_ends_is_refused(
    tmp_path: Path, damage: Callable[[onnx.GraphProto], object], expected: str
) -> None:
    model = Net().proto()
    damage(model.graph)
    onnx.save_model(model, tmp_path / "net.onnx")
    with pytest.raises(LoadError, match=re.escape(expected)):
        read_onnx_file(tmp_path / "net.onnx")


def test_random_bytes_never_do_more_than_fail(write: Write) -> None:
    draws = np.random.default_rng(0)
    whole = bytearray(Net().proto().SerializeToString())
    for _ in range(300):
        damaged = bytearray(whole)
        for place in draws.integers(0, len(whole), 4):
            damaged[place] = draws.integers(0, 256)
        path = write("net.onnx", bytes(damaged))
        with suppress(LoadError):
            assert read_onnx_file(path).path == path


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"cannot be read \(No such file or directory\): put the file back"):
        read_onnx_file(tmp_path / "none.onnx")
