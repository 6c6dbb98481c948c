"""OpenVINO in this process: compiled models, and what they answer."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import openvino
from numpy.typing import NDArray

from dlmodels.engines.base import Batch, Place
from dlmodels.engines.graph_input import TensorInfo, image_input, scores_output
from dlmodels.engines.graph_model import GraphModel, Outputs
from dlmodels.engines.host import host_memory
from dlmodels.engines.onnx_file import read_onnx_file, with_data_files
from dlmodels.engines.openvino import OpenVinoSettings
from dlmodels.errors import ForwardError, LoadError, OutOfMemoryError, RepositoryError, SettingError
from dlmodels.spec import CACHE_FOLDER, ModelSpec

_PRECISIONS = MappingProxyType({"fp32": "f32", "bf16": "bf16", "fp16": "f16"})
_DATATYPES = MappingProxyType({name: datatype for datatype, name in _PRECISIONS.items()})
_DTYPES = MappingProxyType({"f32": "float32", "f16": "float16", "f64": "float64", "u8": "uint8", "i64": "int64"})
_NO_MEMORY = (
    "bad_alloc",
    "out of memory",
    "cannot allocate",
    "could not allocate",
    "failed to allocate",
)  # no exception type of its own


class OpenVinoRuntime:
    """The CPU, as OpenVINO has it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._core = openvino.Core()
        self._core.set_property({"ENABLE_MMAP": place.map_files})

    def model(self, spec: ModelSpec, settings: OpenVinoSettings) -> "OpenVinoModel":
        """The prepared model. Raises LoadError, RepositoryError, SettingError or OutOfMemoryError."""
        if not spec.graph:
            spec = with_data_files(spec, read_onnx_file(Path(spec.folder) / spec.weights))
        model = OpenVinoModel(spec, self._core, self._place, settings)
        model.try_out()
        return model


