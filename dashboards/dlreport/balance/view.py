"""A comparison of policies as its report sees it: its cells by scenario, and which policy won where."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec
from dlclient.balance_result import CELLS_FILE, Balance, Cell, read_balance, read_cells
from dlclient.errors import ResultError

from dlreport.errors import NotAResultError

_MOST = 1e18
"""No time is larger; what is would only make the drawing fail."""


@dataclass(frozen=True, slots=True, order=True)
class Scenario:
    """What the policies are compared in."""

    source: str
    workers: int
    residency: str
    mix: str
    load: float

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.workers} workers, {resident(self.residency)}, {self.mix} at {self.load:.0%}"


@dataclass(frozen=True, slots=True)
class Contest:
    """How `predicted` did in a scenario, by the p99."""

    scenario: Scenario
    predicted: Cell
    best: Cell
    """Of the other policies."""
    ratio: float
    """Best / predicted: above 1 `predicted` won."""
    outcome: Literal["better", "no difference", "worse"]
    """Of `predicted`: the first and the last only where the intervals of both are apart."""


@dataclass(frozen=True)
class BalanceView:
    """All that a report of one comparison is made from."""

    balance: Balance
    cells: tuple[Cell, ...]

    @property
    def policies(self) -> tuple[str, ...]:
        """That there are cells of, in the order in which they came."""
        return tuple(dict.fromkeys(cell.where.policy for cell in self.cells))

    @cached_property
    def good(self) -> tuple[Cell, ...]:
        """Those that have figures."""
        return tuple(cell for cell in self.cells if cell.figures is not None)

    @property
    def failed(self) -> tuple[Cell, ...]:
        """Those that have none."""
        return tuple(cell for cell in self.cells if cell.figures is None)

    @cached_property
    def judged(self) -> tuple[Cell, ...]:
        """Those that ran in processes, with the model beside them."""
        return tuple(cell for cell in self.good if cell.agreement is not None)

    @cached_property
    def scenarios(self) -> dict[Scenario, tuple[Cell, ...]]:
        """The good cells by what they were compared in."""
        found: dict[Scenario, list[Cell]] = {}
        for cell in self.good:
            found.setdefault(scenario_of(cell), []).append(cell)
        return {scenario: tuple(cells) for scenario, cells in found.items()}

    @cached_property
    def contests(self) -> tuple[Contest, ...]:
        """`predicted` against the best of the others, wherever both have a p99."""
        found = []
        for scenario, cells in self.scenarios.items():
            told = {cell.where.policy: cell for cell in cells if p99_s(cell) is not None}
            predicted = told.pop("predicted", None)
            if predicted is not None and told:
                best = min(told.values(), key=lambda cell: p99_s(cell) or math.inf)
                found.append(_contest(scenario, predicted, best))
        return tuple(found)


def _contest(scenario: Scenario, predicted: Cell, best: Cell) -> Contest:
    own, other = p99_s(predicted), p99_s(best)
    assert own is not None
    assert other is not None
    better = _end(predicted, 1, own) < _end(best, 0, other)
    worse = _end(predicted, 0, own) > _end(best, 1, other)
    return Contest(
        scenario,
        predicted,
        best,
        other / own if own else math.inf,
        "better" if better else "worse" if worse else "no difference",
    )


def _end(cell: Cell, end: int, otherwise: float) -> float:
    found = interval(cell, "p99")
    return otherwise if found is None else found[end]


def scenario_of(cell: Cell) -> Scenario:
    """What a cell is compared in."""
    where = cell.where
    return Scenario(where.source, where.workers, where.residency, where.mix, where.load)


def p99_s(cell: Cell) -> float | None:
    """None: too few requests to tell."""
    return cell.figures.latency_s.p99 if cell.figures else None


def interval(cell: Cell, figure: str) -> tuple[float, float] | None:
    """The 95 % confidence interval of a figure of its latency."""
    return (cell.figures.latency_s.intervals or {}).get(figure) if cell.figures else None


def resident(residency: str) -> str:
    """In words."""
    return {"all": "all models resident", "third": "room for a third of the models"}.get(residency, residency)


def load_balance(folder: Path) -> BalanceView:
    """Read run.json and cells.jsonl. Raises NotAResultError naming the file and what to do."""
    try:
        balance = read_balance(folder)
        cells = read_cells(folder) if (folder / CELLS_FILE).exists() else []
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    _check(cells, folder / CELLS_FILE)
    return BalanceView(balance, tuple(cells))


def _check(cells: Sequence[Cell], path: Path) -> None:
    """That they hold only numbers that somebody can have measured."""
    for cell in cells:
        if not (0 < cell.where.load < _MOST and cell.where.workers > 0):
            raise NotAResultError(f"{path}: cell {cell.id} has no load or no workers; restore the file or run it again")
        for number in _numbers(msgspec.to_builtins((cell.figures, cell.model, cell.agreement))):
            if not (math.isfinite(number) and abs(number) <= _MOST):
                raise NotAResultError(
                    f"{path}: cell {cell.id} holds {number:g}, which nothing measures; restore the file or run it again"
                )


def _numbers(value: object) -> list[float]:
    if isinstance(value, float | int):
        return [float(value)]
    if isinstance(value, dict):
        return [number for one in value.values() for number in _numbers(one)]
    return [number for one in value for number in _numbers(one)] if isinstance(value, list | tuple) else []
