"""cv2.dnn in this process: networks that are read anew at each load, since OpenCV cannot give back weights alone."""

import mmap
import re
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dlmodels.engines.base import Place
from dlmodels.engines.caffe_prototxt import read_prototxt
from dlmodels.engines.graph_input import GraphInput, TensorInfo, image_input, scores_output
from dlmodels.engines.graph_model import GraphModel
from dlmodels.engines.host import give_back_freed, host_memory
from dlmodels.engines.native_stderr import captured_stderr
from dlmodels.engines.onnx_file import read_onnx_file
from dlmodels.engines.opencv import OpenCvSettings
from dlmodels.engines.opencv_onnx import check_meanings
from dlmodels.errors import ForwardError, LoadError, OutOfMemoryError, SettingError
from dlmodels.repository import ModelSpec

_PRINTED = re.compile(r"^\[ *(ERROR|WARN|INFO)[:@]|libprotobuf|^OpenCV\(|^\s*(>|\.\.\.)")
_SILENT = 0
_STATM = Path("/proc/self/statm")  # in pages
_BAD_ALLOCATION = "bad_alloc"


class OpenCvRuntime:
    """OpenCV, whose count of threads is the whole process's."""

    def __init__(self, place: Place) -> None:
        self.place = place
        cv2.setLogLevel(_SILENT)  # what is wrong is raised, and told once

    def model(self, spec: ModelSpec, settings: OpenCvSettings) -> "OpenCvModel":
        """The prepared model. Raises LoadError, SettingError or OutOfMemoryError."""
        model = OpenCvModel(spec, self, settings)
        model.try_out()
        return model

    def set_threads(self) -> int:
        """Set the place's count of threads, unless it is set already; the count that OpenCV then has.

        Whoever decodes images in this process may set another one: a picture needs no more than one.
        """
        if cv2.getNumThreads() != self.place.threads:
            cv2.setNumThreads(self.place.threads)
        return cv2.getNumThreads()

    def resident_bytes(self) -> int:
        """What this process has in memory, but for freed memory that glibc keeps."""
        give_back_freed()
        return int(_STATM.read_text().split()[1]) * mmap.PAGESIZE


