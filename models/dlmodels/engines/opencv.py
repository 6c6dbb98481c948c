"""OpenCV's dnn module, on a CPU: networks of Caffe, in the form in which DeepDetect's report has them, and ONNX."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from dlmodels.engines.base import Engine, Memory, Place
from dlmodels.engines.host import host_memory
from dlmodels.errors import EngineUnavailableError, RepositoryError
from dlmodels.repository import ModelSpec, verify_files
from dlmodels.settings import parse_settings

if TYPE_CHECKING:
    from dlmodels.engines.opencv_model import OpenCvModel, OpenCvRuntime


class OpenCvSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's `parameters` for OpenCV."""

    datatype: Literal["fp32"] = "fp32"
    winograd: bool = True
    """3 x 3 convolutions by Winograd's algorithm: fewer multiplications, more memory."""
    output: str = ""
    """The blob with the class scores, where the network has several outputs."""


class OpenCvEngine(Engine):
    """Caffe's deploy.prototxt with a caffemodel, and ONNX graphs."""

    name: ClassVar[str] = "opencv"
    package: ClassVar[str] = "opencv-python-headless"
    formats: ClassVar[tuple[str, ...]] = ("Caffe (deploy.prototxt with .caffemodel)", "ONNX (.onnx)")
    settings_type: ClassVar[type[msgspec.Struct]] = OpenCvSettings

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._runtime: OpenCvRuntime | None = None

    def start(self) -> None:
        """Import OpenCV. Raises EngineUnavailableError."""
        try:
            from dlmodels.engines.opencv_model import OpenCvRuntime  # noqa: PLC0415  not before it is needed
        except (ImportError, OSError) as exc:
            raise EngineUnavailableError(f"OpenCV cannot be imported ({exc}): install it with `make install`") from exc
        self._runtime = OpenCvRuntime(self.place)

    def prepare(self, spec: ModelSpec) -> "OpenCvModel":
        """A model of a prototxt (`graph`) and a caffemodel (`weights`), or of an `.onnx` file (`weights`)."""
        if self._runtime is None:
            raise EngineUnavailableError("the opencv engine has not been started: call start() first")
        kinds = Path(spec.graph).suffix, Path(spec.weights).suffix
        if spec.architecture or kinds not in ((".prototxt", ".caffemodel"), ("", ".onnx")):
            raise RepositoryError(
                f"model {spec.name!r} has the graph {spec.graph!r}, the weights {spec.weights!r} and the architecture"
                f" {spec.architecture!r}: opencv takes a *.prototxt with a *.caffemodel, or an *.onnx, without an"
                " architecture"
            )
        settings = parse_settings(spec.parameters, OpenCvSettings, f"model {spec.name!r}")
        verify_files(spec)
        return self._runtime.model(spec, settings)

    def memory(self) -> Memory:
        """The machine's memory."""
        return host_memory()
