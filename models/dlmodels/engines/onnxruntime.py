"""ONNX Runtime, on a CPU or one NVIDIA GPU. The framework is imported by `start`."""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from dlmodels.engines.base import Engine, Memory, Place
from dlmodels.engines.host import host_memory
from dlmodels.errors import EngineUnavailableError, RepositoryError
from dlmodels.repository import ModelSpec, verify_files
from dlmodels.settings import parse_settings

if TYPE_CHECKING:
    from dlmodels.engines.onnxruntime_runtime import OnnxRuntime, OnnxRuntimeModel


class OnnxRuntimeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's `parameters` for ONNX Runtime."""

    datatype: Literal["", "fp32", "tf32", "fp16"] = ""
    """What it computes in: that of the graph (""), which ONNX Runtime does not change, but for tf32 on a GPU."""
    optimization: Literal["disabled", "basic", "extended", "all"] = "all"
    """How far the graph is rewritten when it is loaded."""
    output: str = ""
    """The output with the class scores, where the graph has several."""


class OnnxRuntimeEngine(Engine):
    """ONNX graphs, as their files have them."""

    name: ClassVar[str] = "onnxruntime"
    package: ClassVar[str] = "onnxruntime"
    formats: ClassVar[tuple[str, ...]] = ("ONNX (.onnx)",)
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    settings_type: ClassVar[type[msgspec.Struct]] = OnnxRuntimeSettings

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._runtime: OnnxRuntime | None = None

    def start(self) -> None:
        """Import onnxruntime and find the device's provider. Raises EngineUnavailableError."""
        try:
            from dlmodels.engines.onnxruntime_runtime import OnnxRuntime  # noqa: PLC0415  not before it is needed
        except (ImportError, OSError) as exc:  # OSError: a library that it needs is missing
            raise EngineUnavailableError(
                f"onnxruntime cannot be imported ({exc}): install it with `make install`"
            ) from exc
        self._runtime = OnnxRuntime(self.place)

    def prepare(self, spec: ModelSpec) -> "OnnxRuntimeModel":
        """A model of an `.onnx` file, with the files that it keeps weights in."""
        if self._runtime is None:
            raise EngineUnavailableError("the onnxruntime engine has not been started: call start() first")
        if spec.architecture or Path(spec.weights).suffix != ".onnx":
            raise RepositoryError(
                f"model {spec.name!r} has the weights {spec.weights!r} and the architecture {spec.architecture!r}:"
                " onnxruntime takes an *.onnx without one; `dlmodels convert MODEL --to onnx` makes it"
            )
        settings = parse_settings(spec.parameters, OnnxRuntimeSettings, f"model {spec.name!r}")
        verify_files(spec)
        return self._runtime.model(spec, settings)

    def memory(self) -> Memory:
        """The machine's memory, or the GPU's."""
        return self._runtime.memory() if self._runtime else host_memory()

    @classmethod
    def missing(cls, device: str) -> str:
        """As of any engine; a GPU needs the other of the two distributions."""
        if device.startswith("cuda") and not _version("onnxruntime-gpu"):
            return (
                "onnxruntime computes on GPUs only with the package onnxruntime-gpu: install it in place of onnxruntime"
            )
        return super().missing(device)

    @classmethod
    def version(cls) -> str:
        """Of either distribution."""
        return _version("onnxruntime") or _version("onnxruntime-gpu")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
