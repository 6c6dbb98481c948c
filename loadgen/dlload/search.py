"""`--find-rate`: the search for the highest rate that meets an objective, as a state machine. Pure: it sends nothing.

    search = RateSearch(conditions, bounds)
    while (probe := search.next_probe()) is not None:
        search.observe(probe, figures)   # of probe.requests requests at probe.rate_per_s, after a warm-up
    search.answer()

Doubling and halving from the start rate finds a rate that meets the objective and one that does not; bisection narrows them.
Probes are noisy, so a rate is decided in steps: as soon as the figures are sure (dlload.standing), else after
twice as many requests, pooled with those before, up to `lengthen` times the requests of a first probe (dlload.standing.requests_needed);
then by what was measured. Far from the edge, where most probes are, one short probe is enough. The two rates that the search ends
between are both brought to full length first: one that a short probe has misjudged turns round then, and the search goes on.
Within the last bracket a line is drawn through what was measured around it (the logarithm of the share of requests over the
bound against that of the rate). Bisecting on to 2 % instead was tried: it took a third more requests and was no nearer,
since every probe near the edge is a toss-up that has to be made at full length.
Last, the answer is confirmed in a run of its own, which shares no figure with the search: of many noisy probes the search
picks where the noise was kind. If that misses, the rate is lowered by the tolerance and tried again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dlload.curve import CurvePoint, curve_point, knee
from dlload.errors import OptionError
from dlload.slo import Condition
from dlload.standing import Figures, Standing, excess, judge, overall, pool, requests_needed

NEAR = 0.10
"""How far outside the bracket a rate may be to count for the line through it."""

FEWEST_REQUESTS = 500
"""Of a probe, whatever its conditions need: near its edge a queue is busy for hundreds of requests on end."""

Purpose = Literal["bracket", "bisect", "lengthen", "confirm"]
Found = Literal["found", "never-met", "always-met", "not-confirmed", "gave-up"]


@dataclass(frozen=True, slots=True)
class SearchBounds:
    """Where to search, and how much."""

    start_per_s: float
    lowest_per_s: float = 1.0
    highest_per_s: float = 10_000.0
    tolerance: float = 0.02
    """How far the rate is lowered when a confirmation misses."""
    bracket: float = 0.08
    """Width of the last bracket, as a part of its lower rate. To bisect further costs more than it tells: see the docstring."""
    lengthen: int = 8
    """The most requests at one rate, in multiples of what a first probe has. Twice as many halve the error's square."""
    probes: int = 60
    """The most runs, all together."""
    confirmations: int = 8
    """The most runs to confirm."""

    def check(self) -> None:
        """Raises OptionError for bounds that cannot be searched."""
        if not 0 < self.lowest_per_s <= self.start_per_s <= self.highest_per_s < math.inf:
            raise OptionError(
                f"the search for a rate starts at {self.start_per_s:g}/s, which is not between {self.lowest_per_s:g} and"
                f" {self.highest_per_s:g}/s; give a start rate between a lowest above 0 and a highest"
            )
        if not 0.001 <= min(self.tolerance, self.bracket) <= max(self.tolerance, self.bracket) <= 0.5:
            raise OptionError(f"a tolerance of {self.tolerance:g} cannot be searched to; give one from 0.001 to 0.5")
        if self.lengthen < 1 or self.probes < 1 or self.confirmations < 1:
            raise OptionError(
                "a search needs at least one probe, one confirmation, and probes of at least once their length"
            )


