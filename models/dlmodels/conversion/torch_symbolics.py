"""Operators of torch that its exporter by tracing has no ONNX for, and ONNX can express."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.onnx.symbolic_helper import parse_args

_OPERATOR = "aten::channel_shuffle"
_OPSETS = range(9, 21)


@contextmanager
def channel_shuffle_as_onnx() -> Iterator[None]:
    """Within it, the exporter writes nn.ChannelShuffle (Zhang et al. 2017) as Reshape, Transpose, Reshape."""
    for opset in _OPSETS:
        torch.onnx.register_custom_op_symbolic(_OPERATOR, _channel_shuffle, opset)  # type: ignore[attr-defined]  # it is documented
    try:
        yield
    finally:
        for opset in _OPSETS:
            torch.onnx.unregister_custom_op_symbolic(_OPERATOR, opset)  # type: ignore[attr-defined]  # it is documented


@parse_args("v", "i")
def _channel_shuffle(graph: Any, pictures: Any, groups: int) -> Any:
    """(n, groups x k, height, width) -> (n, k x groups, height, width); a script's graph tells none of the sizes."""
    shape = graph.op("Shape", pictures)
    pieces = [_some(graph, shape, [0]), _constant(graph, [groups, -1]), _some(graph, shape, [2, 3])]
    parts = graph.op("Reshape", pictures, graph.op("Concat", *pieces, axis_i=0))
    turned = graph.op("Transpose", parts, perm_i=[0, 2, 1, 3, 4])
    return graph.op("Reshape", turned, shape)


def _some(graph: Any, shape: Any, dimensions: list[int]) -> Any:
    return graph.op("Gather", shape, _constant(graph, dimensions), axis_i=0)


def _constant(graph: Any, numbers: list[int]) -> Any:
    return graph.op("Constant", value_t=torch.tensor(numbers, dtype=torch.int64))
