"""Real photographs to stream: those that scikit-image's wheel carries, JPEG-encoded at several sizes.

The same versions of scikit-image and Pillow give the same bytes. scikit-image is not imported, its files are just read.
"""

import io
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from dlclient.errors import ClientError

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
"""The photographs among scikit-image's files; its drawings, masks and pages of text are left out."""

SIZES = (320, 500, 800)
"""Longest sides in pixels. 500 is the usual one of ImageNet; a smaller original is enlarged, so that the cost of
decoding is that of the size."""

QUALITY = 90


def sample_names(sizes: Sequence[int] = SIZES) -> tuple[str, ...]:
    """The names that sample_images gives, in its order."""
    return tuple(_name(file, size) for file in PHOTOGRAPHS for size in sizes)


def sample_images(sizes: Sequence[int] = SIZES) -> dict[str, bytes]:
    """Name ("astronaut-500.jpg") -> JPEG bytes, in alphabetical order of the photographs. Grey ones become RGB.

    Takes about a second. Raises ClientError where scikit-image is not installed.
    """
    return dict(_encoded(sizes))


def write_samples(folder: Path, sizes: Sequence[int] = SIZES) -> list[Path]:
    """The same images as files in `folder`, which is made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, content in _encoded(sizes):
        path = folder / name
        path.write_bytes(content)
        paths.append(path)
    return paths


def _encoded(sizes: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ClientError("the sample photographs are in scikit-image, which is missing: pip install scikit-image")
    data = Path(spec.origin).parent / "data"
    for file in PHOTOGRAPHS:
        with Image.open(data / file) as original:
            photograph = original.convert("RGB")
        for size in sizes:
            scale = size / max(photograph.size)
            width, height = (max(1, round(side * scale)) for side in photograph.size)
            content = io.BytesIO()
            photograph.resize((width, height), Image.Resampling.BICUBIC).save(content, "JPEG", quality=QUALITY)
            yield _name(file, size), content.getvalue()


def _name(file: str, size: int) -> str:
    return f"{Path(file).stem}-{size}.jpg"
