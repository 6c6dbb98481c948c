"""A torch.export file (`.pt2`): its graph becomes a module once; its weights are pointed into the file at each load."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from dlmodels.engines.pt2_document import Document, read_document
from dlmodels.engines.safetensors_file import TensorFile
from dlmodels.engines.torch_archive import Archive, read_archive
from dlmodels.engines.torch_compile import Compiled
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_memory import stored_dtype
from dlmodels.engines.torch_model import TorchModel
from dlmodels.engines.torch_weights import Slot, Weights, materialize
from dlmodels.errors import LoadError
from dlmodels.repository import ModelSpec

_CURE = "export the network with torch.export.export and save it with torch.export.save, of torch 2.9 or newer"


class Pt2Model(TorchModel):
    """The graph runs operator by operator, unless it is compiled."""

    def __init__(self, spec: ModelSpec, device: TorchDevice) -> None:
        super().__init__(spec, device)
        archive = read_archive(Path(spec.folder) / spec.weights, "torch.export", _CURE)
        document = read_document(archive, device.name)
        _check_input(spec, archive, document)
        self.least_images, self.most_images = document.least_images, document.most_images
        network = _network(archive, document)
        self._weights = self._pointed(archive, document, network)
        self._network: Callable[[torch.Tensor], object] = network
        if self._asked.compile:
            compiled = Compiled(network)
            self._network = compiled
            compiled.warm_up(self)
        self.try_out()

    @property
    def network(self) -> Callable[[torch.Tensor], object]:
        """The graph, which computes while the model is loaded; for conversion."""
        return self._network

    def _forward(self, images: torch.Tensor) -> object:
        return self._network(images)

    def _pointed(self, archive: Archive, document: Document, network: torch.nn.Module) -> Weights:
        cast_to = self._precision.cast_to
        places = {weight.place.name: weight.place for weight in document.weights}
        index = {name: position for position, name in enumerate(places)}
        dtypes = {weight.name: stored_dtype(weight.place.dtype, cast_to) for weight in document.weights}
        made = materialize(network, self._device.torch, dtypes)
        slots = [
            Slot(made[weight.name], index[weight.place.name], weight.shape, weight.stride, weight.offset)
            for weight in document.weights
            if weight.name in made
        ]
        file = TensorFile(archive.path, archive.stamp, tuple(places.values()))
        return Weights(self._device, file, slots, cast_to)


def _network(archive: Archive, document: Document) -> torch.nn.Module:
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it prints a stack trace of what is raised here in a sentence
    try:
        return torch.export.load(io.BytesIO(document.archive)).module(check_guards=False)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, AssertionError, SyntaxError) as exc:
        # All of these are what its reader raises where a graph is not as it should be.
        raise LoadError(
            f"{archive.path} cannot be read by torch {torch.__version__} ({type(exc).__name__}: {exc}): {_CURE}"
        ) from exc
    finally:
        log.setLevel(level)


def _check_input(spec: ModelSpec, archive: Archive, document: Document) -> None:
    wanted = document.input_shape[1:]
    if any(size not in (None, given) for size, given in zip(wanted, spec.input.shape, strict=True)):
        channels, height, width = wanted
        raise LoadError(
            f"{archive.path} takes images of {channels} channels and {width} x {height} pixels (width x height), where"
            f" {spec.name!r} has {spec.input.channels} and {spec.input.width} x {spec.input.height}:"
            " correct the input, or export the network for it"
        )
