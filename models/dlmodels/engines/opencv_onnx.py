"""What OpenCV 4.11 reads in an ONNX file and computes otherwise, found before it answers wrongly."""

import mmap
from pathlib import Path

from dlmodels.engines.protobuf_wire import blob, fields, integer, text
from dlmodels.errors import LoadError

# Field numbers of onnx.proto (ONNX 1.18).
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 4, 5
_TENSOR_NAME = 8
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_INTEGERS = 1, 3, 8

_CURE = "convert the model to ONNX with dlmodels convert, which writes it otherwise, or use mllib onnxruntime"


def check_meanings(path: Path) -> None:
    """Raises LoadError where an average counts padding (OpenCV divides by the number of real pixels, whatever is asked), or
    where weights are a copy of others (OpenCV takes a copied bias for whatever its memory held)."""
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    weights, copied = set[str](), set[str]()
    for number, graph in fields(view):
        if number != _MODEL_GRAPH:
            continue
        for part, value in fields(blob(graph)):
            if part == _GRAPH_INITIALIZER:
                weights |= {text(name) for field, name in fields(blob(value)) if field == _TENSOR_NAME}
            elif part == _GRAPH_NODE:
                copied |= _check_node(blob(value), path)
    if both := sorted(weights & copied):
        raise LoadError(f"{path} uses the weights {both[0]!r} twice (Identity), which OpenCV does not read: {_CURE}")


def _check_node(node: memoryview, path: Path) -> set[str]:
    """What the node copies, if that is all it does."""
    operator, inputs, attributes = "", set[str](), dict[str, list[int]]()
    for number, value in fields(node):
        if number == _NODE_OPERATOR:
            operator = text(value)
        elif number == _NODE_INPUT:
            inputs.add(text(value))
        elif number == _NODE_ATTRIBUTE:
            name, numbers = _integers(blob(value))
            attributes[name] = numbers
    if operator == "AveragePool" and attributes.get("count_include_pad") == [1] and any(attributes.get("pads", ())):
        raise LoadError(f"{path} averages over padding (count_include_pad), which OpenCV does not: {_CURE}")
    return inputs if operator == "Identity" else set()


def _integers(attribute: memoryview) -> tuple[str, list[int]]:
    """The attribute's name, and its whole numbers."""
    name, numbers = "", list[int]()
    for number, value in fields(attribute):
        if number == _ATTRIBUTE_NAME:
            name = text(value)
        elif number == _ATTRIBUTE_INTEGER:
            numbers.append(integer(value))
        elif number == _ATTRIBUTE_INTEGERS:
            numbers += [integer(value)] if isinstance(value, int) else list(value)  # packed: any bytes but 0 are a pad
    return name, numbers
