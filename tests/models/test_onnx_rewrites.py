"""ONNX rewritten: the same answers, in words that every reader understands."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from dlmodels.conversion.onnx_rewrites import for_every_reader
from dlmodels.conversion.onnx_weights import gather
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .onnx_files import Net


def pooling(opset: int, **attributes: Any) -> onnx.ModelProto:
    """One average over windows of 3 x 3."""
    node = helper.make_node("AveragePool", ["data"], ["mean"], kernel_shape=[3, 3], strides=[2, 2], **attributes)
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 8, 8])
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 3, None, None])
    graph = helper.make_graph([node], "pooling", [data], [mean])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def by_onnxruntime(model: onnx.ModelProto, data: NDArray[np.float32]) -> NDArray[np.float32]:
    """The model's answer."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(None, {"data": data})[0]
    return answer


def by_opencv(model: onnx.ModelProto, data: NDArray[np.float32]) -> NDArray[np.float32]:
    """The model's answer."""
    network = cv2.dnn.readNetFromONNX(np.frombuffer(model.SerializeToString(), np.uint8))
    network.setInput(data)
    return np.asarray(network.forward(), np.float32)


@pytest.mark.parametrize("opset", [10, 13, 17])
@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 1, 2, 1]])
def test_an_average_over_padding_answers_alike_everywhere(opset: int, pads: list[int]) -> None:
    data = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32) + 1
    model = pooling(opset, pads=pads, count_include_pad=1)
    expected = by_onnxruntime(model, data)
    for_every_reader(model)
    assert [node.op_type for node in model.graph.node] == ["Pad", "AveragePool"]
    assert np.abs(by_onnxruntime(model, data) - expected).max() < 1e-6
    assert np.abs(by_opencv(model, data) - expected).max() < 1e-6


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 1, 1, 1]},
        {"pads": [1, 1, 1, 1], "count_include_pad": 0},
        {"pads": [0, 0, 0, 0], "count_include_pad": 1},
        {"pads": [1, 1, 1, 1], "count_include_pad": 1, "ceil_mode": 1},
    ],
)
def test_other_averages_stay_as_they_are(attributes: dict[str, Any]) -> None:
    model = pooling(13, **attributes)
    before = model.SerializeToString()
    for_every_reader(model)
    assert model.SerializeToString() == before


def test_weights_that_are_equal_by_chance_become_separate(tmp_path: Path) -> None:
    model = Net().proto()
    model.graph.node.insert(0, helper.make_node("Identity", ["weights"], ["same"]))
    model.graph.node.append(helper.make_node("Gemm", ["flat", "same"], ["others"], transB=1))
    model.graph.node.append(helper.make_node("Identity", ["scores"], ["out"]))
    onnx.save_model(model, tmp_path / "parts.onnx")
    gather(tmp_path / "parts.onnx", tmp_path / "m.onnx")
    gathered = onnx.load(tmp_path / "m.onnx")
    assert [tensor.name for tensor in gathered.graph.initializer] == ["weights", "same"]
    first, second = map(numpy_helper.to_array, gathered.graph.initializer)
    assert np.array_equal(first, second)
    assert [list(node.input) for node in gathered.graph.node if node.op_type == "Identity"] == [["scores"]]


def test_a_rewriting_that_is_not_wanted_is_not_done(tmp_path: Path) -> None:
    onnx.save_model(pooling(13, pads=[1, 1, 1, 1], count_include_pad=1), tmp_path / "parts.onnx")
    gather(tmp_path / "parts.onnx", tmp_path / "m.onnx", rewrite=False)
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node] == ["AveragePool"]
