"""The result folder of `make bench` and `make bench-peers`: run.json alone. What it costs to be a server, round by round.

Times are seconds as floats. Every target of a run was asked in each round, one after the other, so ratios are of
neighbours in time.
"""

import statistics
from pathlib import Path
from typing import Literal

import msgspec

from dlclient.errors import ResultError
from dlclient.results import RUN_FILE, Environment, read_json

SERVING_SCHEMA = "dlserve-serving/1"


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round of one target."""

    p50_s: float | None = None
    """Median latency at the client; None: it had none to tell (a loop without a server)."""
    rate_per_s: float
    cpu_s: dict[str, float] = {}
    """Processor time per request, user and system, by part of the server: front, workers, all. From /proc, 10 ms apart."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One target at one number of clients."""

    part: str
    """Targets of one part were measured in turns and may be compared."""
    target: str
    clients: int
    """0: an open loop, whose requests are sent when they are due."""
    body: str = ""
    """What each request held."""
    settings: str = ""
    """Of a foreign server: its version and what was set."""
    rounds: tuple[Round, ...] = ()
    failure: str = ""
    """Why there are no rounds."""


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """What a goal is about, a value per round."""

    text: str
    unit: str = "x"
    values: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None
    """At most one of the two is set; none: nothing was asked for."""

    @property
    def median(self) -> float | None:
        """Over the rounds; None where there are none."""
        return statistics.median(self.values) if self.values else None

    @property
    def wanted(self) -> float | None:
        """The goal, whichever way; None: nothing was asked for."""
        return self.at_most if self.at_least is None else self.at_least

    @property
    def goal(self) -> str:
        """What was asked for, in words."""
        return "" if self.wanted is None else f"at {'most' if self.at_least is None else 'least'} {self.wanted:g}"

    @property
    def met(self) -> bool | None:
        """Whether the median is what was asked for; None: nothing was, or nothing was measured."""
        found, wanted = self.median, self.wanted
        if found is None or wanted is None:
            return None
        return found <= wanted if self.at_least is None else found >= wanted


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a single client's time went, median over its requests."""

    target: str
    stage: str
    seconds: float


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """run.json."""

    schema: str
    kind: Literal["serving"]
    title: str
    started: str
    """ISO 8601, UTC."""
    seconds: float
    """Of one measurement."""
    command: tuple[str, ...]
    environment: Environment
    measured: tuple[Measured, ...]
    ratios: tuple[Ratio, ...]
    stages: tuple[Stage, ...] = ()


def read_serving(folder: Path) -> Serving:
    """run.json of a folder. Raises ResultError naming the file and what to do."""
    path = folder / RUN_FILE
    try:
        return read_json(path, Serving, SERVING_SCHEMA)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path} is no result of make bench: {exc}; run it again") from exc
