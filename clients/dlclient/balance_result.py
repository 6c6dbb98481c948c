"""The result folder of `dlbench balance`: what it writes, and what the report reads.

    FOLDER/
        run.json         one Balance: what was compared, on what, the machine, when
        cells.jsonl      one Cell a line, written and synced when the cell has ended; the last line of an id counts
        plans/*.jsonl    the requests of each mix (dlclient.results), at one per second: each load sends them faster
        models/NAME/     the profiles as the server reads them
        real/ID/N/       the stream's own results of a cell that ran in processes, run by run

Times are seconds as floats, sizes are bytes as integers. A reader ignores fields that it does not know, and refuses a
schema that it does not know.
"""

from pathlib import Path
from typing import Literal

import msgspec

from dlclient.errors import ResultError
from dlclient.results import RUN_FILE, Environment, Interval, Latency, Reason, read_json, read_latest

BALANCE_SCHEMA = "dlserve-balance/3"
CELLS_FILE = "cells.jsonl"

Source = Literal["model", "real"]
"""model: the discrete-event simulation of the server. real: its processes, over HTTP."""


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell is: all that tells it from the others."""

    policy: str
    residency: str
    """"all": each worker's budget holds every model; "third": a third of their bytes."""
    mix: str
    """As the stream's --mix."""
    load: float
    """Work offered, in forwards of single images, over what the workers can do at once: 0.8 is 80 %."""
    workers: int
    source: Source

    @property
    def id(self) -> str:
        """Its name in the folder."""
        mix = self.mix.replace(":", "-")
        return f"{self.source}-{self.workers}-{self.residency}-{mix}-{self.load:g}-{self.policy}"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cell's requests, the first of them left out (Balance.settling_s)."""

    requests: int
    """That were counted."""
    errors: int
    """Of all sent: turned away, failed, or not sent."""
    latency_s: Latency
    """From due to answered; with intervals."""
    wait_s: float
    """Mean of latency less forward: in queues, for loads, on the way."""
    wait_interval_s: Interval | None
    hit_rate: float
    """Of answers that found their weights on the device."""
    loads: int | None
    """Of weights, counted requests or not. None: of a real cell, whose answers do not tell."""
    growth: float | None = None
    """Mean latency of the last fifth over that of the first, where it rose all through: there is no steady state then, and
    more requests would give other figures. None: it did not."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says of a real cell's own requests, run several times with each time off by a percent or so.

    Times are low, middle, high: 95 % of such runs are expected between low and high.
    """

    runs: int
    jitter: float
    """Standard deviation over mean of every forward and load."""
    overhead_s: float
    """That a request takes beside queue, load and forward: the median of the real cell."""
    mean_s: tuple[float, float, float]
    p50_s: tuple[float, float, float] | None
    p99_s: tuple[float, float, float] | None
    """None, as p50_s: too few requests."""
    hit_rate: float
    """On average."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Whether model and processes say the same of a cell."""

    ratios: dict[str, tuple[float, float, float]]
    """mean, p50, p99 -> model / real, as low, middle, high of a 95 % interval. One that takes too many requests is left out."""
    real_s: dict[str, float]
    """The same names -> the geometric mean of the runs in processes."""
    rounds: int
    """Runs in processes."""
    within: bool
    """All are within a tenth of 1, in the middle."""
    text: str
    """Why not, or that they are."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One line of cells.jsonl."""

    id: str
    where: Where
    started: str
    """ISO 8601, UTC."""
    seconds: float
    """That the cell took, all in."""
    figures: Figures | None = None
    """None: it failed. Of several runs in processes: of the one whose mean latency is the middle one (the lower of two)."""
    failure: str = ""
    """Why it has no figures, with what to do."""
    model: Spread | None = None
    """Of a real cell."""
    agreement: Agreement | None = None
    """Of a real cell."""
    reasons: tuple[Reason, ...] = ()
    """Why its figures cannot be trusted; none: they can."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the comparison, at scale 1."""

    name: str
    bytes: int
    forward_s: float
    """Of one image."""
    forward_64_s: float
    """Of a batch of 64."""
    source: str
    """Rows of dashboards/reference/published.csv that the times are from."""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """run.json. Written at the start, and again at the end."""

    schema: str
    kind: Literal["balance"]
    started: str
    """ISO 8601, UTC."""
    finished: str | None
    """None: it did not come to its end (yet): `--resume` goes on."""
    command: tuple[str, ...]
    environment: Environment
    cells: int
    """That there are to be."""
    policies: tuple[str, ...]
    profiles: tuple[Profile, ...]
    scale: float
    """All times of the profiles were multiplied by it."""
    bandwidth: float
    """Bytes per second of a load from disk, at scale 1."""
    requests: int
    """Of a cell of the model, per 8 workers."""
    real_requests: int
    real_rounds: int
    """Runs of a real cell, at most."""
    settling_s: float
    """What was due in so many seconds from the beginning is not counted: the workers' caches settle in them."""
    seed: int
    """Of plans, of policies that draw, of the spread."""
    simulated: bool = True
    """Always: the devices are."""


def read_balance(folder: Path) -> Balance:
    """run.json of a comparison's result folder. Raises ResultError naming the file and what to do."""
    path = folder / RUN_FILE
    try:
        return read_json(path, Balance, BALANCE_SCHEMA)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path} is no result of dlbench balance: {exc}; run it again") from exc


def read_cells(folder: Path) -> list[Cell]:
    """cells.jsonl: the last line of each id, in the order in which the ids first came. A torn last line is left out.

    Raises ResultError naming the file, the line and what to do.
    """
    return read_latest(folder / CELLS_FILE, Cell)
