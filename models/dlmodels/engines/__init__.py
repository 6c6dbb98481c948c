"""The engines that are built in, by name. A framework is imported only when an engine of it is started."""

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from dlmodels.errors import UnknownEngineError

if TYPE_CHECKING:
    from dlmodels.engines.base import Engine

_ENGINES = MappingProxyType(
    {
        "torch": "dlmodels.engines.torch:TorchEngine",
        "mxnet": "dlmodels.engines.mxnet:MxnetEngine",
        "onnxruntime": "dlmodels.engines.onnxruntime:OnnxRuntimeEngine",
        "openvino": "dlmodels.engines.openvino:OpenVinoEngine",
        "opencv": "dlmodels.engines.opencv:OpenCvEngine",
        "tensorrt": "dlmodels.engines.tensorrt:TensorRtEngine",
        "simulated": "dlmodels.engines.simulated:SimulatedEngine",
    }
)
_SPELLINGS = MappingProxyType({name: name for name in _ENGINES} | {"caffe": "opencv"})
"""What a request may call an engine (DeepDetect's `mllib`) -> the engine. Several spellings may mean one."""


def known_engines() -> tuple[str, ...]:
    """Names of the engines that `engine_type` accepts; whether each can start here is another matter."""
    return tuple(_ENGINES)


def canonical_engine(mllib: str) -> str:
    """The engine that DeepDetect's `mllib` spelling means, in any case. Raises UnknownEngineError."""
    engine = _SPELLINGS.get(mllib.lower())
    if engine is None:
        raise UnknownEngineError(f"there is no engine for mllib {mllib!r} here; use one of: {', '.join(_SPELLINGS)}")
    return engine


def engine_type(name: str) -> "type[Engine]":
    """The engine's class; its module imports no framework. Raises UnknownEngineError."""
    try:
        module, _, attribute = _ENGINES[name].partition(":")
    except KeyError:
        raise UnknownEngineError(f"there is no engine {name!r}; there are: {', '.join(_ENGINES)}") from None
    kind: type[Engine] = getattr(importlib.import_module(module), attribute)
    return kind


def create_engine(name: str, device: str, threads: int, *, host_bytes: int = 0, map_files: bool = True) -> "Engine":
    """An engine, not started; see `Place` for the arguments. Raises UnknownEngineError."""
    kind = engine_type(name)
    from dlmodels.engines.base import Place  # noqa: PLC0415  base needs the repository, which needs the names above

    return kind(Place(device, threads, host_bytes, map_files))
