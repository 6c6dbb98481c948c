"""Small ONNX networks of every kind that people bring, and what they answer by numpy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from dlmodels.images import InputSpec
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES = 16, 5
IMAGE = InputSpec(width=SIDE, height=SIDE)
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Net:
    """Mean over the picture, then one layer: three numbers to five scores."""

    batch: int | None = None
    """None: free."""
    channels_last: bool = False
    half: bool = False
    softmax: bool = False
    more_outputs: Sequence[tuple[str, int]] = ()
    """Name and number of columns."""
    operator: str = "GlobalAveragePool"
    side: int = SIDE
    opset: int = 13
    seed: int = 0

    @property
    def weights(self) -> Array:
        """(5, 3)."""
        return np.random.default_rng(self.seed).standard_normal((CLASSES, 3)).astype(np.float32)

    def answer(self, images: Array) -> Array:
        """Probabilities, from float32 (n, 3, height, width)."""
        scores = images.mean((2, 3)) @ self.weights.T
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def proto(self) -> onnx.ModelProto:
        """The network."""
        kind = TensorProto.FLOAT16 if self.half else TensorProto.FLOAT
        batch = self.batch or "batch"
        shape = [batch, self.side, self.side, 3] if self.channels_last else [batch, 3, self.side, self.side]
        nodes = [helper.make_node("Transpose", ["data"], ["planes"], perm=[0, 3, 1, 2])] if self.channels_last else []
        nodes += [
            helper.make_node(self.operator, ["planes" if self.channels_last else "data"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["scores"], transB=1),
        ]
        if self.softmax:
            nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1))
        outputs = [helper.make_tensor_value_info("probabilities" if self.softmax else "scores", kind, [batch, CLASSES])]
        weights = [numpy_helper.from_array(self.weights.astype(np.float16 if self.half else np.float32), "weights")]
        for name, columns in self.more_outputs:
            matrix = np.ones((columns, 3), np.float32)
            weights.append(numpy_helper.from_array(matrix, f"{name} weights"))
            nodes.append(helper.make_node("Gemm", ["flat", f"{name} weights"], [name], transB=1))
            outputs.append(helper.make_tensor_value_info(name, kind, [batch, columns]))
        graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("data", kind, shape)], outputs, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def write(self, folder: Path, *, data: str = "") -> Path:
        """`net.onnx` in the folder, with the weights in the file `data` if that is given."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "net.onnx"
        path.unlink(missing_ok=True)
        (folder / data).unlink(missing_ok=True) if data else None
        onnx.save_model(
            self.proto(),
            path,
            save_as_external_data=bool(data),
            location=data or None,
            size_threshold=0,
            convert_attribute=False,
        )
        return path


def noise(count: int, side: int = SIDE) -> Array:
    """Pictures, all different."""
    draws = np.random.default_rng(1)
    return draws.standard_normal((count, 3, side, side)).astype(np.float32) + draws.standard_normal(
        (count, 3, 1, 1)
    ).astype(np.float32)
