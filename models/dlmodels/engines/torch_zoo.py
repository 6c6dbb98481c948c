"""A zoo network over a safetensors file: a skeleton whose parameters are pointed into the file's bytes and away again."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from dlmodels.engines.safetensors_file import FILTER_DIMENSIONS, TensorFile, read_tensor_file
from dlmodels.engines.torch_compile import Compiled
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_memory import DTYPES, stored_dtype
from dlmodels.engines.torch_model import TorchModel
from dlmodels.engines.torch_order import Plan, one_group, plan_groups
from dlmodels.engines.torch_weights import Slot, Weights, materialize
from dlmodels.errors import LoadError, RepositoryError
from dlmodels.repository import ModelSpec
from dlmodels.zoo.skeleton import skeleton


class ZooModel(TorchModel):
    """The skeleton is dlmodels' own, or torchvision's."""

    def __init__(self, spec: ModelSpec, device: TorchDevice) -> None:
        super().__init__(spec, device)
        file = read_tensor_file(Path(spec.folder) / spec.weights)
        self._network = skeleton(spec.architecture, spec.classes)
        shapes = dict(self._network.state_dict())
        _check_tensors(spec, file, shapes)
        plan = self._plan()
        cast_to = self._precision.cast_to
        dtypes = {tensor.name: stored_dtype(tensor.dtype, cast_to) for tensor in file.tensors}
        made = materialize(self._network, device.torch, dtypes)
        index = {tensor.name: position for position, tensor in enumerate(file.tensors)}
        groups = [[index[name] for name in group] for group in plan.groups]
        slots = list(_slots(file, shapes, made))
        self._weights = Weights(device, file, slots, cast_to, groups, plan.gates)
        self._compiled = Compiled(self._network) if self._asked.compile else None
        if self._compiled is not None:
            self._compiled.warm_up(self)

    def _forward(self, images: torch.Tensor) -> object:
        return self._network(images) if self._compiled is None else self._compiled(images)

    def _plan(self) -> Plan:
        """Let one image of the model's input size flow through the skeleton, which computes shapes only."""
        images = torch.empty((1, *self.spec.input.shape), device="meta")
        try:
            if self._device.is_cpu or self._asked.compile:  # nothing is on its way on a CPU; a hook would break a graph
                with torch.inference_mode():
                    self._network(images)
                return one_group(tuple(self._network.state_dict()))
            return plan_groups(self._network, images)
        except (RuntimeError, ValueError) as exc:
            raise RepositoryError(
                f"{self.spec.architecture} does not take an input of {self.spec.input.channels} channels and"
                f" {self.spec.input.width} x {self.spec.input.height} pixels: correct the input of {self.spec.name!r}"
            ) from exc


def _slots(file: TensorFile, shapes: Mapping[str, torch.Tensor], made: Mapping[str, torch.Tensor]) -> Iterator[Slot]:
    for index, place in enumerate(file.tensors):
        was = shapes[place.name]
        layout = torch.channels_last if _is_filter_last(file, was) else torch.contiguous_format
        stride = torch.empty(was.shape, device="meta", memory_format=layout).stride()
        yield Slot(made[place.name], index, tuple(was.shape), stride)


def _is_filter_last(file: TensorFile, tensor: torch.Tensor) -> bool:
    """Whether the file holds this tensor as (out, height, width, in)."""
    return file.channels_last and tensor.ndim == FILTER_DIMENSIONS


def _check_tensors(spec: ModelSpec, file: TensorFile, wanted: Mapping[str, torch.Tensor]) -> None:
    """Raises LoadError unless the file holds exactly the tensors of the network."""
    found = {place.name: place for place in file.tensors}
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        said = [
            f"{verb} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            for verb, names in (("lacks", missing), ("has", extra))
            if names
        ]
        raise LoadError(
            f"{file.path} holds the weights of another network than {spec.architecture}: it {' and '.join(said)}."
            f" Correct `architecture`, or build {spec.name!r} again"
        )
    for name, tensor in wanted.items():
        place = found[name]
        shape = tuple(tensor.permute(0, 2, 3, 1).shape if _is_filter_last(file, tensor) else tensor.shape)
        if place.shape != shape:
            raise LoadError(
                f"{file.path}: {name} has the shape {place.shape}, where {spec.architecture} with {spec.classes} classes"
                f" has {shape}: correct `classes` or `architecture`, or build {spec.name!r} again"
            )
        if DTYPES[place.dtype] != tensor.dtype:
            raise LoadError(f"{file.path}: {name} has the type {place.dtype}, not {tensor.dtype}: convert the weights")
