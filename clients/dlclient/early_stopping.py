"""MLPerf's early stopping: what a run of a given length can claim about a percentile. Pure functions.

A claim is "the p-th percentile is under X": at most a share 1 - p of all requests takes longer. A run of n requests, t of
them over X, confirms it where a server at the very edge (share exactly 1 - p) would show t or fewer in n with a chance
below 1 - confidence. Requests are taken as independent of each other; where slow ones come in bunches, count bunches
(dlclient.intervals.effective_samples).

Source: MLPerf LoadGen, loadgen/early_stopping.cc (`odds`, `MinPassingQueriesFinder`) and PerformanceSummary::EarlyStopping
in loadgen/results.cc of github.com/mlcommons/inference; its tolerance is 0 and its confidence 0.99, as here. LoadGen sums
the binomial by the incomplete beta function I_p(h, t + 1), and so does this, with scipy's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import betainc

CONFIDENCE = 0.99
"""LoadGen's."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a run says about "the percentile is under the bound"."""

    confirmed: bool
    """With the confidence asked for, it is."""
    refuted: bool
    """With the same confidence, it is not. Where neither holds, the run is too short to tell."""
    more: int
    """How many more requests would confirm it if every one of them were under the bound; 0 once confirmed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A percentile that holds with the confidence asked for: an upper bound of it, as LoadGen reports for SingleStream."""

    seconds: float
    discarded: int
    """How many of the slowest requests were left out of it."""


def judge_claim(requests: float, over: float, fraction: float, confidence: float = CONFIDENCE) -> Claim:
    """Whether `over` of `requests` above the bound confirm or refute that the percentile `fraction` is under it.

    Both counts may be fractions: effective numbers of requests that are not independent. The chance of `over` or fewer
    is then the continuous form of the binomial that the beta function gives.
    """
    _check(fraction, confidence)
    if not 0 <= over <= requests:
        raise ValueError(f"of {requests} requests, {over} cannot be over the bound")
    under = requests - over
    confirmed = under > 0 and _chance(under, over, fraction) < 1 - confidence
    # P(over or more at the edge) = 1 - P(over - 1 or fewer) = I_(1-p)(over, under + 1)
    refuted = over > 0 and float(betainc(over, under + 1, 1 - fraction)) < 1 - confidence
    more = 0 if confirmed else math.ceil(find_min_passing(math.ceil(over), fraction, confidence) + over - requests)
    return Claim(confirmed, refuted, max(more, 0))


@lru_cache(maxsize=65536)
def find_min_passing(over: int, fraction: float, confidence: float = CONFIDENCE) -> int:
    """The fewest requests under the bound that outweigh `over` above it (LoadGen's function of this name).

    The whole run must then have that many and `over` more: for the p99, 459 + 0, 661 + 1, 836 + 2, ...
    """
    _check(fraction, confidence)
    if over < 0:
        raise ValueError(f"a count of requests is needed, not {over}")
    low, high = 0, 1
    while _chance(high, over, fraction) >= 1 - confidence:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _chance(middle, over, fraction) < 1 - confidence:
            high = middle
        else:
            low = middle
    return high


def fewest_samples(fraction: float, confidence: float = CONFIDENCE) -> int:
    """The fewest requests that any percentile may be computed from: enough to drop one outlier and still confirm it."""
    return find_min_passing(1, fraction, confidence) + 1


def percentile_estimate(ordered: Sequence[float], fraction: float, confidence: float = CONFIDENCE) -> Estimate | None:
    """The lowest bound that samples in ascending order confirm for the percentile; None where they are too few.

    LoadGen's for SingleStream and MultiStream: with t the largest count for which `find_min_passing(t) + t` does not
    exceed the number of samples, the t - 1 slowest are discarded and the slowest of the rest is the estimate.
    """
    samples = len(ordered)
    if samples < fewest_samples(fraction, confidence):
        return None
    low, high = 1, samples  # low may be counted as over, high may not
    while high - low > 1:
        middle = (low + high) // 2
        if find_min_passing(middle, fraction, confidence) + middle <= samples:
            low = middle
        else:
            high = middle
    return Estimate(ordered[samples - low], low - 1)


def _chance(under: float, over: float, fraction: float) -> float:
    """P(`over` or fewer of `under + over` requests exceed the bound | each does with chance 1 - fraction)."""
    return float(betainc(under, over + 1, fraction))


def _check(fraction: float, confidence: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(f"a fraction between 0 and 1 is needed, not {fraction}")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence between 0 and 1 is needed, not {confidence}")
