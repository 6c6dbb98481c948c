"""A table that can be printed as Markdown, written as CSV and shown in a page.

A cell carries its raw value (seconds, bytes: what a program reads in the CSV) beside its text (milliseconds, MB: what a
person reads).
"""

import csv
import io
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dlreport.quantity import MISSING

Value = str | int | float | None
Tone = Literal["", "missing", "error", "doubt"]

_FORMULA = re.compile(r"^[=+\-@\t\r]")
_MARKDOWN = re.compile(r"([\\`*\[\]|~$]|(?<!\w)_|_(?!\w))")
"""Characters that Markdown would take for its own. An underscore inside a word is none."""


@dataclass(frozen=True, slots=True)
class Column:
    """`key` heads the CSV column and names the unit of the raw value; `heading` and `unit` are for people.

    `printed` false: only in the CSV, because the text of another column says it already.
    """

    key: str
    heading: str
    unit: str = ""
    numeric: bool = True
    printed: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure or name: the raw value and its text. `note`: what stands beside the text, smaller. `hover`: what a page says
    more when one points at it; another table must say it too, for those who cannot point.
    """

    value: Value
    text: str
    tone: Tone = ""
    note: str = ""
    hover: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """`group`: rows of one group stand together under the name in their first cell. `phase` colours the row's mark."""

    cells: tuple[Cell, ...]
    group: str = ""
    phase: str = ""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """`name` is the stem of its files."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def printed_columns(self) -> tuple[Column, ...]:
        """Those that people get to see."""
        return tuple(column for column in self.columns if column.printed)

    def printed_cells(self, row: Row) -> tuple[Cell, ...]:
        """The cells under them."""
        return tuple(cell for cell, column in zip(row.cells, self.columns, strict=True) if column.printed)

    @property
    def groups(self) -> list[tuple[Row, ...]]:
        """The rows that stand together; a row without a group stands alone."""
        numbered = enumerate(self.rows)
        runs = itertools.groupby(numbered, key=lambda pair: pair[1].group or pair[0])
        return [tuple(row for _, row in run) for _, run in runs]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"table {self.name}: {len(row.cells)} cells under {len(self.columns)} columns")


def name(text: str) -> Cell:
    """A cell with a name in it."""
    return Cell(text, text)


def missing(text: str = MISSING) -> Cell:
    """A cell for what is not known."""
    return Cell(None, text, "missing")


def to_csv(table: Table) -> str:
    """RFC 4180, raw values. Empty: not known. Text that a spreadsheet would run as a formula gets a leading quote."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.key for column in table.columns)
    writer.writerows([_inert(cell.value) for cell in row.cells] for row in table.rows)
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """A pipe table under its title, texts for people; columns are padded, so that it reads well as plain text too."""
    columns = table.printed_columns
    headings = [f"{column.heading} [{column.unit}]" if column.unit else column.heading for column in columns]
    lines = [[_markdown(f"{cell.text} {cell.note}".strip()) for cell in table.printed_cells(row)] for row in table.rows]
    widths = [max(3, *map(len, texts)) for texts in zip(headings, *lines, strict=True)]
    ruler = [
        "-" * (width - 1) + (":" if column.numeric else "-") for width, column in zip(widths, columns, strict=True)
    ]
    body = [_padded(line, widths, columns) for line in (headings, ruler, *lines)]
    return f"# {table.title}\n\n" + "\n".join(body) + "\n"


def to_text(table: Table) -> str:
    """For a terminal: columns side by side, texts for people; a group's name, and what the row above says too, once."""
    columns = table.printed_columns
    headings = [f"{column.heading}, {column.unit}" if column.unit else column.heading for column in columns]
    lines = [[_line(f"{cell.text} {cell.note}") for cell in table.printed_cells(row)] for row in table.rows]
    widths = [max(map(len, texts)) for texts in zip(headings, *lines, strict=True)]
    shown = [_without_repeats(line, above, columns) for line, above in zip(lines, [[], *lines], strict=False)]
    body = [
        "  ".join(
            text.rjust(width) if column.numeric else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in (headings, *shown)
    ]
    return "\n".join(body) + "\n"


def _line(text: str) -> str:
    """On one line, without what would steer a terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _without_repeats(line: list[str], above: list[str], columns: tuple[Column, ...]) -> list[str]:
    """Names at its start that are those of the line above are left out."""
    same = 0
    while same < len(above) and not columns[same].numeric and line[same] == above[same]:
        same += 1
    return ["" for _ in line[:same]] + line[same:]


def _padded(line: Iterable[str], widths: Iterable[int], columns: Iterable[Column]) -> str:
    cells = (
        text.rjust(width) if column.numeric else text.ljust(width)
        for text, width, column in zip(line, widths, columns, strict=True)
    )
    return f"| {' | '.join(cells)} |"


def _inert(value: Value) -> Value:
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value


def _markdown(text: str) -> str:
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", flat)
