"""What a comparison of two results is: two sides, the points that both have, and all that stands between them."""

from collections.abc import Iterator
from dataclasses import dataclass

from dlclient.results import Reason

from dlreport.compare.difference import Change
from dlreport.table import Table


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two results. `letter`: A or B."""

    letter: str
    folder: str
    started: str
    """ISO 8601."""
    hardware: str
    software: str
    stamps: tuple[str, ...]
    """SIMULATED, INVALID, INTERRUPTED, UNFINISHED: why its figures are none to quote."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A point that both results have. `detail` tells it from others of its group (a phase; a batch size)."""

    group: str
    detail: str
    changes: tuple[Change, ...]
    doubts: tuple[str, ...] = ()
    """Why its figures cannot be relied on, in words."""
    phase: str = ""
    strong: bool = False

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"{self.group}, {self.detail}" if self.detail else self.group


@dataclass(frozen=True, slots=True)
class Lone:
    """A point that only one of them has figures of. `failed`: the other has it too, but it failed there."""

    letter: str
    """Of the result that has it."""
    name: str
    why: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a comparison's table, page and gate are made from."""

    kind: str
    a: Side
    b: Side
    points: tuple[Compared, ...]
    lone: tuple[Lone, ...]
    warnings: tuple[Reason, ...]
    others: Table | None = None
    """What a bench's points answer besides times."""

    @property
    def stamps(self) -> tuple[str, ...]:
        """Of both sides, each once."""
        return tuple(dict.fromkeys((*self.a.stamps, *self.b.stamps)))

    @property
    def changes(self) -> Iterator[tuple[Compared, Change]]:
        """Every figure of every point."""
        for point in self.points:
            for change in point.changes:
                yield point, change

    def count(self, *outcomes: str) -> int:
        """How many figures came out so."""
        return sum(change.outcome in outcomes for _, change in self.changes)
