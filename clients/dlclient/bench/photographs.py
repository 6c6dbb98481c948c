"""The images that a point infers: those of a folder, or the sample photographs."""

from dataclasses import dataclass
from pathlib import Path

from dlclient.errors import PointError
from dlclient.samples import sample_images

SIZE = 500
"""Longest side of the sample photographs, in pixels: the usual one of ImageNet."""

MOST = 256
"""Of a folder, the first so many are taken: more would only fill the memory."""

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class Photograph:
    """An image file: its bytes as they are, and where it lies ("": nowhere)."""

    name: str
    content: bytes
    path: str = ""


def photographs(folder: str) -> list[Photograph]:
    """The images directly in the folder, by name; "" the samples. Raises PointError where there are none."""
    if not folder:
        return [Photograph(name, content) for name, content in sample_images((SIZE,)).items()]
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in _SUFFIXES)[:MOST]
        found = [Photograph(path.name, path.read_bytes(), str(path.absolute())) for path in paths]
    except OSError as exc:
        raise PointError(
            f"the folder of images {folder} cannot be read ({exc.strerror}): check `images`", kind="error"
        ) from exc
    if not found:
        raise PointError(
            f"the folder of images {folder} has none ({', '.join(sorted(_SUFFIXES))}): name another, or leave `images` out",
            kind="error",
        )
    return found