class OpenCvModel(GraphModel):
    """One network."""

    def __init__(self, spec: ModelSpec, runtime: OpenCvRuntime, settings: OpenCvSettings) -> None:
        super().__init__(spec)
        self._runtime = runtime
        self._asked = settings
        self._graph = Path(spec.folder) / spec.graph if spec.graph else None
        self._weights = Path(spec.folder) / spec.weights
        self._input = self._read_input()
        self.most_images = self._input.batch
        self._output = ""
        self._threads = 0
        self._resident_before = self._runtime.resident_bytes()
        self._taken_bytes = 0
        self._net: cv2.dnn.Net | None = None

    @property
    def weights_bytes(self) -> int:
        """What the network took in memory when it was tried with one picture: OpenCV keeps each filter in the file's form, in its
        own, and in Winograd's (ResNet-50: 3.2 times the file). At least the size of the files."""
        return max(self._taken_bytes, super().weights_bytes)

    @property
    def settings(self) -> Mapping[str, object]:
        """As they were when the model was last run. `winograd` is what was set: OpenCV does not tell it."""
        return {
            "datatype": "fp32",
            "threads": self._threads,
            "winograd": self._asked.winograd,
            "output": self._output,
        }

    def _read_input(self) -> GraphInput:
        if self._graph is not None:
            return image_input(read_prototxt(self._graph).inputs, self.spec, str(self._graph))
        file = read_onnx_file(self._weights)
        if file.data_files:
            raise LoadError(
                f"{self._weights} keeps weights in {', '.join(sorted(file.data_files))}, which OpenCV does not read: save it"
                " as one file, or use mllib onnxruntime"
            )
        if file.dtype != "float32":
            raise LoadError(f"{self._weights} holds {file.dtype}, and OpenCV computes in float32: export it in float32")
        check_meanings(self._weights)
        return image_input(file.inputs, self.spec, str(self._weights))

    def _open(self) -> None:
        free = host_memory().free_bytes
        needed = (
            super().weights_bytes + self.weights_bytes
        )  # the file's bytes while they are read, and what is made of them
        if needed > free:
            raise OutOfMemoryError(
                f"{self.spec.name!r} needs {needed} bytes while it is loaded, and {free} are free: unload another model, or"
                " use a machine with more memory"
            )
        contents = [_content(path) for path in (self._graph, self._weights) if path is not None]
        try:
            with captured_stderr(_PRINTED):
                net = cv2.dnn.readNetFromONNX(*contents) if self._graph is None else cv2.dnn.readNetFromCaffe(*contents)
        except cv2.error as exc:
            if is_out_of_memory(exc):
                raise OutOfMemoryError(f"cpu has no room for {self._name()}: unload another model") from exc
            raise LoadError(
                f"{self._name()} cannot be read by OpenCV {cv2.__version__} ({useful_line(exc)}): the file is damaged, of"
                " another framework, or has layers that OpenCV lacks; copy it again, or export the network to ONNX for"
                " mllib onnxruntime"
            ) from exc
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
        # With fused layers a residual network answers wrongly once the batch changes (4.11), and none was found quicker.
        net.enableFusion(False)
        net.enableWinograd(self._asked.winograd)
        self._net = net

    def _close(self) -> None:
        if self._net is not None:
            self._net = None
            give_back_freed()

    def _outputs(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        pictures = np.asarray(self._input.arrange(images), np.float32)
        if not self._output:
            self._output = self._find_output(pictures)
            self._taken_bytes = self._runtime.resident_bytes() - self._resident_before
        return self._forward(pictures, self._output)[: len(images)]

    def _find_output(self, pictures: NDArray[np.float32]) -> str:
        """The output with the class scores, by what the network gives for a first batch. Raises LoadError."""
        assert self._net is not None
        try:
            told = [
                TensorInfo(name, "float32", self._forward(pictures, name).shape)
                for name in self._net.getUnconnectedOutLayersNames()
            ]
        except ForwardError as exc:
            raise LoadError(
                f"OpenCV {cv2.__version__} cannot run {self._name()} ({exc}): the weights belong to another network, or it"
                " has layers that OpenCV lacks; put the right files there, or export the network to ONNX for mllib"
                " onnxruntime"
            ) from exc
        return scores_output(told, self.spec, self._asked.output, self._name())

    def _forward(self, pictures: NDArray[np.float32], output: str) -> NDArray[np.float32]:
        assert self._net is not None
        self._threads = self._runtime.set_threads()
        if self._threads != self._runtime.place.threads:
            raise SettingError(f"OpenCV uses {self._threads} threads, not {self._runtime.place.threads} as asked")
        try:
            self._net.setInput(pictures, self._input.name)
            return np.asarray(self._net.forward(output), np.float32)
        except cv2.error as exc:
            if is_out_of_memory(exc):
                raise OutOfMemoryError(
                    f"{self.spec.name!r}: no memory for a batch of {len(pictures)} on cpu: send fewer images"
                ) from exc
            raise ForwardError(
                f"{self.spec.name!r} failed on a batch of shape {pictures.shape}: {useful_line(exc)}"
            ) from exc


def is_out_of_memory(exc: cv2.error) -> bool:
    """Whether it was memory that OpenCV lacked."""
    return getattr(exc, "code", 0) == cv2.Error.StsNoMem or _BAD_ALLOCATION in str(exc)


def useful_line(exc: cv2.error) -> str:
    """What OpenCV says, without the place in its sources."""
    said = getattr(exc, "err", "") or str(exc)
    lines = [line.strip(" >\t") for line in said.splitlines() if line.strip(" >\t")]
    return (lines or [type(exc).__name__])[0][:300]


def _content(path: Path) -> NDArray[np.uint8]:
    try:
        return np.fromfile(path, np.uint8)
    except OSError as exc:
        raise LoadError(f"{path} cannot be read ({exc.strerror}): put the file back") from exc
