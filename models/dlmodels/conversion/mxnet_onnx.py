"""MXNet networks as ONNX, by MXNet's own exporter, brought into the form that other frameworks read best."""

import importlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from dlmodels.conversion.onnx_weights import write_onnx
from dlmodels.engines.mxnet import MxnetSettings
from dlmodels.engines.mxnet_import import import_mxnet
from dlmodels.engines.mxnet_params import read_params
from dlmodels.engines.mxnet_symbol import read_graph, useful_line
from dlmodels.errors import ConversionError
from dlmodels.settings import parse_settings
from dlmodels.spec import ModelSpec

OPSET = 13
"""Of ONNX: the latest that the exporter's translations were written for, whatever the installed onnx would write."""
_IR_VERSION = 8  # of the ONNX release after that operator set: old enough for every reader
_TRAINING_OUTPUTS = MappingProxyType(
    {
        "SoftmaxOutput": ("softmax", {"axis": "1"}),
        "LogisticRegressionOutput": ("sigmoid", {}),
        "LinearRegressionOutput": ("_copy", {}),
    }
)
"""Operators that take a label, over which the exporter stumbles -> what they compute without one, and its settings."""
_DEFAULTS = MappingProxyType({"FullyConnected": {"flatten": "True"}, "LRN": {"knorm": "2"}})
_BATCH = "batch"
_LARGE = 1 << 16
_INPUT, _OUTPUT = "data", "scores"
Array = NDArray[np.float32]
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
"""What the exporter's translations raise, without a type of their own, for what they cannot translate."""


class _Stored:
    """A weight as the exporter wants it: it asks for shape, type and a numpy array."""

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def asnumpy(self) -> Array:
        """The array; a large one without its numbers, which the exporter would make a list of: minutes for VGG16."""
        return self._array.view(_Large) if self._array.size > _LARGE else self._array


class _Large(np.ndarray[Any, np.dtype[np.float32]]):
    def flatten(self, _order: Any = "C") -> "_Absent":  # type: ignore[override]  # this is what it is for
        return _Absent(self.size)


class _Absent:
    """As many numbers as they say, of which they tell one: the exporter's check wants to see a number."""

    def __init__(self, size: int) -> None:
        self._size = size

    def tolist(self) -> "_Absent":
        """What is handed to onnx, which asks for its length and goes through it."""
        return self

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[float]:
        return iter((0.0,))


def export_onnx(spec: ModelSpec, path: Path) -> None:
    """Write an MXNet model, whose files an engine has checked, as one ONNX file with a free batch dimension.

    Its input is `data`, its output `scores`. Raises ConversionError naming the operator that the exporter lacks, LoadError or
    SettingError.
    """
    mxnet = import_mxnet()
    folder, file = Path(spec.folder), Path(spec.folder) / spec.weights
    settings = parse_settings(spec.parameters, MxnetSettings, f"model {spec.name!r}")
    arrays = read_params(file)
    graph = read_graph(folder / spec.graph, arrays, spec, fusion=False, output=settings.output)
    symbol = _for_export(graph.symbol)
    _check_operators(symbol, spec)
    content = file.read_bytes()
    weights = {
        name: np.frombuffer(content, arrays[name].dtype, math.prod(arrays[name].shape), arrays[name].begin).reshape(
            arrays[name].shape
        )
        for name in graph.inputs
        if name in arrays
    }
    weights |= {name: np.ones_like(weights[name]) for name in _fixed_scales(symbol)}
    try:
        proto = _translated(symbol, weights, spec.input.shape)
    except (*_FAILURES, mxnet.MXNetError) as exc:
        raise ConversionError(
            f"MXNet's exporter cannot write {spec.name!r} as ONNX ({type(exc).__name__}: {useful_line(exc)}): serve it with"
            " mllib mxnet"
        ) from exc
    _rename(proto, graph.pictures, _INPUT)
    _rename(proto, proto.output[0].name, _OUTPUT)
    _tidy(proto, spec, weights)
    model = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="mxnet"
    )
    write_onnx(model, path)


def operators(symbol: Any) -> set[str]:
    """Names of the operators of an mxnet.symbol.Symbol."""
    return {node["op"] for node in json.loads(symbol.tojson())["nodes"]} - {"null"}


