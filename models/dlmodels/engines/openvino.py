"""OpenVINO, on a CPU. The framework is imported by `start`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from dlmodels.engines.base import Engine, Memory, Place
from dlmodels.engines.host import host_memory
from dlmodels.errors import EngineUnavailableError, RepositoryError
from dlmodels.repository import ModelSpec, verify_files
from dlmodels.settings import parse_settings

if TYPE_CHECKING:
    from dlmodels.engines.openvino_runtime import OpenVinoModel, OpenVinoRuntime


class OpenVinoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's `parameters` for OpenVINO."""

    hint: Literal["latency", "throughput"] = "latency"
    """latency: all threads work on one batch together. throughput: a batch is split among `streams`."""
    streams: Annotated[int, msgspec.Meta(ge=0, le=1024)] | None = None
    """With the throughput hint: parts of a batch that are computed at once; None: one per thread; 0: as OpenVINO finds best."""
    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None = None
    """Compile for batches of exactly so many images, which spares OpenVINO some work in each; larger ones are then refused. None:
    for any."""
    pinning: bool = False
    """Keep each thread on a core of its own: faster, for a process that has the machine to itself."""
    datatype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What it computes in. OpenVINO's own default is bf16 wherever the CPU has it; a result says what was used."""
    cache: bool = False
    """Keep the compiled network in the model's folder, so that a load reads it in place of compiling."""
    output: str = ""
    """The output with the class scores, where the graph has several."""


class OpenVinoEngine(Engine):
    """OpenVINO's own files, and ONNX."""

    name: ClassVar[str] = "openvino"
    package: ClassVar[str] = "openvino"
    formats: ClassVar[tuple[str, ...]] = ("OpenVINO IR (.xml and .bin)", "ONNX (.onnx)")
    settings_type: ClassVar[type[msgspec.Struct]] = OpenVinoSettings

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._runtime: OpenVinoRuntime | None = None

    def start(self) -> None:
        """Import openvino. Raises EngineUnavailableError."""
        if self.place.device != "cpu":
            raise EngineUnavailableError(
                f"openvino computes on the CPU only, not on {self.place.device}: use --devices cpu"
            )
        try:
            from dlmodels.engines.openvino_runtime import OpenVinoRuntime  # noqa: PLC0415  not before it is needed
        except (ImportError, OSError) as exc:  # OSError: a library that it needs is missing
            raise EngineUnavailableError(
                f"openvino cannot be imported ({exc}): install it with `make install`"
            ) from exc
        self._runtime = OpenVinoRuntime(self.place)

    def prepare(self, spec: ModelSpec) -> "OpenVinoModel":
        """A model of an `.xml` with its `.bin`, or of an `.onnx` file."""
        if self._runtime is None:
            raise EngineUnavailableError("the openvino engine has not been started: call start() first")
        kinds = (Path(spec.graph).suffix, Path(spec.weights).suffix)
        if spec.architecture or kinds not in ((".xml", ".bin"), ("", ".onnx")):
            raise RepositoryError(
                f"model {spec.name!r} has the graph {spec.graph!r}, the weights {spec.weights!r} and the architecture"
                f" {spec.architecture!r}: openvino takes an *.xml as graph with a *.bin as weights, or an *.onnx as weights;"
                " `dlmodels convert MODEL --to openvino` makes the first"
            )
        settings = parse_settings(spec.parameters, OpenVinoSettings, f"model {spec.name!r}")
        verify_files(spec)
        return self._runtime.model(spec, settings)

    def memory(self) -> Memory:
        """The machine's."""
        return host_memory()
