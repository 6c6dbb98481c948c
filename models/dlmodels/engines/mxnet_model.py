"""mxnet in this process: networks whose weights are used where they lie in their file, as far as MXNet does that."""

import ctypes
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlmodels.engines.base import Place
from dlmodels.engines.graph_model import GraphModel
from dlmodels.engines.host import give_back_freed, host_memory
from dlmodels.engines.mxnet import MxnetSettings
from dlmodels.engines.mxnet_import import import_mxnet
from dlmodels.engines.mxnet_params import read_params
from dlmodels.engines.mxnet_symbol import MxnetGraph, read_graph, useful_line
from dlmodels.errors import ForwardError, LoadError, OutOfMemoryError, SettingError
from dlmodels.repository import ModelSpec

_NO_MEMORY = ("Memory allocation failed", "Failed to allocate", "bad_alloc")  # MXNetError is the type of everything


class MxnetRuntime:
    """mxnet, imported."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.mxnet = import_mxnet()
        self._library: ctypes.CDLL = self.mxnet.base._LIB  # noqa: SLF001  through it one finds its very libgomp

    def model(self, spec: ModelSpec, settings: MxnetSettings) -> "MxnetModel":
        """The prepared model. Raises LoadError, SettingError or OutOfMemoryError."""
        model = MxnetModel(spec, self, settings)
        model.try_out()
        return model

    def set_threads(self) -> int:
        """Give the calling thread the place's count of threads; the count that OpenMP then has for it."""
        self._library.omp_set_num_threads(self.place.threads)
        return int(self._library.omp_get_max_threads())


class MxnetModel(GraphModel):
    """One network. What is kept without weights is its checked and fused symbol."""

    def __init__(self, spec: ModelSpec, runtime: MxnetRuntime, settings: MxnetSettings) -> None:
        super().__init__(spec)
        self._runtime = runtime
        self._path = Path(spec.folder) / spec.weights
        self._places = read_params(self._path)
        graph = Path(spec.folder) / spec.graph
        self._graph: MxnetGraph = read_graph(graph, self._places, spec, fusion=settings.fusion, output=settings.output)
        self._threads = 0
        self._operator: Any = None
        self._arrays: dict[str, Any] = {}

    @property
    def weights_bytes(self) -> int:
        """Of the arrays that the network uses, and of the second form that fused convolutions keep of their filters."""
        used = sum(self._places[name].bytes for name in self._graph.inputs if name in self._places)
        return used + self._graph.copied_bytes

    @property
    def settings(self) -> Mapping[str, object]:
        """As they were when the model was last run."""
        return {
            "datatype": "fp32",
            "threads": self._threads,
            "fusion": self._graph.fused > 0,
            "fused_operators": self._graph.fused,
            "output": self._graph.symbol.list_outputs()[0],
        }

    def _open(self) -> None:
        free = host_memory().free_bytes
        if self.weights_bytes > free:
            raise OutOfMemoryError(
                f"the {self.weights_bytes} bytes of {self.spec.name!r} do not fit the {free} bytes that are free:"
                " unload another model, or use a machine with more memory"
            )
        mxnet = self._runtime.mxnet
        self._arrays = {name: mxnet.nd.from_numpy(array) for name, array in self._stored()}
        self._operator = self._new_operator()

    def _new_operator(self) -> Any:
        """The network, ready to be called; what it plans for the shapes of one batch it keeps until another size comes."""
        names = self._graph.inputs
        pictures = names.index(self._graph.pictures)
        return self._runtime.mxnet.nd.CachedOp(
            self._graph.symbol,
            [
                ("static_alloc", True),
                ("static_shape", True),
                ("data_indices", [pictures]),
                ("param_indices", [index for index in range(len(names)) if index != pictures]),
            ],
        )

    def _close(self) -> None:
        if self._operator is not None:
            self._operator = None
            self._arrays = {}
            give_back_freed()  # some hundred MB of a network's filters

    def _outputs(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        mxnet = self._runtime.mxnet
        self._threads = self._runtime.set_threads()
        if self._threads != self._runtime.place.threads:
            raise SettingError(
                f"OpenMP gives {self._threads} threads, not {self._runtime.place.threads}: correct OMP_THREAD_LIMIT"
            )
        try:
            shapes = self._graph.label_shapes(images.shape)
            # A view, since mxnet makes the array that it is given read-only.
            given = {name: mxnet.nd.zeros(shape) for name, shape in shapes.items()}
            given[self._graph.pictures] = mxnet.nd.from_numpy(images.view())
            inputs = [given[name] if name in given else self._arrays[name] for name in self._graph.inputs]
            answer: NDArray[np.float32] = self._operator(*inputs).asnumpy()
        except mxnet.MXNetError as exc:
            if any(sign in str(exc) for sign in _NO_MEMORY):
                self._operator = self._new_operator()  # the old one keeps what it had planned and allocated so far
                give_back_freed()
                raise OutOfMemoryError(
                    f"{self.spec.name!r}: no memory for a batch of {len(images)} on cpu: send fewer images"
                ) from exc
            raise ForwardError(
                f"{self.spec.name!r} failed on a batch of shape {images.shape}: {useful_line(exc)}"
            ) from exc
        return answer

    def _stored(self) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """The arrays that the network uses, where they lie in the mapped file or in what was read of it."""
        content = self._content()
        for name in self._graph.inputs:
            place = self._places.get(name)
            if place is not None:
                count = place.bytes // np.dtype(place.dtype).itemsize
                yield name, np.frombuffer(content, place.dtype, count, place.begin).reshape(place.shape)

    def _content(self) -> mmap.mmap | NDArray[np.uint8]:
        try:
            if not self._runtime.place.map_files:
                return np.fromfile(self._path, np.uint8)
            with self._path.open("rb") as file:
                # Private: what mxnet writes into its arrays (the scale of some normalizations) never reaches the file.
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as exc:
            raise LoadError(f"the weights {self._path} cannot be read ({exc.strerror}): put the file back") from exc
