"""What tells a model's file from a later one under the same path."""

from dataclasses import dataclass
from pathlib import Path

from dlmodels.errors import LoadError


@dataclass(frozen=True, slots=True)
class Stamp:
    """Of one file."""

    bytes: int
    modified_ns: int


def stamp(path: Path) -> Stamp:
    """Size and time of change. Raises LoadError if there is no such file."""
    try:
        status = path.stat()
    except OSError as exc:
        raise LoadError(f"the weights {path} cannot be read ({exc.strerror}): put the file back") from exc
    return Stamp(status.st_size, status.st_mtime_ns)


def check_stamp(path: Path, checked: Stamp) -> None:
    """Raises LoadError if the file is gone, or is not the one that was checked."""
    if stamp(path) != checked:
        raise LoadError(f"{path} has changed since it was checked: create its service again or restart")
