"""`--find-rate`: runs at one rate after the other, as the search asks for them, and what came of it all.

Each run has a folder of its own below the result folder (probe-01, probe-02, ...) and is a whole result; search.json beside them
holds the curve and the answer (dlclient.search_result).
"""

import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path

import msgspec
from dlclient.errors import ResultError
from dlclient.results import Objective, Run, write_json
from dlclient.search_result import SCHEMA, SEARCH_FILE, Point, SearchResult, read_search

from dlload.arrivals import read_course
from dlload.errors import RecordError
from dlload.load_options import WarmUp
from dlload.options import StreamOptions
from dlload.plan import Open
from dlload.recorder import new_folder
from dlload.search import Probe, RateSearch
from dlload.standing import Figures, judge, overall
from dlload.table import search_table

logger = logging.getLogger(__name__)

WARM_UP_REQUESTS = 200
WARM_UP_SHARE = 0.1
"""Before a probe is measured its queue must be as long as it will be: so many requests, and that share of its own, come first."""
SOUND = frozenset({"unstable-windows", "errors", "senders-exhausted", "dropped"})
"""Reasons for which a probe is still a measurement of what that rate does to the server: it is too much for it."""

PASSING = frozenset({"send-lag", "generator-cpu", "clock-jump"})
"""Reasons that say something of the load tester's own machine at that moment, and nothing of the rate: such a probe is made again."""
SEED_STEP = 1_000_003
"""Between the schedule seeds of a search's runs: searches with neighbouring seeds share no schedule."""
MOST_REPEATS = 5
"""Of a whole search. A machine that is late more often can name no rate."""


class RateFinder:
    """Decides on the next run; the runs themselves are made elsewhere."""

    def __init__(self, options: StreamOptions, folder: Path) -> None:
        """`folder`: exists; gets a folder for each run."""
        bounds = options.load.bounds
        assert bounds is not None
        self.folder = folder
        self._options = options
        self._conditions = options.load.slo
        self._search = RateSearch(self._conditions, bounds)
        self._probe: Probe | None = None
        self._runs: list[tuple[Probe, Path, Run]] = []
        self._failed = ""
        self._again = False
        self._repeats = 0

    def next(self) -> StreamOptions | None:
        """The options of the run to make now; None when the search is over."""
        if not self._again:
            self._probe = None if self._failed else self._search.next_probe()
        self._again = False
        probe = self._probe
        if probe is None:
            return None
        course = read_course(f"{probe.rate_per_s:.6g}", 1.0)
        load = Open(course, self._arrivals, probe.requests, None, f"{probe.rate_per_s:.6g}/s {self._arrivals}")
        warm_up = WarmUp(requests=WARM_UP_REQUESTS + round(WARM_UP_SHARE * probe.requests))
        number = len(self._runs) + 1
        seeds = self._options.load.seeds
        return replace(
            self._options,
            phases=self._options.phases[:1],
            results=self.folder / f"probe-{number:02}",
            load=replace(
                self._options.load,
                load=load,
                warm_up=warm_up,
                # Of equal runs at one rate the second would tell nothing new, nor would a search with the next seed.
                seeds=msgspec.structs.replace(seeds, schedule=seeds.schedule + SEED_STEP * (number - 1)),
            ),
        )

    @property
    def _arrivals(self) -> str:
        return self._options.load.arrivals

    def observe(self, run: Run, measured: Figures) -> None:
        """Take in a run that was made."""
        probe = self._probe
        assert probe is not None
        self._runs.append((probe, self.folder / f"probe-{len(self._runs) + 1:02}", run))
        serious = [reason for reason in run.reasons if reason.code not in SOUND]
        if serious and self._repeats < MOST_REPEATS and all(reason.code in PASSING for reason in serious):
            self._again = True
            self._repeats += 1
            logger.warning("find-rate: %.4g/s is tried again: %s", probe.rate_per_s, serious[0].text)
            return
        unsound = [reason.text for reason in serious]
        if not measured.requests:
            unsound.append("nothing was sent")
        if any(reason.code == "senders-exhausted" for reason in run.reasons) and self._served_in_time(measured):
            unsound.append(
                "all senders were busy though the server answered what it got in time: allow more requests in flight (-u)"
            )
        if unsound:
            self._failed = unsound[0]
            return
        self._search.observe(probe, measured)
        standing = ", ".join(f"{one.text} {one.outcome}" for one in run.phases[0].objectives)
        logger.info(
            "find-rate: %s at %.4g/s, %d requests: %s", probe.purpose, probe.rate_per_s, probe.requests, standing
        )

    def _served_in_time(self, measured: Figures) -> bool:
        """Whether the conditions hold from the actual send on: then what waited waited in the load tester."""
        return overall(judge(self._conditions, replace(measured, response_s=measured.service_s))) == "met"

    def finish(self) -> tuple[str, bool]:
        """Write search.json. The result as text, and whether a rate was found. Raises RecordError."""
        result = self._result()
        try:
            write_json(self.folder / SEARCH_FILE, result)
        except OSError as exc:
            raise RecordError(f"cannot write {self.folder / SEARCH_FILE}: {exc.strerror}; free some space") from exc
        return search_table(result), result.found in {"found", "always-met"}

    def _result(self) -> SearchResult:
        answer = self._search.answer()
        found = answer.found if not self._failed else "invalid"
        sentence = answer.sentence
        if self._failed:
            sentence = (
                f"no rate can be named: a probe at {self._runs[-1][0].rate_per_s:.4g}/s was invalid: {self._failed}"
            )
        confirmed = self._runs[-1][1].name if found in {"found", "always-met"} else None
        return SearchResult(
            schema=SCHEMA,
            slo=tuple(condition.text for condition in self._conditions),
            found=found,
            rate_per_s=None if self._failed else answer.rate_per_s,
            upper_per_s=answer.upper_per_s,
            sentence=sentence,
            knee_per_s=self._search.knee(),
            probes=len(self._runs),
            requests=answer.requests,
            confirmed_in=confirmed,
            objectives=tuple(
                Objective(text=one.condition.text, outcome=one.outcome, sure=one.sure, sentence=one.sentence)
                for one in answer.standings
            ),
            curve=tuple(
                Point(
                    rate_per_s=point.rate_per_s,
                    requests=point.requests,
                    delivered_per_s=point.delivered_per_s,
                    mean_s=_finite(point.mean_s),
                    p50_s=_finite(point.p50_s),
                    meets=point.meets,
                )
                for point in self._search.curve()
            ),
            runs=tuple(path.name for _, path, _ in self._runs),
        )


def search_folder(options: StreamOptions, run_number: int, kind: str = "search") -> Path:
    """Make the folder of a search, in place of an earlier one's if that may be overwritten. Raises RecordError."""
    if options.results is not None and options.overwrite and (options.results / SEARCH_FILE).exists():
        try:
            for run in read_search(options.results).runs:
                shutil.rmtree(options.results / run)
            (options.results / SEARCH_FILE).unlink()
        except (OSError, ResultError) as exc:
            raise RecordError(f"--results {options.results}: the earlier search cannot be replaced: {exc}") from exc
    return new_folder(
        options.results, overwrite=options.overwrite, run_number=run_number, now=time.localtime(), kind=kind
    )


def _finite(seconds: float) -> float | None:
    return seconds if seconds < float("inf") else None
