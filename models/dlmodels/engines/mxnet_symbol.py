"""An MXNet graph as it is served: read from its file, checked against its weights and pictures, cut to one output."""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from dlmodels.engines.graph_input import TensorInfo, scores_output
from dlmodels.engines.mxnet_import import NOTICE, import_mxnet
from dlmodels.engines.mxnet_params import ArrayPlace
from dlmodels.engines.native_stderr import captured_stderr
from dlmodels.errors import LoadError
from dlmodels.spec import ModelSpec

_PICTURES = "data"
_LABEL = re.compile(r"label$")
_FUSED, _FUSED_CONVOLUTION, _NORMALIZATION = "_sg_mkldnn_", "_sg_mkldnn_conv", "BatchNorm"
_FUSED_WEIGHT = 1  # among the inputs of a fused convolution


class _Node(msgspec.Struct):
    op: str
    name: str
    inputs: list[tuple[int, ...]] = []


class _Graph(msgspec.Struct):
    nodes: list[_Node]
    heads: list[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class MxnetGraph:
    """One network."""

    symbol: Any
    """mxnet.symbol.Symbol with the class scores as its only output."""
    inputs: tuple[str, ...]
    """Names in the order in which the network takes them: the pictures, parameters, statistics, labels."""
    pictures: str
    labels: tuple[str, ...]
    """Inputs that only training uses."""
    fused: int
    """How many operators stand for several of the file's."""
    copied_bytes: int
    """Of the filters of which a fused operator keeps a second form: with the normalization's scale in it."""

    def label_shapes(self, pictures: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Of the labels that belong to a batch of pictures (n, channels, height, width)."""
        if not self.labels:
            return {}
        shapes = _infer(self.symbol, {self.pictures: pictures})[0]
        return {name: shapes[name] for name in self.labels}


def read_graph(
    path: Path, arrays: Mapping[str, ArrayPlace], spec: ModelSpec, *, fusion: bool = True, output: str = ""
) -> MxnetGraph:
    """The network of a `-symbol.json` whose weights are `arrays`. Raises LoadError or SettingError with the cure."""
    symbol = load_symbol(path)
    pictures, labels = _free_inputs(symbol, arrays, path)
    try:
        shapes, outputs = _infer(symbol, {pictures: (1, *spec.input.shape)})
    except import_mxnet().MXNetError as exc:
        raise LoadError(
            f"{path} does not take pictures of {spec.input.shape} (channels, height, width): correct width, height or bw"
            f" of the input of {spec.name!r} ({useful_line(exc)})"
        ) from exc
    _check_arrays(arrays, shapes, path, spec)
    told = [
        TensorInfo(name, "float32", tuple(size or None for size in shape) or None) for name, shape in outputs.items()
    ]
    chosen = scores_output(told, spec, output, str(path))
    symbol = symbol[list(outputs).index(chosen)]
    if fusion:
        with captured_stderr(NOTICE):
            symbol = symbol.get_backend_symbol("MKLDNN")
    fused, copied = _fusions(symbol, arrays)
    names = tuple(symbol.list_inputs())
    return MxnetGraph(symbol, names, pictures, tuple(name for name in labels if name in names), fused, copied)


def load_symbol(path: Path) -> Any:
    """The mxnet.symbol.Symbol of a file. Raises LoadError: MXNet itself trusts a file's numbers and may end the process."""
    try:
        text = path.read_text("utf-8")
        graph = msgspec.json.decode(text, type=_Graph)
    except OSError as exc:
        raise LoadError(f"{path} cannot be read ({exc.strerror}): put the file back") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise LoadError(
            f"{path} is no whole symbol of MXNet ({exc}): save the network with net.export() or Module.save_checkpoint()"
        ) from exc
    for number, node in enumerate(graph.nodes):
        if any(not source or not 0 <= source[0] < number for source in node.inputs):
            raise LoadError(f"{path} is damaged at its node {node.name!r}: copy it again, or build the model again")
    if not graph.heads or any(not head or not 0 <= head[0] < len(graph.nodes) for head in graph.heads):
        raise LoadError(f"{path} is damaged, it names no output: copy it again, or build the model again")
    try:
        with captured_stderr(NOTICE):  # that it was written by an older version
            return import_mxnet().symbol.load_json(text)
    except import_mxnet().MXNetError as exc:
        raise LoadError(
            f"{path} is no network of mxnet 1.9.1 ({useful_line(exc)}): save it again, without operators of one's own"
        ) from exc


def useful_line(exc: Exception) -> str:
    """Of an MXNetError, whose message is mostly a stack."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip() and not line.lstrip().startswith("[bt]")]
    said = [line for line in lines if "Error" in line and not line.startswith("Traceback")]
    chosen = (said or lines or [type(exc).__name__])[-1]
    return re.sub(r"^(\w*Error: )|^(\[\S+\] )?\S+: \d+: ", "", chosen)[:300]


def _free_inputs(symbol: Any, arrays: Mapping[str, ArrayPlace], path: Path) -> tuple[str, list[str]]:
    """The name of the pictures, and of the labels; every other input must have an array."""
    free = [name for name in symbol.list_inputs() if name not in arrays]
    labels = [name for name in free if _LABEL.search(name)]
    others = [name for name in free if name not in labels]
    pictures = _PICTURES if _PICTURES in others else others[0] if len(others) == 1 else ""
    missing = [name for name in others if name != pictures]
    if missing:
        raise LoadError(
            f"the weights of {path} lack {len(missing)} of its arrays ({', '.join(missing[:3])}, ...): they belong to another"
            " network, or were written by save_parameters(); use net.export()"
        )
    if not pictures:
        raise LoadError(f"{path} has no input for pictures: save the network with its input named {_PICTURES!r}")
    return pictures, labels


def _infer(
    symbol: Any, known: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The shapes of all inputs, and of the outputs; () where they cannot be told. Raises MXNetError."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cannot decide shape", UserWarning)
        arguments, outputs, states = symbol.infer_shape_partial(**known)
    names = chain(symbol.list_arguments(), symbol.list_auxiliary_states())
    shapes = dict(zip(names, map(tuple, chain(arguments, states)), strict=True))
    return shapes, dict(zip(symbol.list_outputs(), map(tuple, outputs), strict=True))


def _check_arrays(
    arrays: Mapping[str, ArrayPlace], shapes: Mapping[str, tuple[int, ...]], path: Path, spec: ModelSpec
) -> None:
    for name, shape in shapes.items():
        array = arrays.get(name)
        if array is None:
            continue
        if array.dtype != "float32":
            raise LoadError(f"the weights of {path} hold {array.dtype} as {name!r}: save the network in float32")
        if shape and 0 not in shape and -1 not in shape and shape != array.shape:
            raise LoadError(
                f"{path} wants {name!r} with the shape {shape} for pictures of {spec.input.shape}, and its weights have"
                f" {array.shape}: correct width, height or bw of the input of {spec.name!r}, or take the weights of this"
                " network"
            )


def _fusions(symbol: Any, arrays: Mapping[str, ArrayPlace]) -> tuple[int, int]:
    nodes = json.loads(symbol.tojson())["nodes"]
    fused = [node for node in nodes if node["op"].startswith(_FUSED)]
    copied = 0
    for node in fused:
        inner = (part["op"] for graph in node.get("subgraphs", ()) for part in graph["nodes"])
        if node["op"] == _FUSED_CONVOLUTION and _NORMALIZATION in inner:
            weight = arrays.get(nodes[node["inputs"][_FUSED_WEIGHT][0]]["name"])
            copied += weight.bytes if weight else 0
    return len(fused), copied