def _converter() -> Any:
    """The exporter's class, which knows a translation for each operator."""
    import_mxnet()  # sets it up
    importlib.import_module("mxnet.onnx")  # registers the translations
    return importlib.import_module("mxnet.onnx.mx2onnx._export_onnx").MXNetGraph  # in public, only with the newest set


def _check_operators(symbol: Any, spec: ModelSpec) -> None:
    known = {name for version, names in _converter().registry_.items() if version <= OPSET for name in names}
    if lacking := sorted(operators(symbol) - known):
        raise ConversionError(
            f"MXNet's exporter has no ONNX for {', '.join(lacking)} of {spec.name!r}: serve it with mllib mxnet"
        )


def _for_export(symbol: Any) -> Any:
    """The network without its inputs for training, and with the settings told for which the exporter has other defaults."""
    graph = json.loads(symbol.tojson())
    for node in graph["nodes"]:
        if node["op"] in _TRAINING_OUTPUTS:
            node["op"], node["attrs"] = _TRAINING_OUTPUTS[node["op"]]
            del node["inputs"][1:]
        elif node["op"] in _DEFAULTS:
            node["attrs"] = _DEFAULTS[node["op"]] | node.get("attrs", {})
    return import_mxnet().symbol.load_json(json.dumps(graph))


def _fixed_scales(symbol: Any) -> Iterator[str]:
    """The scales of normalizations that MXNet takes for 1, whatever is stored; the exporter does not know of it."""
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] == "BatchNorm" and node.get("attrs", {}).get("fix_gamma", "True") in ("True", "1"):
            yield nodes[node["inputs"][1][0]]["name"]


def _translated(symbol: Any, weights: Mapping[str, Array], shape: tuple[int, int, int]) -> onnx.GraphProto:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`mapping\.", DeprecationWarning)  # onnx 1.18 has it, and 1.19 no longer
        proto: onnx.GraphProto = _converter()().create_onnx_graph_proto(
            symbol,
            {name: _Stored(array) for name, array in weights.items()},
            [(1, *shape)],
            [onnx.TensorProto.FLOAT],
            opset_version=OPSET,
            dynamic=True,
            dynamic_input_shapes=[(_BATCH, *shape)],
        )
    return proto


def _tidy(proto: onnx.GraphProto, spec: ModelSpec, weights: Mapping[str, Array]) -> None:
    """Weights are no inputs, or else nothing may be computed from them beforehand; and the output's shape is told."""
    used = {name for node in proto.node for name in node.input}
    initializers = [tensor for tensor in proto.initializer if tensor.name in used]
    names = {tensor.name for tensor in initializers}
    inputs = [tensor for tensor in proto.input if tensor.name in used and tensor.name not in names]
    _replace(proto.initializer, initializers)
    _replace(proto.input, inputs)
    output = helper.make_tensor_value_info(_OUTPUT, onnx.TensorProto.FLOAT, [_BATCH, spec.classes])
    if len(proto.output[0].type.tensor_type.shape.dim) == len(output.type.tensor_type.shape.dim):
        _replace(proto.output, [output])
    for tensor in proto.initializer:
        _store_bytes(tensor, weights)


def _store_bytes(tensor: onnx.TensorProto, weights: Mapping[str, Array]) -> None:
    """Numbers one by one take four times as long to read as the bytes themselves."""
    if tensor.data_type != onnx.TensorProto.FLOAT or tensor.raw_data:
        return
    large = tensor.name in weights and weights[tensor.name].size > _LARGE
    values = weights[tensor.name] if large else np.array(tensor.float_data, np.float32)
    del tensor.float_data[:]
    tensor.raw_data = values.tobytes()


def _replace(field: Any, values: Iterable[Any]) -> None:
    kept = list(values)
    del field[:]
    field.extend(kept)


def _rename(proto: onnx.GraphProto, old: str, new: str) -> None:
    """A tensor, wherever it is named."""
    if old == new:
        return
    for tensor in (*proto.input, *proto.output, *proto.initializer):
        if new == tensor.name:
            raise ConversionError(f"a tensor of the network is named {new!r} already: rename it in its -symbol.json")
        if tensor.name == old:
            tensor.name = new
    for node in proto.node:
        for field in (node.input, node.output):
            field[:] = [new if name == old else name for name in field]
