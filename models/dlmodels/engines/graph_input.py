"""How a graph wants its pictures and which of its outputs are the class scores: pure, the same for every framework."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlmodels.errors import ForwardError, LoadError, SettingError
from dlmodels.spec import ModelSpec

_FLOATS = ("float32", "float16")
_IMAGE_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a graph."""

    name: str
    dtype: str
    """As numpy calls it ("float32"); what numpy has no name for, as the file has it."""
    shape: tuple[int | None, ...] | None
    """None in place of a size that the graph leaves open; None in place of all of it where nothing is said."""


@dataclass(frozen=True, slots=True)
class GraphInput:
    """The one input of a classifier."""

    name: str
    batch: int | None
    """The only batch that the graph takes; None: any."""
    channels_last: bool
    """(n, height, width, channels), as TensorFlow's graphs have it."""
    dtype: str

    def arrange(self, images: NDArray[np.float32]) -> NDArray[np.generic]:
        """float32 (n, channels, height, width) as the graph wants it, its batch filled up with black pictures.

        The caller keeps only the first n answers. Raises ForwardError where n is more than the graph's batch.
        """
        count = len(images)
        if self.batch is not None and count != self.batch:
            if count > self.batch:
                raise ForwardError(
                    f"the graph takes batches of {self.batch}, not of {count}: send fewer images at once"
                )
            missing = np.zeros((self.batch - count, *images.shape[1:]), np.float32)
            images = np.concatenate([images, missing])
        arranged = images.transpose(0, 2, 3, 1) if self.channels_last else images
        return np.ascontiguousarray(arranged, self.dtype)


def image_input(inputs: Sequence[TensorInfo], spec: ModelSpec, file: str) -> GraphInput:
    """The graph's one input, checked against the pictures that the model is to get. Raises LoadError with the cure."""
    if len(inputs) != 1:
        names = ", ".join(repr(tensor.name) for tensor in inputs) or "none"
        raise LoadError(f"{file} has {len(inputs)} inputs ({names}): only networks of one picture can be served")
    tensor = inputs[0]
    if tensor.dtype not in _FLOATS:
        raise LoadError(
            f"{file} takes {tensor.dtype}, and pictures come as float32 or float16: export the network with a float input"
        )
    shape = tensor.shape or (None,) * _IMAGE_DIMENSIONS
    channels, height, width = spec.input.shape
    if len(shape) == _IMAGE_DIMENSIONS and shape[0] != 0:
        for wanted, channels_last in (((channels, height, width), False), ((height, width, channels), True)):
            if all(have in (None, want) for have, want in zip(shape[1:], wanted, strict=True)):
                return GraphInput(tensor.name, shape[0], channels_last, tensor.dtype)
    raise LoadError(
        f"{file} takes pictures of shape {_readable(shape)}, and {spec.name!r} is described with {channels} channels of"
        f" {height} x {width}: correct width, height or bw of its input"
    )


def scores_output(outputs: Sequence[TensorInfo], spec: ModelSpec, wanted: str, file: str) -> str:
    """The name of the output with the class scores: the only one, or the only one of `classes` numbers a picture.

    `wanted`: the name that the model's settings give, "" for none. Raises LoadError or SettingError with the cure.
    """
    names = [tensor.name for tensor in outputs]
    listing = ", ".join(f"{tensor.name!r} {_readable(tensor.shape)}" for tensor in outputs) or "none"
    if wanted:
        if wanted not in names:
            raise SettingError(f"{file} has no output {wanted!r}: correct `output`; there are {listing}")
        return wanted
    if len(outputs) == 1:
        return names[0]
    fitting = [tensor.name for tensor in outputs if _columns(tensor) == spec.classes]
    if len(fitting) == 1:
        return fitting[0]
    raise LoadError(
        f"{file} has {len(fitting)} outputs of {spec.classes} classes, where one is expected: name it as `output` in the"
        f" model's parameters, or correct the number of classes (nclasses). Its outputs: {listing}"
    )


def _columns(tensor: TensorInfo) -> int | None:
    """How many numbers a picture gets; None where the graph does not tell."""
    known = [size for size in (tensor.shape or ())[1:] if size is not None]
    if tensor.shape is None or len(known) + 1 != len(tensor.shape):
        return None
    return math.prod(known)


def _readable(shape: tuple[int | None, ...] | None) -> str:
    """(?, 3, 224, 224)."""
    return "of any shape" if shape is None else f"({', '.join('?' if size is None else str(size) for size in shape)})"
