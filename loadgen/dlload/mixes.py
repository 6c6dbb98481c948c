"""How often each service is asked, and how that may change during a run. Pure."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from dlload.errors import OptionError

_WEIGHT_STEPS = 1 << 32
"""Weights become integers of this sum, so that no rounding of a machine's arithmetic can move a draw."""
_MOST = 1e12
"""Of a weight: their sum must stay a number."""
_FORMS = (
    "use uniform, zipf:S such as zipf:1.1, drift:S:N such as drift:1.1:4, or weights such as a=3,b=1, "
    "which each service must have"
)


@dataclass(frozen=True, slots=True)
class Mix:
    """Weights by service, in the order in which the services were given; 0 leaves one out.

    `shifts`: how many times during a plan every weight moves on to the next service.
    """

    services: tuple[str, ...]
    weights: tuple[float, ...]
    shifts: int = 0

    @property
    def asked(self) -> tuple[str, ...]:
        """The services that get any requests."""
        if self.shifts:
            return self.services
        return tuple(service for service, weight in zip(self.services, self.weights, strict=True) if weight > 0)

    def chooser(self, requests: int) -> "Chooser":
        """For a plan of so many requests."""
        return Chooser(self, requests)


class Chooser:
    """Turns uniform draws into services."""

    def __init__(self, mix: Mix, requests: int) -> None:
        self._requests = requests
        self._shifts = mix.shifts
        self._count = len(mix.services)
        kept = [
            (service, weight)
            for service, weight in zip(mix.services, mix.weights, strict=True)
            if weight > 0 or mix.shifts
        ]
        self._services = [service for service, _ in kept]
        self._bounds = list(accumulate(_steps([weight for _, weight in kept])))

    def choose(self, index: int, draw: float) -> str:
        """The service of request `index`; `draw` in [0, 1)."""
        rank = bisect_right(self._bounds, int(draw * self._bounds[-1]))
        shift = index * (self._shifts + 1) // self._requests
        return self._services[(rank + shift) % self._count] if self._shifts else self._services[rank]


def read_mix(text: str, services: Sequence[str]) -> Mix:
    """What `--mix` says for these services. Raises OptionError.

    `uniform`: all equally. `zipf:S`: the k-th service (in the order given) with weight k**-S. `drift:S:N`: zipf:S whose
    ranking moves on by one service N times during the run, at equal distances, so that the hottest model changes.
    `a=3,b=1`: as written; every service must be named, 0 leaves one out.
    """
    if not services:
        raise OptionError("there is no service to send to; name some with --services")
    kind, colon, rest = text.partition(":")
    if text == "uniform":
        return Mix(tuple(services), (1.0,) * len(services))
    if kind == "zipf" and colon:
        return Mix(tuple(services), _zipf(_number(rest, f"--mix {text}: the exponent after zipf:"), len(services)))
    if kind == "drift" and colon:
        exponent, _, shifts = rest.partition(":")
        power = _number(exponent, f"--mix {text}: the exponent after drift:")
        if not shifts.isdecimal() or int(shifts[:20]) < 1:
            raise OptionError(f"--mix {text}: how often the ranking moves on must be a whole number of 1 or more")
        return Mix(tuple(services), _zipf(power, len(services)), int(shifts))
    if "=" in text:
        return _named(text, services)
    raise OptionError(f"--mix {text}: not a mix; {_FORMS}")


def _zipf(power: float, count: int) -> tuple[float, ...]:
    return tuple(rank**-power for rank in range(1, count + 1))


def _named(text: str, services: Sequence[str]) -> Mix:
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise OptionError(f"--mix {text}: {part!r} is no weight; write name=number, with commas between")
        if name in weights:
            raise OptionError(f"--mix {text}: {name} is there twice; give it one weight")
        weights[name] = _number(number, f"--mix {text}: the weight of {name}")
    if unknown := [name for name in weights if name not in services]:
        raise OptionError(f"--mix {text}: {', '.join(unknown)}: not among the services {', '.join(services)}")
    if missing := [name for name in services if name not in weights]:
        raise OptionError(f"--mix {text}: no weight for {', '.join(missing)}; give each one, 0 leaves a service out")
    if not any(weights.values()):
        raise OptionError(f"--mix {text}: all weights are 0; give at least one service more")
    return Mix(tuple(services), tuple(weights[service] for service in services))


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= _MOST:
        raise OptionError(f"{what} must be a number of 0 or more (up to {_MOST:g}), not {text!r}")
    return number


def _steps(weights: Sequence[float]) -> list[int]:
    total = math.fsum(weights)
    return [max(1, round(weight / total * _WEIGHT_STEPS)) for weight in weights]
