"""Labelled images in a folder: which class of a model each of them shows.

Either folders of classes, as ImageNet's are kept: FOLDER/CLASS/IMAGE, where every file that is not hidden is an image. Or
a flat folder with val.txt or ground_truth.txt, one `name label` a line. A label (or a folder's name) is a class's index,
counted from 0; or a label of the model's own file, whole, or its synset (n01440764), or what follows that. A model whose
labels have no synsets still understands them where synset_words.txt or LOC_synset_mapping.txt lies beside the images:
Caffe's and ImageNet's own list, whose line i, from 0, is of class i.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dlclient.errors import PointError

TRUTH_FILES = ("val.txt", "ground_truth.txt")
SYNSET_FILES = ("synset_words.txt", "LOC_synset_mapping.txt")
_SYNSET = re.compile(r"n\d{8}")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image file, and the index of the class that it shows."""

    name: str
    """Its path below the folder."""
    path: Path
    truth: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """All labelled images of a folder, by name."""

    name: str
    """The folder's name, and the digest of the images' names and classes."""
    images: tuple[Labelled, ...]
    unlisted: int
    """Files of a flat folder that its list leaves out."""


def read_dataset(folder: Path, labels: Sequence[str], classes: int) -> Dataset:
    """The labelled images of a folder, for a model of so many classes and with these labels ("" or none: it has no name).

    Raises PointError for a folder, a list or a label that cannot be understood, saying which.
    """
    if not folder.is_dir():
        raise PointError(f"there is no folder of labelled images {folder}: check `dataset`", kind="error")
    known = _names(labels, _synsets(folder, classes))
    lists = [folder / name for name in TRUTH_FILES if (folder / name).is_file()]
    if len(lists) > 1:
        raise PointError(f"{folder} holds both {' and '.join(TRUTH_FILES)}: remove one of them", kind="error")
    pairs = list(_listed(lists[0])) if lists else list(_in_class_folders(folder))
    images = _resolved(folder, pairs, known, classes)
    unlisted = 0
    if lists:
        beside = {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}
        unlisted = len(beside - {image.name for image in images} - {*TRUTH_FILES, *SYNSET_FILES})
    digest = hashlib.sha256("".join(f"{image.name}\0{image.truth}\n" for image in images).encode()).hexdigest()
    return Dataset(f"{folder.resolve().name} sha256:{digest[:16]}", images, unlisted)


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """Name and label of each line; the name ends at the first space."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise PointError(f"{path} cannot be read ({exc}): it must be a text file in UTF-8", kind="error") from exc
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().partition(" ")
        if not label.strip():
            raise PointError(f"{path}, line {number}: {line[:60]!r} is no `name label`: correct it", kind="error")
        if name in seen:
            raise PointError(f"{path}, line {number}: {name} was listed before: remove one of both lines", kind="error")
        seen.add(name)
        yield name, label.strip()


def _in_class_folders(folder: Path) -> Iterator[tuple[str, str]]:
    for inner in _visible(folder):
        if inner.is_dir():
            yield from ((f"{inner.name}/{file.name}", inner.name) for file in _visible(inner) if file.is_file())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _resolved(
    folder: Path, pairs: Iterable[tuple[str, str]], known: Mapping[str, frozenset[int]], classes: int
) -> tuple[Labelled, ...]:
    images: list[Labelled] = []
    strange: dict[str, str] = {}
    for name, label in pairs:
        found = _index(label, known, classes)
        if isinstance(found, str):
            strange.setdefault(label, found)
        else:
            images.append(Labelled(name, folder / name, found))
    if strange:
        shown = "; ".join(f"{label!r} {why}" for label, why in list(strange.items())[:_SHOWN])
        more = f"; and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise PointError(
            f"{folder} has labels that the model does not know: {shown}{more}. Give indices from 0, the model's own labels, or"
            f" put {SYNSET_FILES[0]} beside the images",
            kind="error",
        )
    if not images:
        raise PointError(
            f"{folder} holds no labelled images: it needs folders of classes with images in them, or {' or '.join(TRUTH_FILES)}",
            kind="error",
        )
    if absent := [image.name for image in images if not image.path.is_file()]:
        raise PointError(
            f"{folder} lists {len(absent)} images that are not there, such as {absent[0]}: add them, or remove their lines",
            kind="error",
        )
    return tuple(sorted(images, key=lambda image: image.name))


def _index(label: str, known: Mapping[str, frozenset[int]], classes: int) -> int | str:
    """The class that a label names, or why it names none."""
    places = known.get(label, frozenset())
    if len(places) == 1:
        return next(iter(places))
    if places:
        return f"is the label of the classes {', '.join(map(str, sorted(places)))}"
    if label.isascii() and label.isdecimal():
        index = int(label[:12])
        return index if index < classes else f"is no index below {classes}"
    near = get_close_matches(label, known, n=1)
    return f"is unknown (near: {near[0]!r})" if near else "is unknown"


def _names(labels: Sequence[str], synsets: Sequence[str]) -> dict[str, frozenset[int]]:
    """Everything that a class may be called -> the classes that are called so."""
    found: dict[str, set[int]] = {}
    for index, label in enumerate(labels):
        first, _, rest = label.partition(" ")
        for name in (label, *((first, rest) if _SYNSET.fullmatch(first) else ())):
            if name:
                found.setdefault(name, set()).add(index)
    for index, synset in enumerate(synsets):
        found.setdefault(synset, set()).add(index)
    return {name: frozenset(places) for name, places in found.items()}


def _synsets(folder: Path, classes: int) -> list[str]:
    """Of the list beside the images, in its order; none where there is no list."""
    for path in (folder / name for name in SYNSET_FILES):
        if path.is_file():
            found = [line.partition(" ")[0] for line in path.read_text("utf-8").splitlines() if line.strip()]
            if len(found) != classes or not all(map(_SYNSET.fullmatch, found)):
                raise PointError(
                    f"{path} must hold a synset (n01440764) at the beginning of each line, one for each of the model's {classes}"
                    f" classes, and has {len(found)} lines: correct it, or remove it",
                    kind="error",
                )
            return found
    return []
