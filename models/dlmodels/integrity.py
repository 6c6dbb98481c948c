"""Whether a model's files are the ones that it speaks of: inside its folder, of the right size and content."""

import hashlib
from pathlib import Path, PurePosixPath

from dlmodels.errors import LoadError, RepositoryError
from dlmodels.spec import MODEL_FILE, FileFacts, ModelSpec


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a model names. Raises RepositoryError if it is absolute or leads out of the folder."""
    path = folder / name
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise RepositoryError(
            f"{folder / MODEL_FILE} names the file {name!r}: give a path inside the folder, without '..'"
        )
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RepositoryError(
            f"{path} is a symbolic link that leads out of the model's folder: put the file itself there"
        )
    return path


def file_facts(path: Path) -> FileFacts:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileFacts(digest, file.tell())


def verify_files(spec: ModelSpec) -> None:
    """Read every file that the model names, and compare. Raises LoadError naming the file and the cure."""
    for name, facts in spec.files.items():
        path = inside(Path(spec.folder), name)
        try:
            found = file_facts(path) if facts.sha256 else FileFacts("", path.stat().st_size)
        except OSError as exc:
            raise LoadError(
                f"{path} cannot be read ({exc.strerror}): put it back, or build {spec.name!r} again"
            ) from exc
        if found.bytes != facts.bytes or found.sha256 != facts.sha256.lower():
            what = f"has {found.bytes} bytes in place of {facts.bytes}"
            if found.bytes == facts.bytes:
                what = f"has another content than its sha256 in {MODEL_FILE} says"
            raise LoadError(f"{path} {what}: it was damaged or replaced; copy it again, or build {spec.name!r} again")
