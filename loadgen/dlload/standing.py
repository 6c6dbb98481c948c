"""How the conditions of an objective stand after a run: met, missed, or too few requests to tell. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from dlclient.early_stopping import Claim, fewest_samples, find_min_passing, judge_claim
from dlclient.intervals import block_length, effective_samples, mean_interval
from dlclient.statistics import nearest_rank
from numpy.typing import NDArray

from dlload.slo import Clock, Condition

Outcome = Literal["met", "missed", "cannot-tell"]

SURE = 0.99
"""How sure "met" is of a percentile or a mean: MLPerf's confidence."""

MEAN_SAMPLES = 1000
"""How many requests a probe for a mean should have at least."""


@dataclass(frozen=True)
class Figures:
    """What a run (or several, one after the other) measured, for judging. Latencies in seconds, by due time, of good answers.

    `duration_s`: over which the requests were due. `delivered` answers were good and came within it, or soon after.
    """

    requests: int
    errors: int
    """Requests without a good answer: failed, dropped, or given up."""
    duration_s: float
    delivered_per_s: float
    """Good answers per second."""
    response_s: Sequence[float] | NDArray[np.float64]
    service_s: Sequence[float] | NDArray[np.float64] = ()
    ttfb_s: Sequence[float] | NDArray[np.float64] = ()

    @property
    def offered_per_s(self) -> float:
        """Requests per second, as planned."""
        return self.requests / self.duration_s if self.duration_s > 0 else 0.0

    def latencies(self, clock: Clock) -> NDArray[np.float64]:
        """Those of a clock, by due time."""
        return self._arrays[clock]

    @cached_property
    def _arrays(self) -> dict[Clock, NDArray[np.float64]]:
        return {
            "response": np.asarray(self.response_s, dtype=np.float64),
            "service": np.asarray(self.service_s, dtype=np.float64),
            "ttfb": np.asarray(self.ttfb_s, dtype=np.float64),
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """How a condition stands after a run."""

    condition: Condition
    outcome: Outcome
    sure: bool
    """Whether the figures could hardly come out like this if the opposite were true (SURE)."""
    passes: bool
    """Whether the measured value itself is within the bound, sure or not."""
    sentence: str


def judge(conditions: Sequence[Condition], figures: Figures) -> tuple[Standing, ...]:
    """Each condition against the figures of a run.

    A percentile is met where MLPerf's early stopping confirms it with 99 % confidence; where the measured percentile is
    within the bound but unconfirmed, the run cannot tell. A request that failed counts as over every bound: no answer came in
    time. Requests over the bound that came in bunches count as one for each bunch (effective_samples of the order).
    A mean is met where the 99 % bound of its bootstrap is. Errors and rates are what they are in this run; only no error
    among fewer requests than the limit would allow one in says nothing.
    """
    return tuple(_JUDGES[condition.metric](condition, figures) for condition in conditions)


def overall(standings: Sequence[Standing]) -> Outcome:
    """missed if any is, met if all are."""
    outcomes = {standing.outcome for standing in standings}
    if "missed" in outcomes:
        return "missed"
    return "cannot-tell" if "cannot-tell" in outcomes else "met"


def excess(conditions: Sequence[Condition], figures: Figures) -> float:
    """How far from the objective: the logarithm of (measured / allowed) of the worst condition; below 0 within all bounds.

    Of a percentile, measured is the share of requests over the bound: it grows smoothly with the rate, in bounds of
    orders of magnitude, where the percentile itself stands still and then leaps.
    """
    return max(_EXCESSES[condition.metric](condition, figures) for condition in conditions)


def pool(figures: Sequence[Figures]) -> Figures:
    """The figures of several runs at the same rate, as of one after the other."""
    if len(figures) == 1:
        return figures[0]
    duration_s = math.fsum(one.duration_s for one in figures)
    answers = math.fsum(one.delivered_per_s * one.duration_s for one in figures)
    return Figures(
        requests=sum(one.requests for one in figures),
        errors=sum(one.errors for one in figures),
        duration_s=duration_s,
        delivered_per_s=answers / duration_s if duration_s > 0 else 0.0,
        response_s=np.concatenate([one.latencies("response") for one in figures]),
        service_s=np.concatenate([one.latencies("service") for one in figures]),
        ttfb_s=np.concatenate([one.latencies("ttfb") for one in figures]),
    )


def requests_needed(conditions: Sequence[Condition]) -> int:
    """How many requests a run needs so that a server which is well within every bound can be told to be.

    For a percentile "well within" is half of the share that may be over (0.5 % for the p99): the fewest requests of which early
    stopping allows that many over. It is 197 for the p90, 2,144 for the p99, 21,485 for the p99.9.
    """
    needed = 1
    for condition in conditions:
        if condition.metric == "percentile":
            needed = max(needed, _percentile_requests(condition.fraction))
        elif condition.metric == "mean":
            needed = max(needed, MEAN_SAMPLES)
        elif condition.metric == "errors" and condition.bound > 0:
            needed = max(needed, math.ceil(1 / condition.bound))
    return needed


def _percentile_requests(fraction: float) -> int:
    share = (1 - fraction) / 2
    over = 1
    while find_min_passing(over, fraction, SURE) + over > over / share:
        over += 1
    return find_min_passing(over, fraction, SURE) + over


def _judge_percentile(condition: Condition, figures: Figures) -> Standing:
    latencies = figures.latencies(condition.clock)
    if not latencies.size and figures.requests > figures.errors:
        return Standing(
            condition,
            "cannot-tell",
            sure=False,
            passes=False,
            sentence=f"{condition.text}: this run has no {condition.clock} times",
        )
    over = _slow(condition, figures)
    count, slow = latencies.size + figures.errors, int(over.sum()) + figures.errors
    bunching = over.size / effective_samples(over) if over.size else 1.0
    claim = judge_claim(count / bunching, slow / bunching, condition.fraction, SURE)
    passes = count > 0 and slow <= count * (1 - condition.fraction) + 1e-9
    outcome: Outcome = "cannot-tell"
    if claim.confirmed:
        outcome = "met"
    elif claim.refuted or (not passes and count >= fewest_samples(condition.fraction, SURE)):
        outcome = "missed"
    sentence = f"{condition.text}: {_percentile_sentence(condition, figures, latencies, count, slow)}"
    if outcome == "cannot-tell":
        sentence += f"; too few to tell: {_more(claim, bunching)}"
    return Standing(condition, outcome, sure=claim.confirmed or claim.refuted, passes=passes, sentence=sentence)


def _percentile_sentence(
    condition: Condition, figures: Figures, latencies: NDArray[np.float64], count: int, slow: int
) -> str:
    failed = f", {figures.errors} of them failed" if figures.errors else ""
    seen = f"{slow} of {count} requests were over{failed}"
    if count < fewest_samples(condition.fraction, SURE):
        return seen
    ordered = [*np.sort(latencies).tolist(), *[math.inf] * figures.errors]
    value = nearest_rank(ordered, condition.fraction)
    return f"measured {_ms(value)}; {seen}"


def _more(claim: Claim, bunching: float) -> str:
    more = math.ceil(claim.more * bunching)
    return f"{more} more, all of them under, would confirm it with {SURE:.0%} confidence"


def _judge_mean(condition: Condition, figures: Figures) -> Standing:
    latencies = figures.latencies(condition.clock)
    if not latencies.size:
        return Standing(
            condition,
            "cannot-tell",
            sure=False,
            passes=False,
            sentence=f"{condition.text}: this run has no {condition.clock} times",
        )
    mean = float(latencies.mean())
    passes = condition.holds(mean)
    interval = mean_interval(latencies, 2 * SURE - 1, block=block_length(latencies))
    if interval is None:
        sentence = (
            f"{condition.text}: measured {_ms(mean)}; {latencies.size} answers are too few to tell how sure that is"
        )
        return Standing(condition, "cannot-tell", sure=False, passes=passes, sentence=sentence)
    met, refuted = condition.holds(interval.high), not condition.holds(interval.low)
    sentence = f"{condition.text}: measured {_ms(mean)}, surely between {_ms(interval.low)} and {_ms(interval.high)}"
    outcome: Outcome = "met" if met else "cannot-tell" if passes else "missed"
    return Standing(condition, outcome, sure=met or refuted, passes=passes, sentence=sentence)


def _judge_errors(condition: Condition, figures: Figures) -> Standing:
    requests, errors = figures.requests, figures.errors
    share = errors / requests if requests else math.nan
    sentence = f"{condition.text}: {errors} of {requests} requests failed"
    if not requests or (not errors and requests * condition.bound < 1 and condition.bound > 0):
        needed = math.ceil(1 / condition.bound) if condition.bound else 1
        sentence += f"; too few to tell: with {needed} requests one error would be within the bound or over it"
        return Standing(condition, "cannot-tell", sure=False, passes=requests > 0, sentence=sentence)
    passes = condition.holds(share)
    return Standing(
        condition, "met" if passes else "missed", sure=True, passes=passes, sentence=f"{sentence} ({share:.3%})"
    )


def _judge_rate(condition: Condition, figures: Figures) -> Standing:
    delivered, offered = figures.delivered_per_s, figures.offered_per_s
    if not figures.requests or offered <= 0:
        return Standing(
            condition, "cannot-tell", sure=False, passes=False, sentence=f"{condition.text}: nothing was offered"
        )
    passes = condition.holds(delivered if condition.absolute else delivered / offered)
    sentence = (
        f"{condition.text}: {delivered:.1f} good answers/s of {offered:.1f}/s offered ({delivered / offered:.1%})"
    )
    return Standing(condition, "met" if passes else "missed", sure=True, passes=passes, sentence=sentence)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if math.isfinite(seconds) else "no answer"


def _slow(condition: Condition, figures: Figures) -> NDArray[np.bool_]:
    """Which good answers were over the bound."""
    latencies = figures.latencies(condition.clock)
    return latencies >= condition.bound if condition.comparison == "<" else latencies > condition.bound


def _percentile_excess(condition: Condition, figures: Figures) -> float:
    slow = _slow(condition, figures)
    return _log_ratio(int(slow.sum()) + figures.errors, (slow.size + figures.errors) * (1 - condition.fraction))


def _mean_excess(condition: Condition, figures: Figures) -> float:
    latencies = figures.latencies(condition.clock)
    return math.log(float(latencies.mean()) / condition.bound) if latencies.size else math.inf


def _errors_excess(condition: Condition, figures: Figures) -> float:
    return _log_ratio(figures.errors, figures.requests * condition.bound)


def _rate_excess(condition: Condition, figures: Figures) -> float:
    wanted = condition.bound if condition.absolute else condition.bound * figures.offered_per_s
    return math.log(wanted / figures.delivered_per_s) if figures.delivered_per_s > 0 and wanted > 0 else math.inf


def _log_ratio(measured: float, allowed: float) -> float:
    """Of counts: half a request more on both sides, so that none is a number too."""
    return math.log((measured + 0.5) / (allowed + 0.5))


_EXCESSES = {
    "percentile": _percentile_excess,
    "mean": _mean_excess,
    "errors": _errors_excess,
    "rate": _rate_excess,
}

_JUDGES = {
    "percentile": _judge_percentile,
    "mean": _judge_mean,
    "errors": _judge_errors,
    "rate": _judge_rate,
}
