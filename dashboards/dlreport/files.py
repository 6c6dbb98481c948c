"""Where the parts of a report lie in its folder, and how they are written."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlreport.errors import OutputError
from dlreport.table import Table, to_csv, to_markdown

PAGE_FILE = "report.html"
PICTURES_FOLDER = "pictures"
TABLES_FOLDER = "tables"


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


def write_tables(target: Path, tables: Iterable[Table | None]) -> None:
    """Each that there is, as CSV and as Markdown. Raises OSError."""
    for table in tables:
        if table is not None:
            (target / TABLES_FOLDER / f"{table.name}.csv").write_text(to_csv(table), encoding="utf-8")
            (target / TABLES_FOLDER / f"{table.name}.md").write_text(to_markdown(table), encoding="utf-8")


def write_page(target: Path, source: str) -> Path:
    """The page; the answer is its path. Raises OSError."""
    page = target / PAGE_FILE
    page.write_text(source, encoding="utf-8")
    return page
