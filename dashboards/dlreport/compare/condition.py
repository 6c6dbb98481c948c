"""Conditions of a gate: `p99>+5%` fails where B's p99 is more than 5 % above A's. Pure functions."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlreport.compare.comparison import Compared, Comparison
from dlreport.compare.difference import FIGURES, RATE, Change

_UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_SHAPE = re.compile(r"(?P<figure>[^<>=]+)(?P<operator>[<>])(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?)(?P<unit>[a-z%]*)")
_EXAMPLE = "for example p99>+5%, mean>+2ms or images/s<-5%"


@dataclass(frozen=True, slots=True)
class Condition:
    """`limit`: a part of A's figure (0.05 is 5 %), or, where `absolute`, seconds; below 0 for `<`."""

    text: str
    figure: str
    above: bool
    limit: float
    absolute: bool = False

    def is_met(self, change: Change) -> bool:
        """Whether the measured change is beyond the limit and no noise: its interval holds no "no difference"."""
        if change.outcome not in {"slower", "faster"} or change.a is None or change.b is None or change.change is None:
            return False
        by = change.b - change.a if self.absolute else change.change
        return by > self.limit if self.above else by < self.limit


@dataclass(frozen=True, slots=True)
class Judged:
    """How a condition came out: the points that meet it, and at how many it could be judged."""

    condition: Condition
    met_at: tuple[tuple[Compared, Change], ...]
    judged: int
    untold: int
    """Points whose samples cannot tell."""
    doubtful: int
    """Points that were not judged, because they are invalid."""


def parse_condition(text: str) -> Condition:
    """Raises ValueError saying what is wrong and how it should look."""
    flat = "".join(text.split()).lower()
    if ">=" in flat or "<=" in flat:
        raise ValueError(f"{text!r}: write > or < alone, {_EXAMPLE}")
    found = _SHAPE.fullmatch(flat)
    if found is None:
        raise ValueError(f"{text!r} is no condition: figure, > or <, sign, number, unit are needed, {_EXAMPLE}")
    figure, above, unit = found["figure"], found["operator"] == ">", found["unit"]
    if figure not in FIGURES:
        raise ValueError(f"{text!r}: {figure!r} is not compared; name one of {', '.join(FIGURES)}")
    if not found["sign"]:
        raise ValueError(
            f"{text!r}: a limit of a change has a sign, {figure}>+{found['number']}{unit or '%'} or {figure}<-{found['number']}{unit or '%'}"
        )
    if above != (found["sign"] == "+"):
        raise ValueError(
            f"{text!r} is met where nothing changed; use > with + (grew by more) or < with - (fell by more)"
        )
    if unit != "%" and (figure == RATE or unit not in _UNITS_S):
        units = "%" if figure == RATE else f"%, {', '.join(_UNITS_S)}"
        raise ValueError(f"{text!r}: the limit needs a unit of {units}")
    number = float(found["number"]) * (1 if above else -1)
    return Condition(flat, figure, above, number * _UNITS_S.get(unit, 0.01), absolute=unit != "%")


def judge(comparison: Comparison, conditions: Iterable[Condition], at: Sequence[str] = ()) -> list[Judged]:
    """Each condition at every point; with `at` only at points whose name holds one of these texts."""
    points = [point for point in comparison.points if not at or any(text.lower() in point.name.lower() for text in at)]
    return [_judged(condition, points) for condition in conditions]


def _judged(condition: Condition, points: Sequence[Compared]) -> Judged:
    met, judged, untold, doubtful = [], 0, 0, 0
    for point in points:
        change = next((change for change in point.changes if change.figure == condition.figure), None)
        if change is None:
            continue
        if any("invalid" in doubt for doubt in point.doubts):
            doubtful += 1
        elif change.outcome == "cannot tell":
            untold += 1
        else:
            judged += 1
            if condition.is_met(change):
                met.append((point, change))
    return Judged(condition, tuple(met), judged, untold, doubtful)
