"""A service level objective, `--slo "p99<50ms,errors<0.1%"`: conditions read from text. What they mean: dlload.standing. Pure."""

import re
from dataclasses import dataclass
from typing import Literal

from dlload.errors import OptionError

Clock = Literal["response", "service", "ttfb"]
Metric = Literal["percentile", "mean", "errors", "rate"]
Comparison = Literal["<", "<=", ">", ">="]

CLOCKS: tuple[Clock, ...] = ("response", "service", "ttfb")
"""response: from when the request was due; service: from when it was sent; ttfb: from when it was due to the first byte."""

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_CONDITION = re.compile(r"(?:(\w+)\s*:)?\s*([a-z]+[\d.]*)\s*(<=|>=|<|>)\s*([\d.]+(?:e-?\d+)?)\s*(%|/s|[a-z]*)")
VALID = (
    "write conditions such as p99<50ms, mean<=12ms, errors<0.1%, rate>=95% (of what was offered) or rate>=200/s, with commas"
    " between; service: or ttfb: before a latency takes it from the send, or to the first byte"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One of them. `bound` is in seconds for a latency, a share (0.001 for 0.1 %) for errors, a share or 1/s for a rate."""

    text: str
    metric: Metric
    comparison: Comparison
    bound: float
    clock: Clock = "response"
    fraction: float = 0.0
    """Of a percentile: 0.99 for the p99."""
    absolute: bool = False
    """Of a rate: in answers per second, not as a share of what was offered."""

    def holds(self, value: float) -> bool:
        """Whether a measured value meets it."""
        match self.comparison:
            case "<":
                return value < self.bound
            case "<=":
                return value <= self.bound
            case ">":
                return value > self.bound
            case _:
                return value >= self.bound


def parse_slo(text: str) -> tuple[Condition, ...]:
    """The conditions of `--slo`, in their order. Raises OptionError, with what would be valid."""
    conditions = tuple(_condition(part.strip(), text) for part in text.split(","))
    seen: set[tuple[object, ...]] = set()
    for condition in conditions:
        key = (condition.metric, condition.clock, condition.fraction, condition.absolute)
        if key in seen:
            raise OptionError(
                f"--slo {text}: {condition.text}: there is another condition on the same figure; give one"
            )
        seen.add(key)
    return conditions


def _condition(part: str, whole: str) -> Condition:
    found = _CONDITION.fullmatch(part.lower())
    if not found:
        raise OptionError(f"--slo {whole}: {part!r} is no condition; {VALID}")
    prefix, name, comparison, number, unit = found.groups()
    try:
        value = float(number)
    except ValueError:
        raise OptionError(f"--slo {whole}: {number!r} in {part!r} is no number; {VALID}") from None
    if prefix and prefix not in CLOCKS:
        raise OptionError(f"--slo {whole}: {prefix!r} is no clock; the clocks are {', '.join(CLOCKS)}")
    if name in {"errors", "rate"}:
        if prefix:
            raise OptionError(f"--slo {whole}: {name} has no clock; write it without {prefix}:")
        return _share(part, whole, name, comparison, value, unit)
    return _latency(part, whole, prefix or "response", name, comparison, value, unit)


def _share(part: str, whole: str, name: str, comparison: str, value: float, unit: str) -> Condition:
    wanted = ("<", "<=") if name == "errors" else (">", ">=")
    if comparison not in wanted:
        raise OptionError(f"--slo {whole}: {part!r} can only be {' or '.join(name + sign for sign in wanted)}")
    units = ("%",) if name == "errors" else ("%", "/s")
    if unit not in units:
        raise OptionError(f"--slo {whole}: {part!r} needs its unit: {name}{comparison}{value:g}{' or '.join(units)}")
    if unit == "%" and value > 100:
        raise OptionError(f"--slo {whole}: {part!r} is more than all; a share is at most 100%")
    if (name == "errors" and comparison == "<" and value == 0) or (unit == "%" and comparison == ">" and value == 100):
        raise OptionError(f"--slo {whole}: nothing can meet {part!r}; write {name}{comparison}={value:g}{unit}")
    bound = value / 100 if unit == "%" else value
    metric: Metric = "errors" if name == "errors" else "rate"
    return Condition(part, metric, _comparison(comparison), bound, absolute=unit == "/s")


def _latency(part: str, whole: str, clock: str, name: str, comparison: str, value: float, unit: str) -> Condition:
    if name != "mean" and not re.fullmatch(r"p\d+(\.\d+)?", name):
        raise OptionError(f"--slo {whole}: {name!r} is no figure; {VALID}")
    if comparison not in {"<", "<="}:
        raise OptionError(f"--slo {whole}: {part!r}: a latency is bounded from above; write {name}<...")
    if unit not in _UNITS_S:
        raise OptionError(
            f"--slo {whole}: {part!r} needs its unit, one of {', '.join(_UNITS_S)}, as in {name}<{value:g}ms"
        )
    if value <= 0:
        raise OptionError(f"--slo {whole}: {part!r}: no answer takes less than no time; give a bound above 0")
    chosen = next(known for known in CLOCKS if known == clock)
    bound = value * _UNITS_S[unit]
    if name == "mean":
        return Condition(part, "mean", _comparison(comparison), bound, chosen)
    percent = float(name[1:])
    if not 0 < percent < 100:
        raise OptionError(
            f"--slo {whole}: {name} is no percentile; they are above p0 and below p100, such as p50, p99, p99.9"
        )
    return Condition(part, "percentile", _comparison(comparison), bound, chosen, fraction=round(percent / 100, 12))


def _comparison(sign: str) -> Comparison:
    known: tuple[Comparison, ...] = ("<", "<=", ">", ">=")
    return next(comparison for comparison in known if comparison == sign)
