"""Apache MXNet 1.9.1, on a CPU. The framework is imported by `start`."""

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from dlmodels.engines.base import Engine, Memory, Place
from dlmodels.engines.host import host_memory
from dlmodels.errors import EngineUnavailableError, RepositoryError
from dlmodels.repository import ModelSpec, verify_files
from dlmodels.settings import parse_settings

if TYPE_CHECKING:
    from dlmodels.engines.mxnet_model import MxnetModel, MxnetRuntime

_LAST_PYTHON = (3, 12)
_MACHINE = "x86_64"


class MxnetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's `parameters` for MXNet."""

    datatype: Literal["fp32"] = "fp32"
    fusion: bool = True
    """Convolutions computed together with the normalization, activation and addition that follow them."""
    output: str = ""
    """The output with the class scores, where the symbol has several."""


class MxnetEngine(Engine):
    """Symbols with their parameters, as `Module.save_checkpoint` and Gluon's `export` write them."""

    name: ClassVar[str] = "mxnet"
    package: ClassVar[str] = "mxnet"
    formats: ClassVar[tuple[str, ...]] = ("MXNet (-symbol.json with -0000.params)",)
    settings_type: ClassVar[type[msgspec.Struct]] = MxnetSettings

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._runtime: MxnetRuntime | None = None

    def start(self) -> None:
        """Import mxnet. Raises EngineUnavailableError."""
        if reason := self.missing(self.place.device):
            raise EngineUnavailableError(reason)
        try:
            from dlmodels.engines.mxnet_model import MxnetRuntime  # noqa: PLC0415  not before it is needed: seconds

            self._runtime = MxnetRuntime(self.place)
        except (ImportError, OSError) as exc:  # OSError: a library that it needs is missing
            raise EngineUnavailableError(
                f"mxnet cannot be imported ({exc}): install it with `make install`, and the system's package libgomp1"
            ) from exc

    def prepare(self, spec: ModelSpec) -> "MxnetModel":
        """A model of a `-symbol.json` (`graph`) and a `.params` file (`weights`)."""
        if self._runtime is None:
            raise EngineUnavailableError("the mxnet engine has not been started: call start() first")
        if spec.architecture or Path(spec.graph).suffix != ".json" or Path(spec.weights).suffix != ".params":
            raise RepositoryError(
                f"model {spec.name!r} has the graph {spec.graph!r}, the weights {spec.weights!r} and the architecture"
                f" {spec.architecture!r}: mxnet takes a *-symbol.json and a *.params without an architecture;"
                " `dlmodels build gluon-NAME` makes both"
            )
        settings = parse_settings(spec.parameters, MxnetSettings, f"model {spec.name!r}")
        verify_files(spec)
        return self._runtime.model(spec, settings)

    def memory(self) -> Memory:
        """The machine's memory."""
        return host_memory()

    @classmethod
    def missing(cls, device: str) -> str:
        """As of any engine; the last mxnet was built for Python up to 3.12 here, and for one kind of machine."""
        if sys.version_info[:2] > _LAST_PYTHON or platform.machine() != _MACHINE:
            return (
                f"mxnet 1.9.1, the last one, works with Python up to {_LAST_PYTHON[0]}.{_LAST_PYTHON[1]} on {_MACHINE}, and"
                f" this is Python {platform.python_version()} on {platform.machine()}: convert the model to ONNX on a"
                " machine that has it (dlmodels convert)"
            )
        return super().missing(device)
