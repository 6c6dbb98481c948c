"""From the bytes of an image file to a network's input: the one place where decoding and preprocessing are defined.

What is chosen, beyond InputSpec: EXIF orientation is applied as OpenCV does (JPEG, PNG and TIFF; not WebP). Of an animated
or multi-page file the first picture counts. 16 bits per sample become 8. Grey, palette and CMYK pictures become three
channels; transparency is dropped. A broken file is an ImageError, never a partly grey picture. See image_files for formats.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from dlmodels.errors import SettingError
from dlmodels.image_files import Data, broken, inspect

Interpolation = Literal["nearest", "linear", "cubic", "area", "lanczos4"]

MAX_SIDE = 8192
DEFAULT_MAX_PIXELS = 1 << 26
"""About 67 million: any camera's picture, decoded into 200 MB."""

_INTERPOLATIONS = MappingProxyType(
    {
        "nearest": cv2.INTER_NEAREST,
        "linear": cv2.INTER_LINEAR,
        "cubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
        "lanczos4": cv2.INTER_LANCZOS4,
    }
)
_LOG_LEVEL_SILENT = 0

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes a network's input, in DeepDetect's terms and order.

    decode to 8 bit, grey if `bw` -> resize to width x height (plain, aspect not kept) -> channel order -> float32 ->
    ``x * scale`` -> ``- mean`` -> ``/ std``, planes CHW. `mean` and `std` are in scaled units, one number per channel or
    one for all.
    """

    width: int = 224
    height: int = 224
    bw: bool = False
    """One grey channel in place of three."""
    rgb: bool = False
    """Channel order RGB; false means BGR, DeepDetect's default."""
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interp: Interpolation = "cubic"
    histogram_equalization: bool = False
    """Of the grey channel, or of a colour picture's luma."""

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.bw else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


def validate(spec: InputSpec) -> None:
    """Raise SettingError, naming the parameter and what it may be, unless images can be made into this input."""
    for side in ("width", "height"):
        value = getattr(spec, side)
        if value == -1:
            raise SettingError(f"{side} -1 (keep the image's own) is not supported; give the network's input {side}")
        if not 1 <= value <= MAX_SIDE:
            raise SettingError(f"{side} is {value}; it must be 1 to {MAX_SIDE} pixels")
    for name in ("mean", "std"):
        numbers = getattr(spec, name)
        if len(numbers) not in (0, 1, spec.channels):
            raise SettingError(f"{name} has {len(numbers)} numbers; give one for all channels or {spec.channels}")
        if not all(map(math.isfinite, numbers)):
            raise SettingError(f"{name} is {list(numbers)}; its numbers must be finite")
    if 0 in spec.std:
        raise SettingError("std holds a 0, by which nothing can be divided; give the deviation of each channel")
    if not math.isfinite(spec.scale) or spec.scale == 0:
        raise SettingError(f"scale is {spec.scale}; it must be a finite number other than 0 (1/255 maps bytes to 0..1)")
    if spec.interp not in _INTERPOLATIONS:
        raise SettingError(f"interp is {spec.interp!r}; it must be one of {', '.join(_INTERPOLATIONS)}")


def decode(data: Data, spec: InputSpec, max_pixels: int = DEFAULT_MAX_PIXELS) -> Pixels:
    """The picture as uint8 (height, width, channels) at the network's size and in its channel order.

    Raises ImageError for what is no whole image of a supported format or has more than `max_pixels`. `spec` is valid.
    """
    cv2.setLogLevel(_LOG_LEVEL_SILENT)  # what is wrong with a client's file is answered, not logged; 0.1 us
    file = inspect(data, max_pixels)
    flag = cv2.IMREAD_GRAYSCALE if spec.bw else cv2.IMREAD_COLOR_RGB if spec.rgb else cv2.IMREAD_COLOR_BGR
    try:
        image = cv2.imdecode(np.frombuffer(file.data, np.uint8), flag)
    except cv2.error as exc:
        raise broken(file.format) from exc
    if image is None or sorted(image.shape[:2]) != sorted((file.height, file.width)):
        raise broken(file.format)
    return fit(np.asarray(image, np.uint8), spec)


def fit(image: Pixels, spec: InputSpec) -> Pixels:
    """What follows decoding: uint8 pixels of any size, in the network's channel order -> (height, width, channels) of it."""
    if image.shape[:2] != (spec.height, spec.width):
        image = np.asarray(
            cv2.resize(image, (spec.width, spec.height), interpolation=_INTERPOLATIONS[spec.interp]), np.uint8
        )
    if spec.histogram_equalization:
        image = _equalize(image, spec)
    return image.reshape(spec.height, spec.width, spec.channels)


def normalize(image: Pixels, spec: InputSpec) -> Planes:
    """uint8 (height, width, channels) from `decode` -> float32 (channels, height, width)."""
    out = np.empty(spec.shape, np.float32)
    normalize_into(image, spec, out)
    return out


def normalize_into(image: Pixels, spec: InputSpec, out: Planes) -> None:
    """The same into `out`: float32, C-contiguous, (channels, height, width), such as one slot of a batch."""
    if out.dtype != np.float32 or out.shape != spec.shape or not out.flags.c_contiguous:
        raise ValueError(f"out must be C-contiguous float32 of shape {spec.shape}, not {out.dtype} {out.shape}")
    if image.shape != (spec.height, spec.width, spec.channels):
        raise ValueError(f"image must have shape {(spec.height, spec.width, spec.channels)}, not {image.shape}")
    for channel, table in enumerate(_tables(spec.scale, spec.mean, spec.std, spec.channels)):
        cv2.LUT(cv2.extractChannel(image, channel), table, out[channel])


def stack(images: Sequence[Pixels], spec: InputSpec) -> Planes:
    """Pictures from `decode` -> a batch, float32 (n, channels, height, width)."""
    batch = np.empty((len(images), *spec.shape), np.float32)
    for image, slot in zip(images, batch, strict=True):
        normalize_into(image, spec, slot)
    return batch


@lru_cache(maxsize=256)
def _tables(scale: float, mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> tuple[Planes, ...]:
    """Per channel what each of the 256 byte values becomes: exact, and as fast as any vectorized arithmetic."""
    means, stds = _per_channel(mean, channels, 0.0), _per_channel(std, channels, 1.0)
    values = np.arange(256) * scale
    return tuple(((values - m) / s).astype(np.float32) for m, s in zip(means, stds, strict=True))


def _per_channel(numbers: tuple[float, ...], channels: int, default: float) -> tuple[float, ...]:
    return numbers if len(numbers) == channels else (numbers or (default,)) * channels


def _equalize(image: Pixels, spec: InputSpec) -> Pixels:
    if spec.bw:
        return np.asarray(cv2.equalizeHist(image), np.uint8)
    to_luma, back = (
        (cv2.COLOR_RGB2YCrCb, cv2.COLOR_YCrCb2RGB) if spec.rgb else (cv2.COLOR_BGR2YCrCb, cv2.COLOR_YCrCb2BGR)
    )
    luma = cv2.cvtColor(image, to_luma)
    cv2.insertChannel(cv2.equalizeHist(cv2.extractChannel(luma, 0)), luma, 0)
    return np.asarray(cv2.cvtColor(luma, back), np.uint8)
