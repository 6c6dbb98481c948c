"""Where the parts of a report lie in its folder, how they are written, and which of them an earlier report has left there."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlreport.errors import OutputError
from dlreport.style import Picture
from dlreport.table import Table, to_csv, to_markdown

PAGE_FILE = "report.html"
PICTURES_FOLDER = "pictures"
TABLES_FOLDER = "tables"
LIST_FILE = "report.sha256"
"""What the report consists of, as `sha256sum` writes it."""
_LISTED = re.compile(rf"([0-9a-f]{{64}})  ((?:{PICTURES_FOLDER}|{TABLES_FOLDER})/[^/\0]+)")


@contextmanager
def report_folder(target: Path) -> Iterator[Path]:
    """Within it, the folder has room for pictures and tables; what cannot be written there raises OutputError."""
    try:
        for part in (PICTURES_FOLDER, TABLES_FOLDER):
            (target / part).mkdir(parents=True, exist_ok=True)
        yield target
    except OSError as exc:
        raise OutputError(
            f"cannot write the report into {target}: {exc.strerror or exc}; name a folder that can be written (-o DIR)"
        ) from exc


def complete(target: Path, page: str, tables: Iterable[Table | None], pictures: Iterable[Picture]) -> Path:
    """Write the page and the tables to the pictures, which are there; the answer is the page's path. Raises OSError.

    Pictures and tables that an earlier report has left there and this one does not have are deleted: those that LIST_FILE names,
    if they are still as they were written. Any other file is somebody's own.
    """
    parts = {PAGE_FILE: page.encode()}
    for table in tables:
        if table is not None:
            parts[f"{TABLES_FOLDER}/{table.name}.csv"] = to_csv(table).encode()
            parts[f"{TABLES_FOLDER}/{table.name}.md"] = to_markdown(table).encode()
    for name, content in parts.items():
        (target / name).write_bytes(content)
    drawn = [f"{PICTURES_FOLDER}/{picture.name}.{kind}" for picture in pictures for kind in ("png", "svg")]
    written = {name: _digest(target / name) for name in sorted([*parts, *drawn])}
    _delete_left(target, besides=written)
    (target / LIST_FILE).write_text(
        "".join(f"{digest}  {name}\n" for name, digest in written.items()), encoding="utf-8"
    )
    return target / PAGE_FILE


def _delete_left(target: Path, besides: Iterable[str]) -> None:
    """What the list of an earlier report names."""
    try:
        listed = (target / LIST_FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return
    kept = set(besides)
    for line in listed.splitlines():
        if (found := _LISTED.fullmatch(line)) and found[2] not in kept:
            path = target / found[2]
            if path.is_file() and _digest(path) == found[1]:
                path.unlink()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
