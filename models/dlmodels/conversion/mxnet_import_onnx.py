"""ONNX networks as MXNet symbols, by MXNet's own importer."""

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx

from dlmodels.conversion.mxnet_older_onnx import FORM, to_older_form
from dlmodels.engines.mxnet_import import import_mxnet
from dlmodels.engines.mxnet_symbol import useful_line
from dlmodels.engines.onnx_file import read_onnx_file
from dlmodels.errors import ConversionError, LoadError

_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    NotImplementedError,
    TypeError,
    ValueError,
)
"""What the importer raises, without a type of its own, for what it cannot translate; RuntimeError beside them."""
_POOLING = MappingProxyType({"MaxPool": "max", "AveragePool": "avg"})


def import_onnx(path: Path, folder: Path) -> tuple[str, str]:
    """Write `<stem>-symbol.json` and `<stem>-0000.params` into `folder`; their names.

    Raises ConversionError naming the operators that the importer lacks, or LoadError where the file is no ONNX model.
    """
    mxnet = import_mxnet()
    read_onnx_file(path)  # which tells what is no ONNX from what is
    try:
        model = onnx.load(path)
    except (OSError, ValueError, onnx.checker.ValidationError) as exc:
        raise LoadError(f"{path} cannot be read as ONNX ({useful_line(exc)}): export the network again") from exc
    graph = _with_shapes(model).graph
    to_older_form(graph)
    _check_operators(graph, path)
    try:
        symbol, arguments, states = _translated(graph)
    except (*_FAILURES, RuntimeError, mxnet.MXNetError) as exc:
        raise ConversionError(
            f"MXNet's importer cannot translate {path} ({type(exc).__name__}: {useful_line(exc)}): serve it with mllib"
            " onnxruntime"
        ) from exc
    names = f"{path.stem}-symbol.json", f"{path.stem}-0000.params"
    stored = {f"arg:{name}": array for name, array in arguments.items()}
    stored |= {f"aux:{name}": array for name, array in states.items()}
    (folder / names[0]).write_text(symbol.tojson(), "utf-8")
    mxnet.nd.save(str(folder / names[1]), stored)
    return names


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, with the shapes that its tensors have for one picture: some networks compute with their own channels."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    weights = {tensor.name for tensor in single.graph.initializer}
    for tensor in single.graph.input:
        if tensor.name not in weights and tensor.type.tensor_type.shape.dim:
            tensor.type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    for tensor in single.graph.output:
        tensor.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(single, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError):  # ValueError: larger than protobuf can hold
        return model


def _importer() -> Any:
    import_mxnet()  # sets it up
    return importlib.import_module("mxnet.contrib.onnx.onnx2mx.import_onnx")


def _check_operators(graph: onnx.GraphProto, path: Path) -> None:
    if lacking := sorted({node.op_type for node in graph.node} - set(_importer().convert_map)):
        raise ConversionError(
            f"MXNet's importer does not know {', '.join(lacking)}, which {path} uses: serve it with mllib onnxruntime"
        )


def _translated(graph: onnx.GraphProto) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`mapping\.", DeprecationWarning)  # onnx 1.18 has it, and 1.19 no longer
        warnings.filterwarnings("ignore", r"Please import `csr_matrix`", DeprecationWarning)  # what it asks scipy for
        symbol, arguments, states = _translator().from_onnx(graph, opset_version=FORM)
    return symbol, arguments, states


def _translator() -> Any:
    """The importer, but for pooling: its own forgets that sizes are rounded up, and counts padding in every mean."""
    pooling = import_mxnet().symbol.Pooling

    class Translator(_importer().GraphProto):  # type: ignore[misc]  # mxnet has no types
        def _convert_operator(self, node_name: str, op_name: str, attrs: Mapping[str, Any], inputs: list[Any]) -> Any:
            pads = tuple(attrs.get("pads", (0, 0, 0, 0)))
            if op_name not in _POOLING or "auto_pad" in attrs or pads[:2] != pads[2:]:
                return super()._convert_operator(node_name, op_name, attrs, inputs)
            return pooling(
                inputs[0],
                name=node_name,
                pool_type=_POOLING[op_name],
                kernel=attrs["kernel_shape"],
                stride=attrs.get("strides", (1, 1)),
                pad=pads[:2],
                pooling_convention="full" if attrs.get("ceil_mode") else "valid",
                count_include_pad=bool(attrs.get("count_include_pad")),
            )

    return Translator()
