"""What is wrong with a suite: all of it at once, each with its place and its cure."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from dlclient.errors import SuiteError

_HEADER = re.compile(r"\s*\[\[?\s*([\w.-]+)\s*\]\]?")
_KEY = re.compile(r"\s*([\w.-]+)\s*=")


@dataclass(frozen=True, slots=True)
class Where:
    """A key of a suite: `table` "" for the suite's own, `number` of the [[matrix]], from 1."""

    key: str = ""
    table: str = ""
    number: int = 0

    def __str__(self) -> str:
        table = f"{self.table} {self.number}" if self.number else self.table
        return ", ".join(part for part in (table, self.key) if part)


@dataclass(slots=True)
class Source:
    """Where a suite was read from, and what was wrong there so far."""

    name: str
    """Of the file."""
    text: str = ""
    """Its content: tells lines."""
    changed: dict[Where, str] = field(default_factory=dict)
    """What was not taken from the file -> the option that said it."""
    problems: list[str] = field(default_factory=list)

    def report(self, where: Where, text: str) -> None:
        """Note a problem; `text` says what is wrong and what to do."""
        if option := self.changed.get(where):
            place = option
        elif line := line_of(self.text, where):
            place = f"{self.name}:{line}: {where}" if str(where) else f"{self.name}:{line}"
        else:
            place = f"{self.name}: {where}" if str(where) else self.name
        problem = f"{place}: {text}"
        if problem not in self.problems:
            self.problems.append(problem)

    def check(self) -> None:
        """Raises SuiteError with every problem, where there is one."""
        if not self.problems:
            return
        many = "an error" if len(self.problems) == 1 else f"{len(self.problems)} errors"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        raise SuiteError(f"{self.name} has {many}, and nothing was run:{lines}")


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that names the known word that is meant; "" where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown(what: str, word: str, known: Sequence[str]) -> str:
    """The sentence about a word that is none of those that there are."""
    return f"there is no {what} {word!r}.{nearest(word, known)} There are: {', '.join(known) or 'none'}"


def line_of(text: str, where: Where) -> int | None:
    """The line of a key; else of the table that it would be in; None where neither can be told."""
    lines: dict[Where, int] = {}
    for line, place in _places(text):
        lines.setdefault(place, line)
    key = where.key
    while key and (place := Where(key, where.table, where.number)) not in lines:
        key = key.rpartition(".")[0]
    return lines.get(Where(key, where.table, where.number))


def _places(text: str) -> Iterator[tuple[int, Where]]:
    """What each line of a TOML file begins: a table, or a key."""
    table, within, matrices = "", "", 0
    for line, content in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(content):
            table, _, within = header[1].partition(".")
            matrices += header[1] == "matrix"
            yield line, Where(within, table, matrices if table == "matrix" else 0)
        elif key := _KEY.match(content):
            name = f"{within}.{key[1]}" if within else key[1]
            yield line, Where(name, table, matrices if table == "matrix" else 0)