@dataclass(frozen=True, slots=True)
class Probe:
    """A run that the search asks for."""

    rate_per_s: float
    requests: int
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of the search."""

    found: Found
    rate_per_s: float | None
    """The confirmed one; of a search that gave up, the highest known to meet the objective. None: no rate can be named."""
    sentence: str
    upper_per_s: float | None
    """The lowest rate that is known to miss the objective; None: none is."""
    standings: tuple[Standing, ...]
    """Of the confirmation."""
    probes: int
    requests: int
    """All that were sent."""


@dataclass(slots=True)
class _Tried:
    """All figures of one rate, and what they decide."""

    figures: list[Figures] = field(default_factory=list)
    requests: int = 0
    meets: bool | None = None


class RateSearch:
    """The state of one search. Raises OptionError for bounds that cannot be searched."""

    def __init__(self, conditions: Sequence[Condition], bounds: SearchBounds) -> None:
        bounds.check()
        self._conditions = tuple(conditions)
        self._bounds = bounds
        self._needed = max(requests_needed(conditions), FEWEST_REQUESTS)
        self._tried: dict[float, _Tried] = {}
        self._pending: float | None = None
        self._confirming: float | None = None
        self._confirmed: tuple[Standing, ...] = ()
        self._done: Found | None = None
        self._failed_confirmations = 0
        self._probes = 0
        self._requests = 0

    @property
    def full_length(self) -> int:
        """The most requests at one rate, and those of a confirmation."""
        return self._needed * self._bounds.lengthen

    def next_probe(self) -> Probe | None:
        """The run to make now; None when the search is over. Asking again without an observation gives the same."""
        if self._done:
            return None
        if self._probes >= self._bounds.probes:
            self._done = "gave-up"
            return None
        if self._confirming is None:
            probe = self._longer(self._pending, "lengthen") if self._pending is not None else self._search()
            if probe is not None or self._done:
                return probe
        assert self._confirming is not None
        return Probe(self._confirming, self.full_length, "confirm")

    def observe(self, probe: Probe, figures: Figures) -> None:
        """Take in what the run asked for has measured. Raises ValueError for figures of no request."""
        if figures.requests < 1:
            raise ValueError(f"the run at {probe.rate_per_s:g}/s has sent nothing; nothing can be learnt from it")
        self._probes += 1
        self._requests += figures.requests
        if probe.purpose == "confirm":
            self._observe_confirmation(probe.rate_per_s, figures)
            return
        tried = self._tried.setdefault(probe.rate_per_s, _Tried())
        tried.figures.append(figures)
        tried.requests += max(
            figures.requests, probe.requests
        )  # a run that was cut short is not asked for again for ever
        standings = judge(self._conditions, pool(tried.figures))
        tried.meets = self._decide(standings, full=tried.requests >= self.full_length)
        self._pending = probe.rate_per_s if tried.meets is None else None

    def answer(self) -> Answer:
        """The result; before the end, what is known so far (as of a search that was given up)."""
        found = self._done or "gave-up"
        low, high = self._bracket()
        rate = self._confirming if found in {"found", "always-met"} else low if found == "gave-up" else None
        return Answer(
            found=found,
            rate_per_s=rate,
            sentence=self._sentence(found, rate, low, high),
            upper_per_s=high,
            standings=self._confirmed,
            probes=self._probes,
            requests=self._requests,
        )

    def curve(self) -> tuple[CurvePoint, ...]:
        """Every rate that was tried, in ascending order."""
        return tuple(
            curve_point(rate, pool(self._tried[rate].figures), meets=self._tried[rate].meets)
            for rate in sorted(self._tried)
        )

    def knee(self) -> float | None:
        """The knee of the curve's mean latencies, of the rates that were kept up with (95 % delivered)."""
        return knee([(point.rate_per_s, point.mean_s) for point in self.curve() if point.kept_up])

    def _decide(self, standings: Sequence[Standing], *, full: bool) -> bool | None:
        if overall(standings) == "met":
            return True
        if any(standing.outcome == "missed" and standing.sure for standing in standings):
            return False
        return all(standing.passes for standing in standings) if full else None

    def _bracket(self) -> tuple[float | None, float | None]:
        """The highest rate that meets, below the lowest that does not."""
        high = min((rate for rate, tried in self._tried.items() if tried.meets is False), default=None)
        low = max(
            (rate for rate, tried in self._tried.items() if tried.meets and (high is None or rate < high)), default=None
        )
        return low, high

    def _search(self) -> Probe | None:
        """The next step; None where the bracket is as narrow and as sure as it gets, and then _confirming or _done is set."""
        low, high = self._bracket()
        if wider := self._wider(low, high):
            return self._longer(wider, "bracket")
        if low is not None and high is not None and high / low - 1 > self._bounds.bracket:
            return self._longer(math.sqrt(low * high), "bisect")
        for end in (high, low):
            if end is not None and self._tried[end].requests < self.full_length:
                return self._longer(end, "lengthen")
        if low is None:
            self._done = "never-met"
        else:
            self._confirming = self._edge(low, high)
        return None

    def _wider(self, low: float | None, high: float | None) -> float | None:
        """The rate to try where an end of the bracket is missing; None where both are there, or the limit is reached."""
        bounds = self._bounds
        if low is None and high is None:
            return bounds.start_per_s
        if high is None and low is not None and low < bounds.highest_per_s:
            return min(2 * low, bounds.highest_per_s)
        if low is None and high is not None and high > bounds.lowest_per_s:
            return max(high / 2, bounds.lowest_per_s)
        return None

    def _edge(self, low: float, high: float | None) -> float:
        """Where the objective is just met, by a line through what the rates near the bracket have measured."""
        if high is None:
            return low
        near = [rate for rate in self._tried if low / (1 + NEAR) <= rate <= high * (1 + NEAR)]
        excesses = [excess(self._conditions, pool(self._tried[rate].figures)) for rate in near]
        if not all(math.isfinite(value) for value in excesses):
            return low
        weights = np.sqrt([self._tried[rate].requests for rate in near])
        slope, offset = np.polyfit(np.log(near), np.asarray(excesses), 1, w=weights)
        return min(max(math.exp(-offset / slope), low), high) if slope > 0 else low

    def _longer(self, rate: float, purpose: Purpose) -> Probe:
        before = self._tried[rate].requests if rate in self._tried else 0
        wanted = before or self._needed  # as many again, so twice as many in all
        if before and purpose == "lengthen" and self._tried[rate].meets is not None:
            wanted = self.full_length - before
        return Probe(rate, max(1, min(wanted, self.full_length - before)), purpose)

    def _observe_confirmation(self, rate: float, figures: Figures) -> None:
        self._confirmed = judge(self._conditions, figures)
        if all(standing.passes for standing in self._confirmed):
            _, high = self._bracket()
            self._done = "always-met" if high is None and not self._failed_confirmations else "found"
            return
        self._failed_confirmations += 1
        lower = rate / (1 + self._bounds.tolerance)
        if self._failed_confirmations >= self._bounds.confirmations or lower < self._bounds.lowest_per_s:
            self._done = "not-confirmed"
        else:
            self._confirming = lower

    def _sentence(self, found: Found, rate: float | None, low: float | None, high: float | None) -> str:
        match found:
            case "found":
                sure = (
                    "confirmed"
                    if overall(self._confirmed) == "met"
                    else "measured within the bounds, but not with 99 % confidence,"
                )
                above = f"; {high:.4g}/s misses it" if high is not None else ""
                return f"{rate:.4g} requests/s is the highest rate that meets the objective{above}; {sure} in a run of its own"
            case "always-met":
                return f"the objective is met up to the limit of the search, {rate:.4g} requests/s; raise the limit to find its end"
            case "never-met":
                return f"the objective is missed even at the lowest rate, {high:.4g} requests/s; loosen it, or lower the limit"
            case "not-confirmed":
                return (
                    f"the search led to {low:.4g} requests/s, but none of {self._failed_confirmations} runs there and below confirmed"
                    " it: the server is not the same from run to run; find out why, or loosen the objective"
                )
            case _:
                between = f"between {f'{low:.4g}' if low else 'nothing'} and {f'{high:.4g}' if high else 'the limit'}"
                if self._done is None:
                    return f"the search was stopped after {self._probes} runs with the answer {between}; run it again"
                return f"the search ended after {self._probes} runs with the answer {between}; allow it more of them"
