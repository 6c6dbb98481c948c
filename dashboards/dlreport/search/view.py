"""A search as its report sees it: what was found, and the runs that led to it."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlclient.errors import ResultError
from dlclient.results import RUN_FILE, Latency, Run, Summary, read_run
from dlclient.search_result import SEARCH_FILE, SearchResult, read_search

from dlreport.errors import NotAResultError

_RATE = re.compile(r"(\d+(?:\.\d+)?)/s")
_CONDITION = re.compile(r"(?:(response|service):)?(mean|p50|p90|p99(?:\.9)?)<=?(\d+(?:\.\d*)?(?:e-?\d+)?)(us|ms|s)")
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_MOST = 1e18
"""No rate and no time is larger; what is would only make the drawing fail."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of the search."""

    name: str
    """Its folder."""
    run: Run | None
    """None: the folder is no longer there."""
    confirms: bool
    """Whether it is the run that confirmed the answer."""

    @property
    def total(self) -> Summary | None:
        """Figures of all models; None where there are none."""
        return self.run.phases[0].total if self.run and self.run.phases else None

    @property
    def rate_per_s(self) -> float | None:
        """What it was asked to offer."""
        if self.run is None or not self.run.phases:
            return None
        asked = _RATE.match(self.run.plan.load)
        return float(asked[1]) if asked else self.run.phases[0].offered_per_s


@dataclass(frozen=True, slots=True)
class Bound:
    """A condition on a latency that a picture can show beside what was measured."""

    text: str
    seconds: float
    service: bool
    figure: str
    """Its name in a Latency."""

    def measured_s(self, probe: Probe) -> float | None:
        """What it is about, in that run; None where the run does not tell."""
        if probe.total is None:
            return None
        times: Latency | None = probe.total.service_s if self.service else probe.total.latency_s
        return None if times is None else getattr(times, self.figure)


@dataclass(frozen=True, slots=True)
class SearchView:
    """All that a report of one search is made from."""

    result: SearchResult
    probes: tuple[Probe, ...]

    @property
    def objective(self) -> str:
        """What was asked for, as one would say it: p99<50ms, errors<0.1%."""
        return ", ".join(self.result.slo)

    @property
    def first_run(self) -> Run | None:
        """Any of the runs: they differ in their rates and schedules alone."""
        return next((probe.run for probe in self.probes if probe.run is not None), None)

    @property
    def confirmation(self) -> Probe | None:
        """The run that confirmed the answer, if it is there."""
        return next((probe for probe in self.probes if probe.confirms and probe.run is not None), None)

    @property
    def simulated(self) -> bool:
        """Whether a simulated device answered in any run."""
        return any(probe.run.simulated for probe in self.probes if probe.run is not None)

    @property
    def bound(self) -> Bound | None:
        """The first condition on a mean or percentile that the runs' summaries have."""
        return next((found for text in self.result.slo if (found := read_bound(text)) is not None), None)


def read_bound(text: str) -> Bound | None:
    """A condition such as p99<50ms; None for others, which no axis of latencies can show."""
    found = _CONDITION.fullmatch("".join(text.lower().split()))
    if found is None:
        return None
    clock, figure, number, unit = found.groups()
    return Bound(text, float(number) * _UNITS_S[unit], clock == "service", figure.replace(".", ""))


def load_search(folder: Path) -> SearchView:
    """Read search.json and the run.json of its runs. Raises NotAResultError naming the file and what to do."""
    try:
        result = read_search(folder)
        _check(result, folder)
        probes = tuple(
            Probe(
                name,
                read_run(folder / name) if (folder / name / RUN_FILE).is_file() else None,
                name == result.confirmed_in,
            )
            for name in result.runs
        )
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    return SearchView(result, probes)


def _check(result: SearchResult, folder: Path) -> None:
    """That it names only folders of its own, and only numbers that somebody can have measured."""
    path = folder / SEARCH_FILE
    names: Sequence[str] = (*result.runs, *([result.confirmed_in] if result.confirmed_in else ()))
    for name in names:
        if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
            raise NotAResultError(f"{path} names the run {name!r}, which is no folder of its own; search again")
    numbers = [
        number
        for point in result.curve
        for number in (point.rate_per_s, point.mean_s, point.p50_s, point.delivered_per_s)
    ]
    for number in (*numbers, result.rate_per_s, result.upper_per_s, result.knee_per_s):
        if number is not None and not (math.isfinite(number) and abs(number) <= _MOST):
            raise NotAResultError(f"{path} holds {number:g}, which nothing measures; restore it or search again")
    if any(point.rate_per_s <= 0 for point in result.curve):
        raise NotAResultError(f"{path} holds a rate that is not above 0; restore it or search again")