class OpenVinoModel(GraphModel):
    """Read and compiled anew at each load: what is compiled holds weights in the order that its kernels want."""

    def __init__(self, spec: ModelSpec, core: openvino.Core, place: Place, settings: OpenVinoSettings) -> None:
        super().__init__(spec)
        self._core = core
        self._place = place
        self._asked = settings
        folder = Path(spec.folder)
        self._graph = folder / (spec.graph or spec.weights)
        self._bin = folder / spec.weights if spec.graph else None
        self._cache = folder / CACHE_FOLDER if settings.cache else None
        network = self._read()
        self._input = image_input(_described(network.inputs), spec, str(self._graph))
        self._output = scores_output(_described(network.outputs), spec, settings.output, str(self._graph))
        self._output_index = [tensor.name for tensor in _described(network.outputs)].index(self._output)
        self.most_images = self._input.batch
        self._requests: list[openvino.InferRequest] = []
        self._settings: dict[str, object] = {}
        self._check_settings()

    @property
    def settings(self) -> Mapping[str, object]:
        """As the compiled network had them when the model was prepared."""
        return self._settings

    @property
    def lanes(self) -> Sequence[Callable[[Batch], NDArray[np.float32]]]:
        """One for each of the requests that OpenVINO calls optimal: a lane infers a batch whole, and lanes share the streams."""
        if len(self._requests) < 2:
            return (self.run,)
        return tuple(
            partial(self._run_by, partial(self._outputs_of, partial(self._infer, request)))
            for request in self._requests
        )

    def _check_settings(self) -> None:
        name = f"model {self.spec.name!r}"
        if self._asked.hint == "latency" and self._asked.streams is not None:
            raise SettingError(
                f'{name}: streams are for hint = "throughput"; with latency there is one: leave them out'
            )
        if self._asked.hint == "throughput" and self._input.batch is not None and self._asked.batch is None:
            raise SettingError(
                f'{name}: hint = "throughput" splits batches, and the graph takes those of {self._input.batch} only:'
                " leave the hint out, or export the network with a free batch dimension"
            )
        if self._asked.hint == "throughput" and self._place.threads < 2:
            raise SettingError(
                f'{name}: hint = "throughput" is of no use to one thread: leave it out, or start dlserve with more --threads'
            )

    def _open(self) -> None:
        self._check_fits()
        try:
            compiled = self._core.compile_model(self._read(), "CPU", self._configuration())
            count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self._settings = self._read_back(compiled)
            self._requests = [compiled.create_infer_request() for _ in range(count)]
        except RuntimeError as exc:
            raise self._load_failure(exc) from exc

    def _read(self) -> openvino.Model:
        """The network, its weights mapped or read as the place has it; of the batch that was asked for."""
        try:
            network = self._core.read_model(self._graph, self._bin) if self._bin else self._core.read_model(self._graph)
        except RuntimeError as exc:
            raise self._load_failure(exc) from exc
        if self._asked.batch is not None:
            self._fix_batch(network, self._asked.batch)
        return network

    def _fix_batch(self, network: openvino.Model, batch: int) -> None:
        shapes = [port.partial_shape for port in network.inputs]
        free = (
            len(shapes) == 1
            and shapes[0].rank.is_static
            and shapes[0].rank.get_length() > 0
            and shapes[0][0].is_dynamic
        )
        try:
            if free:
                shapes[0][0] = openvino.Dimension(batch)
                network.reshape(shapes[0])
                return
        except RuntimeError as exc:
            raise SettingError(
                f"model {self.spec.name!r} cannot be compiled for a batch of {batch} ({_sentence(exc)}): leave `batch` out"
            ) from exc
        raise SettingError(
            f"model {self.spec.name!r}: batch = {batch} is for graphs that leave it open, and {self._graph.name} does not: leave it"
            " out, or export the network with a free batch dimension"
        )

    def _close(self) -> None:
        self._requests = []

    def _outputs(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(self._requests) == 1 or len(images) == 1 or self._input.batch is not None:
            return self._outputs_of(partial(self._infer, self._requests[0]), images)
        return self._outputs_of(self._infer_in_parts, images)

    def _outputs_of(self, infer: Outputs, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """What `infer` gives, where its failures become ours."""
        try:
            answer = infer(images)
        except RuntimeError as exc:
            if _is_out_of_memory(exc):
                raise OutOfMemoryError(
                    f"{self.spec.name!r}: no memory for a batch of {len(images)}: send fewer images"
                ) from exc
            raise ForwardError(f"{self.spec.name!r} failed on a batch of {len(images)}: {_sentence(exc)}") from exc
        return answer[: len(images)]

    def _infer(self, request: openvino.InferRequest, images: NDArray[np.float32]) -> NDArray[np.float32]:
        arranged = self._input.arrange(images)  # read where it lies, and alive until the request is done
        if len(self._requests) == 1:
            request.infer([arranged], share_inputs=True)
        else:
            # `infer` computes in the calling thread, on whichever core that is; streams have threads that wait for work. The
            # tensor is set by itself, as `start_async` takes 20 us to look at what it is given.
            request.set_input_tensor(openvino.Tensor(arranged, shared_memory=True))
            request.start_async()
            request.wait()
        return np.array(request.get_output_tensor(self._output_index).data)

    def _infer_in_parts(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """One part of the batch for each stream, all at once."""
        parts = np.array_split(images, min(len(self._requests), len(images)))
        requests = self._requests[: len(parts)]
        arranged = [self._input.arrange(part) for part in parts]  # alive until all are done
        try:
            for request, part in zip(requests, arranged, strict=True):
                request.start_async([part], share_inputs=True)
        finally:
            for request in requests:
                request.wait()
        return np.concatenate([request.get_output_tensor(self._output_index).data for request in requests])

    def _configuration(self) -> dict[str, object]:
        configuration: dict[str, object] = {
            "PERFORMANCE_HINT": self._asked.hint.upper(),
            "INFERENCE_NUM_THREADS": self._place.threads,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self._asked.datatype],
            # Pinned, the threads of all workers of a machine would sit on the same first cores.
            "ENABLE_CPU_PINNING": self._asked.pinning,
        }
        if self._asked.hint == "throughput" and self._streams:
            configuration["NUM_STREAMS"] = self._streams
        if self._cache is not None:
            configuration["CACHE_DIR"] = str(self._cache_folder(self._cache))
        return configuration

    @property
    def _streams(self) -> int:
        """Asked for; 0: OpenVINO chooses."""
        return self._place.threads if self._asked.streams is None else self._asked.streams

    def _cache_folder(self, folder: Path) -> Path:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as exc:
            raise RepositoryError(
                f"the compiled network of {self.spec.name!r} cannot be kept in {folder} ({exc.strerror}): make the folder"
                " writable, or remove `cache` from the model's parameters"
            ) from exc
        return folder

    def _read_back(self, compiled: openvino.CompiledModel) -> dict[str, object]:
        """What the compiled network really uses. Raises SettingError where that is not what was asked for."""
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        used: dict[str, object] = {
            "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            "hint": str(compiled.get_property("PERFORMANCE_HINT")).rpartition(".")[2].lower(),
            "streams": int(compiled.get_property("NUM_STREAMS")),
            "datatype": _DATATYPES.get(precision, precision),
            "pinning": bool(compiled.get_property("ENABLE_CPU_PINNING")),
        }
        wanted: dict[str, object] = {
            "threads": self._place.threads,
            "hint": self._asked.hint,
            "streams": (self._streams or used["streams"]) if self._asked.hint == "throughput" else 1,
            "datatype": self._asked.datatype,
            "pinning": self._asked.pinning,
        }
        for key, value in wanted.items():
            if used[key] != value:
                raise SettingError(
                    f"model {self.spec.name!r}: on this machine openvino uses {key} {used[key]}, not {value} as asked:"
                    f" ask for that, or {'start dlserve with fewer --threads' if key == 'threads' else 'leave it out'}"
                )
        used["layout"] = "nhwc" if self._input.channels_last else "nchw"
        used["batch"] = self._input.batch
        used["cache"] = self._asked.cache
        return used

    def _check_fits(self) -> None:
        free = host_memory().free_bytes
        if self.weights_bytes > free:
            raise OutOfMemoryError(
                f"the {self.weights_bytes} bytes of {self.spec.name!r} do not fit the {free} bytes that are free:"
                " unload another model, or use a machine with more memory"
            )

    def _load_failure(self, exc: RuntimeError) -> LoadError | OutOfMemoryError:
        if _is_out_of_memory(exc):
            return OutOfMemoryError(f"this machine has no room for {self._graph}: unload another model")
        cure = (
            "convert it anew with `dlmodels convert MODEL --to openvino`" if self._bin else "export the network again"
        )
        version = openvino.__version__.partition("-")[0]
        return LoadError(
            f"{self._graph} cannot be loaded by openvino {version} ({_sentence(exc)}): copy the model again, or {cure}"
        )


def _described(ports: Sequence[openvino.ConstOutput]) -> list[TensorInfo]:
    """Inputs or outputs of a network."""
    found = []
    for index, port in enumerate(ports):
        shape = port.partial_shape
        sizes = None
        if shape.rank.is_static:
            sizes = tuple(size.get_length() if size.is_static else None for size in shape)
        kind = port.element_type.get_type_name()
        names = sorted(port.names)
        found.append(TensorInfo(names[0] if names else f"#{index}", _DTYPES.get(kind, kind), sizes))
    return found


def _is_out_of_memory(exc: Exception) -> bool:
    said = str(exc).lower()
    return any(sign in said for sign in _NO_MEMORY)


def _sentence(exc: Exception) -> str:
    """Of a message that is a trace of C++ files the last line that says something."""
    lines = [line.strip() for line in str(exc).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "While "))]
    return (telling or lines or [type(exc).__name__])[-1][:300]
