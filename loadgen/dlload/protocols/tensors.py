"""From an image file to a tensor of a model's input: decoded, resized and normalised by Pillow and numpy, beforehand.

EXIF orientation applied -> RGB (or grey) -> resized to the input's size, aspect not kept, bicubic -> channel order ->
``(x * scale - mean) / std`` for FP32; bytes as they are for UINT8. Pillow smooths where it makes pictures smaller, which
OpenCV's bicubic does not: so a tensor made here may differ from one that a server makes of the same file.
"""

import io
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from dlload.errors import ImagesError, OptionError, TargetError

Datatype = Literal["BYTES", "UINT8", "FP32"]
DATATYPES: tuple[Datatype, ...] = get_args(Datatype)
ANY = -1
"""A dimension that is what a request makes it."""
_CHANNELS = (1, 3)
_MAX_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Normalization:
    """How 0..255 becomes what a network was trained on. `mean` and `std` are in scaled units, per channel or one for all."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    is_bgr: bool = False

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.scale, *self.mean, *self.std))) or self.scale == 0 or 0 in self.std:
            raise OptionError("--scale, --mean, --std: finite numbers are needed, and no 0 for --scale and --std")
        for name, numbers in (("--mean", self.mean), ("--std", self.std)):
            if len(numbers) not in _CHANNELS:
                raise OptionError(f"{name}: {len(numbers)} numbers; give one for all channels or three")

    def check(self, channels: int, whose: str) -> None:
        """Raises OptionError where there are not as many numbers as channels."""
        for name, numbers in (("--mean", self.mean), ("--std", self.std)):
            if len(numbers) not in {1, channels}:
                raise OptionError(f"{name}: {len(numbers)} numbers, and {whose} has {channels} channel; give one")

    @property
    def changes_values(self) -> bool:
        """Whether it does anything that bytes cannot hold."""
        return self.scale != 1 or any(self.mean) or any(one != 1 for one in self.std)


@dataclass(frozen=True, slots=True)
class InputForm:
    """A model's one input."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    """As the model tells it; the first dimension is the number of images where there are so many (see `is_batched`)."""

    @property
    def is_batched(self) -> bool:
        """Whether the first dimension counts images."""
        return len(self.shape) == 4 or (self.datatype == "BYTES" and bool(self.shape))

    @property
    def is_channels_first(self) -> bool:
        """Planes, (channels, height, width), rather than pixels, (height, width, channels)."""
        return self._picture[2] not in _CHANNELS

    @property
    def size(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        first, second, third = self._picture
        return (second, third, first) if self.is_channels_first else (first, second, third)

    @property
    def _picture(self) -> tuple[int, ...]:
        return self.shape[-3:]

    def shape_of(self, images: int) -> tuple[int, ...]:
        """Of a request with that many images."""
        return (images, *(1 if side == ANY else side for side in self.shape[1:])) if self.is_batched else self.shape

    def check(self, images: int) -> None:
        """Raises OptionError where a request cannot have so many images."""
        most = self.shape[0] if self.is_batched else 1
        if most not in (ANY, images):
            raise OptionError(
                f"--batch-size {images}: input {self.name} of shape {list(self.shape)} takes {most} a request"
            )


def input_form(name: str, datatype: str, shape: Sequence[int], whose: str) -> InputForm:
    """An input that an image can be made into. `whose`: for messages. Raises TargetError."""
    said = f"{whose} has input {name} of type {datatype} and shape {list(shape)}"
    cure = "say what to send with --input-tensor NAME:TYPE:SHAPE, such as image:FP32:-1,3,224,224 or image:BYTES:-1"
    if datatype not in DATATYPES:
        raise TargetError(f"{said}: images are sent as {', '.join(DATATYPES)}; {cure}")
    form = InputForm(name, datatype, tuple(shape))
    if datatype == "BYTES":
        if len(shape) > 2 or any(side not in (ANY, 1) for side in shape[1:]):
            raise TargetError(f"{said}: not one file an image; {cure}")
        return form
    if len(shape) not in (3, 4) or not any(side in _CHANNELS for side in (shape[-3], shape[-1])):
        raise TargetError(f"{said}: neither NHWC nor NCHW with 1 or 3 channels; {cure}")
    height, width, _ = form.size
    if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
        raise TargetError(f"{said}: which size images should have is open; {cure}")
    return form


def read_input(text: str) -> InputForm:
    """Out of NAME:TYPE:SHAPE. Raises OptionError."""
    match = re.fullmatch(r"(.+):([A-Za-z0-9]+):(-?\d+(?:,-?\d+)*)", text)
    if not match:
        raise OptionError(
            f"--input-tensor {text}: write NAME:TYPE:SHAPE, such as image:FP32:-1,3,224,224 or image:BYTES:-1"
        )
    try:
        return input_form(match[1], match[2].upper(), [int(side) for side in match[3].split(",")], "--input-tensor")
    except TargetError as exc:
        raise OptionError(str(exc)) from exc


def element(image: bytes, form: InputForm, normalization: Normalization) -> bytes:
    """One image as it lies in binary tensor data. Raises ImagesError."""
    if form.datatype == "BYTES":
        return struct.pack("<I", len(image)) + image
    return tensor(image, form, normalization).tobytes()


def tensor(
    image: bytes, form: InputForm, normalization: Normalization
) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    """One image as UINT8 or little-endian FP32, C-contiguous, in the form's layout. Raises ImagesError."""
    height, width, channels = form.size
    try:
        with Image.open(io.BytesIO(image)) as opened:
            upright = ImageOps.exif_transpose(opened).convert("L" if channels == 1 else "RGB")
            resized = upright.resize((width, height), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise ImagesError(
            f"an image cannot be decoded ({exc}), as the model's input needs; delete or replace it"
        ) from exc
    pixels = np.asarray(resized, np.uint8).reshape(height, width, channels)
    if normalization.is_bgr:
        pixels = pixels[:, :, ::-1]
    if form.datatype == "FP32":
        scaled = pixels.astype("<f4") * np.float32(normalization.scale)
        values = (scaled - np.asarray(normalization.mean, "<f4")) / np.asarray(normalization.std, "<f4")
    else:
        values = pixels
    return np.ascontiguousarray(values.transpose(2, 0, 1) if form.is_channels_first else values)
