"""The photographs on which two formats of a model must agree: some of those that scikit-image's wheel carries."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dlmodels.errors import ConversionError
from dlmodels.images import InputSpec, Planes, decode, stack

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg")
"""Colour pictures of different things, the largest of 1000 pixels."""


def photographs(spec: InputSpec, names: Sequence[str] = PHOTOGRAPHS) -> Planes:
    """A batch of them, preprocessed: float32 (n, channels, height, width). Raises ConversionError without scikit-image.

    The package is not imported, its files are just read.
    """
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise ConversionError("the sample photographs are in scikit-image, which is missing: pip install scikit-image")
    folder = Path(found.origin).parent / "data"
    return stack([decode((folder / name).read_bytes(), spec) for name in names], spec)
