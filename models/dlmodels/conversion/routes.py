"""What can be made of what, and by which steps: pure."""

from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from dlmodels.errors import ConversionError
from dlmodels.spec import ModelSpec

Target = Literal["onnx", "openvino", "torchscript", "pt2", "mxnet"]
Source = Literal["zoo", "torchscript", "pt2", "mxnet", "onnx", "openvino"]

TARGETS: tuple[Target, ...] = get_args(Target)
_TITLES = MappingProxyType(
    {
        "zoo": "a torch network of the zoo (safetensors)",
        "torchscript": "TorchScript (.pt)",
        "pt2": "torch.export (.pt2)",
        "mxnet": "MXNet (-symbol.json and .params)",
        "onnx": "ONNX (.onnx)",
        "openvino": "OpenVINO IR (.xml and .bin)",
    }
)
_ROUTES: MappingProxyType[Source, MappingProxyType[Target, tuple[Target, ...]]] = MappingProxyType(
    {
        "zoo": MappingProxyType(
            {
                "onnx": ("onnx",),
                "openvino": ("onnx", "openvino"),
                "torchscript": ("torchscript",),
                "pt2": ("pt2",),
                "mxnet": ("onnx", "mxnet"),
            }
        ),
        "torchscript": MappingProxyType(
            {"onnx": ("onnx",), "openvino": ("onnx", "openvino"), "mxnet": ("onnx", "mxnet")}
        ),
        "pt2": MappingProxyType(
            {
                "onnx": ("onnx",),
                "openvino": ("onnx", "openvino"),
                "torchscript": ("torchscript",),
                "mxnet": ("onnx", "mxnet"),
            }
        ),
        "mxnet": MappingProxyType({"onnx": ("onnx",), "openvino": ("onnx", "openvino")}),
        "onnx": MappingProxyType({"openvino": ("openvino",), "mxnet": ("mxnet",)}),
        "openvino": MappingProxyType({}),
    }
)
ENGINES: MappingProxyType[Target, str] = MappingProxyType(
    {"onnx": "onnxruntime", "openvino": "openvino", "torchscript": "torch", "pt2": "torch", "mxnet": "mxnet"}
)
"""The engine that a converted model is for."""

DEFAULT_OPSET = 17
"""Of ONNX, from torch: what OpenCV 4.11 reads as well, and LayerNormalization is an operator of."""
OPSETS = range(9, 21)
"""That torch's exporter by tracing writes."""


def source_of(spec: ModelSpec) -> Source:
    """The format of a model's files. Raises ConversionError for those from which nothing can be made."""
    if spec.engine == "torch" and spec.architecture:
        return "zoo"
    suffix = Path(spec.weights).suffix
    kinds: dict[tuple[bool, str], Source] = {
        (spec.engine == "torch", ".pt"): "torchscript",
        (spec.engine == "torch", ".pt2"): "pt2",
        (spec.engine == "mxnet", ".params"): "mxnet",
        (not spec.graph, ".onnx"): "onnx",
        (spec.engine == "openvino", ".bin"): "openvino",
    }
    kind = kinds.get((True, suffix))
    if kind is None:
        raise ConversionError(
            f"{spec.name!r} ({spec.engine}, weights {spec.weights or 'none'!r}) cannot be converted: no framework here"
            f" writes other formats from it. {table()}"
        )
    return kind


def route(spec: ModelSpec, target: Target) -> tuple[Target, ...]:
    """The formats to make one after the other, the last of them `target`. Raises ConversionError with what there is."""
    source = source_of(spec)
    if source == target:
        raise ConversionError(f"{spec.name!r} is {_TITLES[source]} already: choose another --to, or copy its folder")
    steps = _ROUTES[source].get(target)
    if steps is None:
        raise ConversionError(
            f"{spec.name!r} is {_TITLES[source]}, of which no framework here makes {_TITLES[target]}. {table()}"
        )
    return steps


def table() -> str:
    """What can be converted to what, in a sentence."""
    ways = [f"{_TITLES[source]} to {', '.join(targets)}" for source, targets in _ROUTES.items() if targets]
    return f"What can be converted: {'; '.join(ways)}"
