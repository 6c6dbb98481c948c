"""TensorRT, on one NVIDIA GPU, where it is installed. The framework is imported by `start`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from dlmodels.engines.base import Engine, Memory, Place
from dlmodels.engines.host import host_memory
from dlmodels.errors import EngineUnavailableError, RepositoryError, SettingError
from dlmodels.repository import ModelSpec, verify_files
from dlmodels.settings import parse_settings

if TYPE_CHECKING:
    from dlmodels.engines.tensorrt_runtime import TensorRtModel, TensorRtRuntime


class TensorRtSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's `parameters` for TensorRT; all but `output` shape the engine that is built from an ONNX file."""

    datatype: Literal["", "fp32", "tf32", "fp16", "bf16"] = ""
    """What the engine may compute in; "" is fp32 of an ONNX file, and of a saved engine what it was built for."""
    workspace_mb: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] | None = None
    """Of device memory that a kernel may use while it works; None: all there is."""
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    """The largest batch that the engine is built for; None: 32."""
    output: str = ""
    """The output with the class scores, where the graph has several."""


class TensorRtEngine(Engine):
    """ONNX files, from which an engine is built once, and saved engines."""

    name: ClassVar[str] = "tensorrt"
    package: ClassVar[str] = "tensorrt"
    formats: ClassVar[tuple[str, ...]] = ("ONNX (.onnx)", "TensorRT engine (.engine)")
    devices: ClassVar[tuple[str, ...]] = ("cuda",)
    settings_type: ClassVar[type[msgspec.Struct]] = TensorRtSettings

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._runtime: TensorRtRuntime | None = None

    def start(self) -> None:
        """Import tensorrt and wake the GPU. Raises EngineUnavailableError."""
        if reason := self.missing(self.place.device):
            raise EngineUnavailableError(f"tensorrt cannot be used: {reason}")
        try:
            from dlmodels.engines.tensorrt_runtime import TensorRtRuntime  # noqa: PLC0415  not before it is needed
        except (ImportError, OSError) as exc:  # OSError: a library that it needs is missing
            raise EngineUnavailableError(f"tensorrt cannot be imported ({exc}): install NVIDIA's package") from exc
        self._runtime = TensorRtRuntime(self.place)

    def prepare(self, spec: ModelSpec) -> "TensorRtModel":
        """A model of an `.onnx` file, which takes minutes the first time, or of an `.engine`."""
        if self._runtime is None:
            raise EngineUnavailableError("the tensorrt engine has not been started: call start() first")
        settings = read_settings(spec)
        verify_files(spec)
        return self._runtime.model(spec, settings)

    def memory(self) -> Memory:
        """The GPU's."""
        return self._runtime.memory() if self._runtime else host_memory()

    @classmethod
    def missing(cls, device: str) -> str:
        """As of any engine; the cure differs, as NVIDIA's packages come from NVIDIA."""
        reason = super().missing(device)
        if reason and device.startswith("cuda"):
            return "the package tensorrt is not installed: install NVIDIA's wheel for this CUDA version"
        return reason


def read_settings(spec: ModelSpec) -> TensorRtSettings:
    """The checked settings of a model whose files TensorRT can read. Raises RepositoryError or SettingError."""
    kind = Path(spec.weights).suffix
    if spec.architecture or spec.graph or kind not in (".onnx", ".engine"):
        raise RepositoryError(
            f"model {spec.name!r} has the graph {spec.graph!r}, the weights {spec.weights!r} and the architecture"
            f" {spec.architecture!r}: tensorrt takes an *.onnx or an *.engine as weights, and nothing else;"
            " `dlmodels convert MODEL --to onnx` makes the first"
        )
    settings = parse_settings(spec.parameters, TensorRtSettings, f"model {spec.name!r}")
    for name in ("datatype", "workspace_mb", "max_batch"):
        if kind == ".engine" and getattr(settings, name):
            raise SettingError(
                f"model {spec.name!r} is a saved engine, which was built with its own {name}: leave {name} out, or serve the"
                " *.onnx that it was built from"
            )
    return settings
