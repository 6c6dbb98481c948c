"""A model's labels: corresp.txt, one `<index> <label ...>` a line, as DeepDetect has it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dlmodels.errors import RepositoryError


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """The label of each class; "" for a class that the file leaves out. Raises RepositoryError naming the bad line."""
    labels = [""] * classes
    for number, index, label in _entries(path):
        if index >= classes:
            raise RepositoryError(
                f"{path}, line {number}: there is no class {index} in a model of {classes} classes:"
                " correct the line or the number of classes"
            )
        labels[index] = label
    return tuple(labels)


def count_labels(path: Path) -> int:
    """How many classes the file speaks of: its highest index and one. Raises RepositoryError."""
    count = max((index + 1 for _, index, _ in _entries(path)), default=0)
    if count == 0:
        raise RepositoryError(f"{path} holds no label: write a line `<index> <label>` for each class")
    return count


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """The inverse of `read_labels`."""
    path.write_text("".join(f"{index} {label}\n" for index, label in enumerate(labels)), "utf-8")


def _entries(path: Path) -> Iterator[tuple[int, int, str]]:
    """Line number, class index and label of each line that is not blank."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise RepositoryError(f"the labels {path} cannot be read ({exc}): it must be a text file in UTF-8") from exc
    seen: dict[int, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        first, _, label = line.strip("\r").partition(" ")
        if not (first.isascii() and first.isdigit()):
            raise RepositoryError(f"{path}, line {number}: {line[:60]!r} does not begin with a class index and a space")
        index = int(first[:12])
        if index in seen:
            raise RepositoryError(f"{path}, line {number}: class {index} has a label already, in line {seen[index]}")
        seen[index] = number
        yield number, index, label
