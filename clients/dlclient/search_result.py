"""search.json: what a search for the highest rate found, beside the folders of its runs."""

from pathlib import Path
from typing import Literal

import msgspec

from dlclient.errors import ResultError
from dlclient.results import Objective, read_json

SCHEMA = "dlserve-search/1"
SEARCH_FILE = "search.json"


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One rate of the latency/throughput curve: all that was measured at it."""

    rate_per_s: float
    requests: int
    delivered_per_s: float
    """Good answers per second."""
    mean_s: float | None
    p50_s: float | None
    meets: bool | None
    """None: it was not decided."""


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, and the curve that led to it."""

    schema: str
    slo: tuple[str, ...]
    found: Literal["found", "never-met", "always-met", "not-confirmed", "gave-up", "invalid"]
    """"always-met": up to the highest rate that was allowed. "invalid": a probe could not be trusted."""
    rate_per_s: float | None
    """The highest rate that meets the objective, confirmed in a run of its own; of "gave-up", the highest known to."""
    upper_per_s: float | None
    """The lowest rate that is known to miss it."""
    sentence: str
    knee_per_s: float | None
    """Where the mean latency turns from level to steep; None: nowhere to be seen."""
    probes: int
    requests: int
    confirmed_in: str | None
    """Folder of the run that confirmed it."""
    objectives: tuple[Objective, ...]
    """As they stood in that run."""
    curve: tuple[Point, ...]
    """By rate."""
    runs: tuple[str, ...]
    """Folders, in the order in which they were made."""


def read_search(folder: Path) -> SearchResult:
    """search.json of a folder. Raises ResultError naming the file and what to do."""
    path = folder / SEARCH_FILE
    try:
        return read_json(path, SearchResult, SCHEMA)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path} is no result of --find-rate: {exc}; search again") from exc
