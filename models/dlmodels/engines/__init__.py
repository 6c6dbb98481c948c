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
        "simulated": "dlmodels.engines.simulated:SimulatedEngine",
    }
)
_SPELLINGS = MappingProxyType({"torch": "torch", "simulated": "simulated"})
"""What a request may call an engine (DeepDetect's `mllib`) -> the engine. Several spellings may mean one."""


def known_engines() -> tuple[str, ...]:
    """Names of the engines that `create_engine` accepts; whether each can start here is another matter."""
    return tuple(_ENGINES)


def canonical_engine(mllib: str) -> str:
    """The engine that DeepDetect's `mllib` spelling means, in any case. Raises UnknownEngineError."""
    engine = _SPELLINGS.get(mllib.lower())
    if engine is None:
        raise UnknownEngineError(f"there is no engine for mllib {mllib!r} here; use one of: {', '.join(_SPELLINGS)}")
    return engine


def create_engine(name: str, device: str, threads: int) -> "Engine":
    """An engine, not started. `device`: "cpu" or "cuda:N". Raises UnknownEngineError."""
    try:
        module, _, attribute = _ENGINES[name].partition(":")
    except KeyError:
        raise UnknownEngineError(f"there is no engine {name!r}; there are: {', '.join(_ENGINES)}") from None
    kind: type[Engine] = getattr(importlib.import_module(module), attribute)
    return kind(device, threads)
