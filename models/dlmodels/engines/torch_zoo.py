"""A zoo network over a safetensors file: a skeleton whose parameters are pointed into the file's bytes and away again."""

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch

from dlmodels.engines.safetensors_file import FILTER_DIMENSIONS, TensorFile, read_tensor_file
from dlmodels.engines.torch_device import TorchDevice
from dlmodels.engines.torch_memory import CopiedFile, MappedFile, Source
from dlmodels.engines.torch_model import TorchModel
from dlmodels.errors import ForwardError, LoadError, RepositoryError
from dlmodels.repository import ModelSpec
from dlmodels.zoo.skeleton import skeleton

_DTYPES = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)


class _Slot(NamedTuple):
    """A parameter or buffer of the skeleton, and where in the storage its content lies."""

    tensor: torch.Tensor
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]


class ZooModel(TorchModel):
    """The skeleton lives as long as this object; the storage with the weights only while loaded."""

    def __init__(self, spec: ModelSpec, device: TorchDevice) -> None:
        super().__init__(spec, device)
        path = Path(spec.folder) / spec.weights
        file = read_tensor_file(path)
        self._module = skeleton(spec.architecture, spec.classes)
        _check_tensors(spec, file, self._module.state_dict())
        self._check_input()
        self._source: Source
        if device.is_cpu:
            self._source = MappedFile(file)
        else:
            self._source = CopiedFile(file, device.torch, device.staging())
        self._slots = tuple(self._make_slots(file))
        self._loaded = False

    @property
    def weights_bytes(self) -> int:
        """Bytes of the file, or of its aligned copy."""
        return self._source.bytes

    def load(self) -> None:
        """Point every parameter into the file's bytes."""
        if self._loaded:
            return
        self._device.check_fits(self.spec.name, self.weights_bytes)
        with torch.no_grad(), self._device.current():
            storage = self._source.load()
            for tensor, offset, shape, stride in self._slots:
                tensor.set_(storage, offset, shape, stride)
        self._loaded = True

    def unload(self) -> None:
        """Point every parameter at nothing; the storage goes with the last one that was in it."""
        if not self._loaded:
            return
        nothing = torch.empty(0, dtype=torch.uint8, device=self._device.torch).untyped_storage()
        with torch.no_grad():
            for slot in self._slots:
                slot.tensor.set_(nothing, 0, (0,), (1,))
        self._loaded = False

    def _forward(self, images: torch.Tensor) -> object:
        if not self._loaded:
            raise ForwardError(f"{self.spec.name!r} is not loaded: load it before it runs")
        return self._module(images)

    def _check_input(self) -> None:
        """Let one image of the model's input size flow through the skeleton, which computes shapes only."""
        shape = (1, *self.spec.input.shape)
        try:
            with torch.inference_mode():
                self._module(torch.empty(shape, device="meta"))
        except (RuntimeError, ValueError) as exc:
            raise RepositoryError(
                f"{self.spec.architecture} does not take an input of {self.spec.input.channels} channels and"
                f" {self.spec.input.width} x {self.spec.input.height} pixels: correct the input of {self.spec.name!r}"
            ) from exc

    def _make_slots(self, file: TensorFile) -> Iterator[_Slot]:
        """Put an empty tensor on the device in the place of each meta tensor, and say what it is to hold."""
        owners = {
            f"{prefix}.{name}".lstrip("."): (store, name)
            for prefix, module in self._module.named_modules()
            for store in (module._parameters, module._buffers)  # noqa: SLF001  torch has no public way to replace them
            for name in store
        }
        for place, offset in zip(file.tensors, self._source.offsets, strict=True):
            store, name = owners[place.name]
            was = store[name]
            tensor = torch.empty(0, dtype=was.dtype, device=self._device.torch)
            store[name] = (
                torch.nn.Parameter(tensor, requires_grad=False) if isinstance(was, torch.nn.Parameter) else tensor
            )
            layout = torch.channels_last if _is_filter_last(file, was) else torch.contiguous_format
            stride = torch.empty(was.shape, device="meta", memory_format=layout).stride()
            yield _Slot(store[name], offset, was.shape, stride)


def _is_filter_last(file: TensorFile, tensor: torch.Tensor) -> bool:
    """Whether the file holds this tensor as (out, height, width, in)."""
    return file.channels_last and tensor.ndim == FILTER_DIMENSIONS


def _check_tensors(spec: ModelSpec, file: TensorFile, wanted: dict[str, torch.Tensor]) -> None:
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
        if _DTYPES[place.dtype] != tensor.dtype:
            raise LoadError(f"{file.path}: {name} has the type {place.dtype}, not {tensor.dtype}: convert the weights")
