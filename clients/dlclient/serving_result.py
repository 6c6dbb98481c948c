"""The result folder of `make bench` and `make bench-peers`: run.json alone. What it costs to be a server, round by round.

Times are seconds as floats. Every target of a run was asked in each round, one after the other, so ratios are of
neighbours in time.
"""

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
    def wanted(self) -> float | None:
        """The goal, whichever way; None: nothing was asked for."""
        return self.at_most if self.at_least is None else self.at_least


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
