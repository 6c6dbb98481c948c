"""PyTorch, on a CPU or one NVIDIA GPU, by the same code. The framework is imported by `start`."""

import importlib.metadata
from typing import TYPE_CHECKING, ClassVar

from dlmodels.engines.base import Engine, Memory, Model
from dlmodels.engines.host import host_memory
from dlmodels.errors import EngineUnavailableError
from dlmodels.repository import ModelSpec, verify_files

if TYPE_CHECKING:
    from dlmodels.engines.torch_runtime import TorchRuntime


class TorchEngine(Engine):
    """Zoo networks from safetensors, and TorchScript, in float32."""

    name: ClassVar[str] = "torch"

    def __init__(self, device: str, threads: int) -> None:
        super().__init__(device, threads)
        self._runtime: TorchRuntime | None = None

    def start(self) -> None:
        """Import torch and wake the device. Raises EngineUnavailableError."""
        try:
            from dlmodels.engines.torch_runtime import TorchRuntime  # noqa: PLC0415  not before it is needed: seconds
        except (ImportError, OSError) as exc:  # OSError: a library that it needs is missing
            raise EngineUnavailableError(f"torch cannot be imported ({exc}): install it with `make install`") from exc
        self._runtime = TorchRuntime(self.device, self.threads)

    def prepare(self, spec: ModelSpec) -> Model:
        """A model of a zoo network (`architecture` named, safetensors) or of a TorchScript file."""
        if self._runtime is None:
            raise EngineUnavailableError("the torch engine has not been started: call start() first")
        self._runtime.check_kind(spec)
        verify_files(spec)
        return self._runtime.model(spec)

    def memory(self) -> Memory:
        """The machine's memory, or the GPU's; memory that torch keeps for its next allocation counts as free."""
        return self._runtime.memory() if self._runtime else host_memory()

    def version(self) -> str:
        """torch's version, without importing it."""
        try:
            return importlib.metadata.version("torch")
        except importlib.metadata.PackageNotFoundError:
            return ""
