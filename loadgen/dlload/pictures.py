"""The images of a run: the sample photographs or the files of a folder, read into memory before the clock starts."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dlclient.errors import ClientError
from dlclient.samples import sample_images, sample_names

from dlload.errors import ImagesError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
SAMPLE = "sample"


@dataclass(frozen=True, slots=True)
class Album:
    """The images that a plan may draw from, by name, not read yet."""

    source: str
    """"sample", or the folder's absolute path."""
    names: tuple[str, ...]

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Contents of the named images, in the album's order. Raises ImagesError."""
        wanted = set(names)
        if self.source == SAMPLE:
            try:
                return {name: content for name, content in sample_images().items() if name in wanted}
            except (ClientError, OSError) as exc:
                raise ImagesError(f"--images sample: {exc}; or name a folder of images with --images") from exc
        contents: dict[str, bytes] = {}
        for name in self.names:
            if name in wanted:
                contents[name] = _read(Path(self.source) / name)
        return contents


def open_album(source: str) -> Album:
    """`sample`, or a folder with its sub-folders in alphabetical order. Raises ImagesError."""
    if source == SAMPLE:
        return Album(SAMPLE, sample_names())
    try:
        folder = Path(source).expanduser()
        found = folder.is_dir()
    except (OSError, RuntimeError) as exc:  # too long a name, no permission; ~somebody who has no home here
        raise ImagesError(f"--images {source}: {exc}; name a folder with images in it") from exc
    if not found:
        raise ImagesError(f"--images {source}: no such folder; name one with images in it, or use --images sample")
    try:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as exc:
        raise ImagesError(
            f"--images {source}: cannot list {exc.filename}: {exc.strerror}; see its permissions"
        ) from exc
    if not paths:
        raise ImagesError(f"--images {source}: no image in it; {', '.join(sorted(SUFFIXES))} files are looked for")
    return Album(str(folder.resolve()), tuple(path.relative_to(folder).as_posix() for path in paths))


def digest(contents: Mapping[str, bytes]) -> str:
    """SHA-256 of all names and contents in order: equal means the same pictures."""
    sha256 = hashlib.sha256()
    for name, content in contents.items():
        sha256.update(f"{name}\0{len(content)}\0".encode())
        sha256.update(content)
    return sha256.hexdigest()


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ImagesError(f"cannot read {path}: {exc.strerror}; see its permissions or delete it") from exc
    if not content:
        raise ImagesError(f"{path} is empty; delete it or put the image back")
    return content
