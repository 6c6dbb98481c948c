"""Equal ways to say a thing in ONNX, of which every reader understands the second."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

_PADS_ARE_AN_INPUT = 11  # operator set from which Pad takes them so
_IMAGE_DIMENSIONS = 4


def for_every_reader(model: onnx.ModelProto) -> None:
    """Rewrite, in place, what exporters write and OpenCV 4.11 reads wrongly or not at all."""
    give_each_its_own(model)
    pad_before_averages(model)


def give_each_its_own(model: onnx.ModelProto) -> None:
    """Weights that are equal by chance become separate again: torch writes one of them, and Identity for the others.

    OpenCV takes such a bias for whatever its memory held before.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    copies = [node for node in model.graph.node if node.op_type == "Identity" and node.input[0] in weights]
    for node in copies:
        copy = onnx.TensorProto()
        copy.CopyFrom(weights[node.input[0]])
        copy.name = node.output[0]
        model.graph.initializer.append(copy)
        model.graph.node.remove(node)


def pad_before_averages(model: onnx.ModelProto) -> None:
    """An average that counts its padding becomes a Pad by zeros and an average without any.

    OpenCV divides by the number of real pixels, whatever is asked.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    for index, node in reversed(list(enumerate(model.graph.node))):
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type != "AveragePool" or not _is_set(attributes.get("count_include_pad")):
            continue
        pads = list(attributes["pads"].ints) if "pads" in attributes else []
        # With ceil_mode, what a last window takes from beyond the padding is counted by no one; two pads differ there.
        if not any(pads) or len(pads) != _IMAGE_DIMENSIONS or _is_set(attributes.get("ceil_mode")):
            continue
        padded = f"{node.output[0]} padded"
        model.graph.node.insert(index, _pad(model, node.input[0], padded, pads, opset))
        node.input[0] = padded
        for name in ("pads", "count_include_pad"):
            node.attribute.remove(attributes[name])


def _pad(model: onnx.ModelProto, source: str, target: str, pads: list[int], opset: int) -> onnx.NodeProto:
    """Of height and width: `pads` is (top, left, bottom, right)."""
    all_pads = [0, 0, *pads[:2], 0, 0, *pads[2:]]
    if opset < _PADS_ARE_AN_INPUT:
        return helper.make_node("Pad", [source], [target], pads=all_pads, mode="constant")
    name = f"{target} by"
    model.graph.initializer.append(numpy_helper.from_array(np.array(all_pads, np.int64), name))
    return helper.make_node("Pad", [source, name], [target], mode="constant")


def _is_set(attribute: onnx.AttributeProto | None) -> bool:
    return attribute is not None and attribute.i != 0
