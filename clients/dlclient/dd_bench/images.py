"""The images of a run, as what a call carries: JSON strings of base64, paths or URLs, or the bytes themselves."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dlclient.dd_bench.options import Images
from dlclient.errors import ClientError
from dlclient.samples import sample_images

SAMPLE_SIDE = 500
"""Longest side of the sample photographs, in pixels: the usual one of ImageNet, and what dlbench sends."""
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class Supply:
    """`parts`: what stands for each image in a call, in the list's order."""

    parts: tuple[bytes, ...]
    names: tuple[str, ...]

    def batch(self, number: int, batch_size: int) -> tuple[bytes, ...]:
        """The images of call `number`: those after the call before, from the beginning again at the list's end."""
        return tuple(self.parts[index] for index in self._indices(number, batch_size))

    def distinct(self, number: int, batch_size: int) -> int:
        """How many different images those are."""
        return len(set(self._indices(number, batch_size)))

    def _indices(self, number: int, batch_size: int) -> Sequence[int]:
        first = number * batch_size
        return [index % len(self.parts) for index in range(first, first + batch_size)]


def supply(images: Images) -> Supply:
    """Read the list, and the images where they are sent. Raises ClientError naming what is missing."""
    if images.remote:
        assert images.names_file is not None, "path and url have a list"
        names = _listed(images.names_file)
        return Supply(tuple(msgspec.json.encode(f"{images.remote}/{name}") for name in names), names)
    contents = _read(images.folder, images.names_file) if images.folder else sample_images((SAMPLE_SIDE,))
    if images.input == "raw":
        return Supply(tuple(contents.values()), tuple(contents))
    encoded = (b'"' + base64.b64encode(content) + b'"' for content in contents.values())
    return Supply(tuple(encoded), tuple(contents))


def _listed(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ClientError(
            f"the list of images {path} cannot be read ({exc}): write one name a line, or name another file with --list-bench-files"
        ) from exc
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ClientError(f"the list of images {path} is empty: write one name a line")
    return names


def _read(folder: Path, names_file: Path | None) -> dict[str, bytes]:
    try:
        if names_file:
            paths = [folder / name for name in _listed(names_file)]
        else:
            paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        contents = {path.name: path.read_bytes() for path in paths}
    except OSError as exc:
        raise ClientError(f"--images {folder}: {exc}; name a folder of images that can be read") from exc
    if not contents:
        raise ClientError(f"--images {folder} holds no image: put JPEG or PNG files into it")
    return contents
