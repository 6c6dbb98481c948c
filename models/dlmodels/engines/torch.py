"""PyTorch, on a CPU or one NVIDIA GPU, by the same code. The framework is imported by `start`."""

from typing import TYPE_CHECKING, ClassVar

import msgspec

from dlmodels.engines.base import Engine, Memory, Model, Place
from dlmodels.engines.host import host_memory
from dlmodels.engines.torch_settings import TorchSettings
from dlmodels.errors import EngineUnavailableError
from dlmodels.repository import ModelSpec, verify_files

if TYPE_CHECKING:
    from dlmodels.engines.torch_runtime import TorchRuntime


class TorchEngine(Engine):
    """Zoo networks from safetensors, TorchScript, and torch.export."""

    name: ClassVar[str] = "torch"
    package: ClassVar[str] = "torch"
    formats: ClassVar[tuple[str, ...]] = (
        "safetensors of a zoo network (.safetensors)",
        "TorchScript (.pt)",
        "torch.export (.pt2)",
    )
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    settings_type: ClassVar[type[msgspec.Struct]] = TorchSettings

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._runtime: TorchRuntime | None = None

    def start(self) -> None:
        """Import torch and wake the device. Raises EngineUnavailableError."""
        try:
            from dlmodels.engines.torch_runtime import TorchRuntime  # noqa: PLC0415  not before it is needed: seconds
        except (ImportError, OSError) as exc:  # OSError: a library that it needs is missing
            raise EngineUnavailableError(f"torch cannot be imported ({exc}): install it with `make install`") from exc
        self._runtime = TorchRuntime(self.place)

    def prepare(self, spec: ModelSpec) -> Model:
        """A model of a zoo network (`architecture` named, safetensors), of a TorchScript or a torch.export file."""
        if self._runtime is None:
            raise EngineUnavailableError("the torch engine has not been started: call start() first")
        self._runtime.check_kind(spec)
        verify_files(spec)
        return self._runtime.model(spec)

    def memory(self) -> Memory:
        """The machine's memory, or the GPU's; memory that torch keeps for its next allocation counts as free."""
        return self._runtime.memory() if self._runtime else host_memory()
