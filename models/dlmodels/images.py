"""From the bytes of an image file to a network's input: the one place where decoding and preprocessing are defined."""

from typing import Literal

import msgspec

Interpolation = Literal["nearest", "linear", "cubic", "area", "lanczos4"]


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an image becomes a network's input, in DeepDetect's terms and order.

    decode to 8 bit -> resize to width x height (plain, aspect not kept) -> grey or channel order -> float32 ->
    ``x * scale`` -> ``- mean`` -> ``/ std``, planes CHW. `mean` and `std` are in scaled units, one number per channel.
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

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.bw else 3
