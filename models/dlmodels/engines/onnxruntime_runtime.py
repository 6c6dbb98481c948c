"""onnxruntime in this process: sessions, and what they answer."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as native

from dlmodels.engines.base import Memory, Place
from dlmodels.engines.graph_input import image_input, scores_output
from dlmodels.engines.graph_model import GraphModel
from dlmodels.engines.host import give_back_freed, host_memory
from dlmodels.engines.onnx_file import OnnxFile, read_onnx_file, with_data_files
from dlmodels.engines.onnxruntime import OnnxRuntimeSettings
from dlmodels.errors import EngineUnavailableError, ForwardError, LoadError, OutOfMemoryError, SettingError
from dlmodels.repository import ModelSpec

_FAILURES = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
)
_NO_MEMORY = ("bad_alloc", "out of memory", "failed to allocate")  # its exceptions have no type of their own for it
_OPTIMIZATIONS = MappingProxyType(
    {
        "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
)
_DATATYPES = MappingProxyType({"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"})
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_PREAMBLE = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"(Load model from .*? failed: ?)?(/onnxruntime_src/\S+ .*\)(?= [A-Z]) |This is an invalid model\. .*?, (?=Error ))?"
)
_FATAL = 4  # severity: what is wrong is raised, and told once


class OnnxRuntime:
    """One device of this process."""

    def __init__(self, place: Place) -> None:
        self._place = place
        onnxruntime.set_default_logger_severity(_FATAL)
        available = onnxruntime.get_available_providers()
        if place.device != "cpu" and _CUDA not in available:
            raise EngineUnavailableError(
                f"this onnxruntime computes on {', '.join(available)}, not on {place.device}: install onnxruntime-gpu in"
                " place of onnxruntime"
            )

    def model(self, spec: ModelSpec, settings: OnnxRuntimeSettings) -> "OnnxRuntimeModel":
        """The prepared model. Raises LoadError, RepositoryError, SettingError or OutOfMemoryError."""
        file = read_onnx_file(Path(spec.folder) / spec.weights)
        model = OnnxRuntimeModel(with_data_files(spec, file), self._place, settings, file)
        model.try_out()
        return model

    def memory(self) -> Memory:
        """Of the device."""
        if self._place.device == "cpu":
            return host_memory()
        import pynvml  # noqa: PLC0415  on a machine without a GPU it has nothing to load

        pynvml.nvmlInit()
        found = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(_index(self._place.device)))
        return Memory(int(found.total), int(found.free))


class OnnxRuntimeModel(GraphModel):
    """A session that is made anew at each load: ONNX Runtime cannot give back the weights of one that it keeps."""

    def __init__(self, spec: ModelSpec, place: Place, settings: OnnxRuntimeSettings, file: OnnxFile) -> None:
        super().__init__(spec)
        self._place = place
        self._asked = settings
        self._file = file
        self._input = image_input(file.inputs, spec, str(file.path))
        self._output = scores_output(file.outputs, spec, settings.output, str(file.path))
        self.most_images = self._input.batch
        self._session: onnxruntime.InferenceSession | None = None
        self._contents: list[bytes] = []
        self._settings: dict[str, object] = {}
        self._check_datatype()

    @property
    def settings(self) -> Mapping[str, object]:
        """As the session had them when the model was prepared."""
        return self._settings

    def _check_datatype(self) -> None:
        own, asked = _DATATYPES[self._file.dtype], self._asked.datatype
        if asked == "tf32" and self._place.device == "cpu":
            raise SettingError(f"model {self.spec.name!r}: datatype tf32 is for GPUs; leave it out on a CPU")
        if asked and asked != own and not (asked == "tf32" and own == "fp32"):
            raise SettingError(
                f"model {self.spec.name!r}: onnxruntime computes in the type of the graph, {own}, not in {asked}:"
                f" leave datatype out, or export the network in {asked}"
            )

    def _open(self) -> None:
        self._check_fits()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._place.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = _OPTIMIZATIONS[self._asked.optimization]
        options.log_severity_level = _FATAL
        contents = [] if self._place.map_files else _read_data_files(options, self._file)
        try:
            # Its own fallback prints, and tries the same once more.
            session = onnxruntime.InferenceSession(
                str(self._file.path), options, providers=self._providers(), enable_fallback=0
            )
        except (*_FAILURES, ValueError) as exc:  # ValueError: a name in the file is no text
            raise self._load_failure(exc) from exc
        self._settings = self._read_back(session)
        self._session, self._contents = session, contents

    def _close(self) -> None:
        if self._session is not None:
            self._session = None
            self._contents = []
            give_back_freed()  # a session of 97 MiB left 140 to 230 MiB behind

    def _outputs(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self._session is not None
        try:
            # Over io_binding this was measured to be no slower: on a CPU the pictures are not copied either way.
            answer: NDArray[np.float32] = self._session.run(
                [self._output], {self._input.name: self._input.arrange(images)}
            )[0]
        except _FAILURES as exc:
            if _is_out_of_memory(exc):
                raise OutOfMemoryError(
                    f"{self.spec.name!r}: no memory for a batch of {len(images)} on {self._place.device}: send fewer images"
                ) from exc
            raise ForwardError(f"{self.spec.name!r} failed on a batch of {len(images)}: {_sentence(exc)}") from exc
        if not isinstance(answer, np.ndarray):
            raise ForwardError(f"{self.spec.name!r} gives no tensor as {self._output!r}: name another output")
        return answer[: len(images)]

    def _providers(self) -> list[Any]:
        if self._place.device == "cpu":
            return [_CPU]
        tf32 = int(self._asked.datatype == "tf32")
        # Its default tries every algorithm for each new shape, anew after every load.
        return [
            (_CUDA, {"device_id": _index(self._place.device), "use_tf32": tf32, "cudnn_conv_algo_search": "HEURISTIC"}),
            _CPU,
        ]

    def _read_back(self, session: onnxruntime.InferenceSession) -> dict[str, object]:
        """What the session really uses. Raises SettingError where that is not what was asked for."""
        options, provider = session.get_session_options(), session.get_providers()[0]
        used: dict[str, object] = {
            "provider": provider,
            "threads": options.intra_op_num_threads,
            "optimization": next(
                name for name, level in _OPTIMIZATIONS.items() if level == options.graph_optimization_level
            ),
            "datatype": _DATATYPES[self._file.dtype],
            "layout": "nhwc" if self._input.channels_last else "nchw",
            "opset": self._file.opsets.get("", 0),
            "ir_version": self._file.ir_version,
        }
        wanted: dict[str, object] = {
            "provider": _CPU if self._place.device == "cpu" else _CUDA,
            "threads": self._place.threads,
            "optimization": self._asked.optimization,
        }
        if provider == _CUDA and session.get_provider_options()[_CUDA].get("use_tf32") == "1":
            used["datatype"] = "tf32"
        for key, value in wanted.items():
            if used[key] != value:
                raise SettingError(
                    f"model {self.spec.name!r}: onnxruntime uses {key} {used[key]}, not {value} as asked"
                )
        return used

    def _check_fits(self) -> None:
        free = host_memory().free_bytes
        if self.weights_bytes > free:
            raise OutOfMemoryError(
                f"the {self.weights_bytes} bytes of {self.spec.name!r} do not fit the {free} bytes that are free:"
                " unload another model, or use a machine with more memory"
            )

    def _load_failure(self, exc: Exception) -> LoadError | OutOfMemoryError:
        if _is_out_of_memory(exc):
            return OutOfMemoryError(f"{self._place.device} has no room for {self._file.path}: unload another model")
        return LoadError(
            f"{self._file.path} cannot be loaded by onnxruntime {onnxruntime.__version__} ({_sentence(exc)}): export the"
            " network again with standard operators and an operator set that this version knows"
        )


def _read_data_files(options: onnxruntime.SessionOptions, file: OnnxFile) -> list[bytes]:
    """Hand over the contents of files with weights, which ONNX Runtime would map.

    They are returned, as the session uses them where they lie: they must live as long as it does.
    """
    names = sorted(file.data_files)
    contents = [(file.path.parent / name).read_bytes() for name in names]
    if names:
        options.add_external_initializers_from_files_in_memory(names, contents, [len(content) for content in contents])
    return contents


def _index(device: str) -> int:
    return int(device.removeprefix("cuda:"))


def _is_out_of_memory(exc: Exception) -> bool:
    said = str(exc).lower()
    return any(sign in said for sign in _NO_MEMORY)


def _sentence(exc: Exception) -> str:
    """What it says, without codes, paths and signatures of C++ in front."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    return _PREAMBLE.sub("", text)[:300]
