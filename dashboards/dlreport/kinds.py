"""What kind of result a folder holds, and whether several are of one kind and version."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dlreport.errors import NotAResultError

RUN_FILE = "run.json"
SEARCH_FILE = "search.json"
SEARCH = "search"


class _Head(msgspec.Struct):
    kind: str = ""
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """`kind` in run.json, "search" where there is a search.json; and the schema that run.json names, "" of a search."""

    kind: str
    schema: str


def kind_of(folder: Path, known: Collection[str]) -> Kind:
    """What kind of result a folder holds. Raises NotAResultError where it holds none, or none of the known kinds."""
    try:
        what = "" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
    except OSError as exc:  # too long a name, or no permission to look
        raise NotAResultError(f"cannot look at {folder}: {exc.strerror}; name the folder of a result") from exc
    if what:
        raise NotAResultError(f"{folder} {what}; name the folder that the load tester wrote (it holds {RUN_FILE})")
    path = folder / RUN_FILE
    if not path.exists() and (folder / SEARCH_FILE).exists():
        return Kind(SEARCH, "")
    head = _head(path, folder)
    if head.kind not in known:
        raise NotAResultError(
            f"{path} says its kind is {head.kind!r}, this dlreport knows: {', '.join(known)}; use the version that wrote it"
        )
    return Kind(head.kind, head.schema)


def same_kind(folders: Sequence[Path], known: Collection[str]) -> str:
    """The kind of all these results. Raises NotAResultError naming the first folder that differs in kind or version."""
    kinds = [kind_of(folder, known) for folder in folders]
    first = kinds[0]
    for folder, kind in zip(folders[1:], kinds[1:], strict=True):
        if kind.kind != first.kind:
            raise NotAResultError(
                f"{folders[0]} is a {first.kind}, {folder} is a {kind.kind}; name results of one kind"
            )
        if kind.schema != first.schema:
            raise NotAResultError(
                f"mixed versions of results: {folders[0]} has schema {first.schema!r}, {folder} has {kind.schema!r};"
                " measure again, with one version of dlserve, the one whose schema is older"
            )
    return first.kind


def _head(path: Path, folder: Path) -> _Head:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Head)
    except FileNotFoundError as exc:
        raise NotAResultError(
            f"{folder} is no result folder: it has no {RUN_FILE}; name the folder that the load tester wrote"
        ) from exc
    except OSError as exc:
        raise NotAResultError(f"cannot read {path}: {exc.strerror}; make it readable") from exc
    except msgspec.DecodeError as exc:
        raise NotAResultError(f"{path} is damaged: {exc}; restore it or measure again") from exc
