"""ONNX graphs brought back into the form of 2019, which MXNet's importer knows, where only their spelling is new.

Constants that are nodes become initializers, settings that became inputs become attributes again, shapes that are computed
from the batch's size alone say 0 in its place ("as it comes": so do ONNX's Reshape and MXNet's).
"""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from dlmodels.errors import ConversionError

FORM = 9
"""The operator set whose form the result has."""

_ATTRIBUTES = MappingProxyType(
    {
        "Clip": ("min", "max"),
        "Pad": ("pads", "value"),
        "Unsqueeze": ("axes",),
        "Squeeze": ("axes",),
        "ReduceMean": ("axes",),
        "ReduceSum": ("axes",),
        "Split": ("split",),
        "Slice": ("starts", "ends", "axes", "steps"),
    }
)
"""Operator -> the attributes that became inputs, from the second input on."""
_SCALARS = ("min", "max", "value")
_MEANINGLESS = MappingProxyType({"BatchNormalization": ("training_mode", "momentum"), "Reshape": ("allowzero",)})
"""Operator -> attributes that say nothing here, and that the importer would hand on."""
_AS_IT_COMES = 0
_OF_SIZES = ("Gather", "Unsqueeze", "Squeeze", "Cast", "Concat")

Tensor = NDArray[Any]


def to_older_form(graph: onnx.GraphProto) -> None:
    """Rewrite the graph in place. Raises ConversionError where a setting is computed from the pictures."""
    _Older(graph).rewrite()


class _Older:
    """One graph on its way."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._sizes: dict[str, list[int]] = {}
        """Tensors that hold sizes of other tensors, with 0 for the batch's."""
        self._pictures = {tensor.name for tensor in graph.input} - set(self._initializers)
        self._shapes = {tensor.name: tensor.type.tensor_type.shape for tensor in (*graph.input, *graph.value_info)}

    def rewrite(self) -> None:
        kept: list[onnx.NodeProto] = []
        for node in self._graph.node:
            if not self._is_constant(node) and not self._is_size(node):
                kept += self._rewritten(node)
        _replace(self._graph.node, kept)
        used = {name for node in kept for name in node.input}
        _replace(self._graph.initializer, [self._initializers[name] for name in self._initializers if name in used])
        inputs = [tensor for tensor in self._graph.input if tensor.name in self._pictures]
        # The importer looks for weights among the inputs.
        weights = (
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            for tensor in self._graph.initializer
        )
        _replace(self._graph.input, [*inputs, *weights])

    def _is_constant(self, node: onnx.NodeProto) -> bool:
        """Whether the node only names a constant, which is then an initializer."""
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            self._store(node.output[0], numpy_helper.to_array(node.attribute[0].t))
            return True
        if node.op_type == "Identity" and node.input[0] in self._initializers:  # weights that two layers share
            self._store(node.output[0], self._value(node.input[0]))
            return True
        return False

    def _is_size(self, node: onnx.NodeProto) -> bool:
        """Whether the node only computes sizes that are known but for the batch's."""
        if node.op_type == "Shape":
            shape = self._shapes.get(node.input[0])
            # The first is the batch's: nothing in a classifier mixes pictures.
            sizes = [_AS_IT_COMES, *(size.dim_value for size in shape.dim[1:])] if shape is not None else [_AS_IT_COMES]
            self._know(node.output[0], sizes if 0 not in sizes[1:] else [_AS_IT_COMES])
            return True
        if node.op_type not in _OF_SIZES or not any(name in self._sizes for name in node.input):
            return False
        parts = [self._part(name) for name in node.input]
        computed = _computed(node.op_type, [part for part in parts if part is not None])
        if None in parts or computed is None:
            return False
        self._know(node.output[0], computed)
        return True

    def _know(self, name: str, sizes: list[int]) -> None:
        self._sizes[name] = sizes
        self._store(name, np.array(sizes, np.int64))

    def _part(self, name: str) -> list[int] | None:
        if name in self._sizes:
            return self._sizes[name]
        return [int(size) for size in self._value(name).reshape(-1)] if name in self._initializers else None

    def _rewritten(self, node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        for source in node.input:
            if source in self._sizes and node.op_type != "Reshape":
                raise ConversionError(
                    f"{node.op_type} {node.name!r} computes with the shape of its input, which MXNet's importer does not"
                    " know: serve the model with mllib onnxruntime"
                )
        self._inputs_to_attributes(node)
        for name in _MEANINGLESS.get(node.op_type, ()):
            _drop(node, name)
        if node.op_type == "Gather" and node.input[1] in self._initializers and self._value(node.input[1]).ndim == 0:
            # The importer takes the one index for a list of one, and keeps the dimension.
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            output = node.output[0]
            node.output[0] = f"{output}/kept"
            return [node, helper.make_node("Squeeze", [node.output[0]], [output], f"{node.name}/squeezed", axes=[axis])]
        return [node]

    def _inputs_to_attributes(self, node: onnx.NodeProto) -> None:
        names = _ATTRIBUTES.get(node.op_type, ())
        if len(node.input) < 2 or not names:
            return
        for name, source in zip(names, list(node.input)[1:], strict=False):
            if source == "":
                continue
            if source not in self._initializers:
                raise ConversionError(
                    f"{node.op_type} {node.name!r} has its {name} computed from the picture, which MXNet's importer does not"
                    " know: serve the model with mllib onnxruntime"
                )
            value = self._value(source).reshape(-1)
            if name == "steps":  # the older form has none
                if (value != 1).any():
                    raise ConversionError(
                        f"Slice {node.name!r} takes every {value.max()}th pixel, which MXNet's importer does not know: serve"
                        " the model with mllib onnxruntime"
                    )
                continue
            _drop(node, name)
            stored: float | list[int] = float(value[0]) if name in _SCALARS else [int(number) for number in value]
            node.attribute.append(helper.make_attribute(name, stored))
        del node.input[1:]

    def _value(self, name: str) -> Tensor:
        return numpy_helper.to_array(self._initializers[name])

    def _store(self, name: str, value: Tensor) -> None:
        self._initializers[name] = numpy_helper.from_array(value, name)


def _computed(operator: str, parts: list[list[int]]) -> list[int] | None:
    """What an operator gives for lists of sizes; None where that cannot be told."""
    first = parts[0]
    if operator == "Concat":
        return [size for part in parts for size in part]
    if operator in ("Unsqueeze", "Squeeze", "Cast"):
        return first
    numbers = parts[1] if len(parts) == 2 else []  # of Gather
    return [first[index] for index in numbers] if numbers and max(numbers) < len(first) else None


def _drop(node: onnx.NodeProto, name: str) -> None:
    _replace(node.attribute, [attribute for attribute in node.attribute if attribute.name != name])


def _replace(field: Any, values: Iterable[Any]) -> None:
    kept = list(values)
    del field[:]
    field.extend(kept)
