"""How wrong a mean or a percentile may be: confidence intervals. Pure; the same samples give the same interval.

Latencies under load are not independent: requests that wait in one queue are slow together, and then n of them tell less
than n. Taking them as independent gives an interval that is too narrow (a test shows by how much). So the mean takes the
samples in the order of time and a block length, and the percentile takes the effective number of samples.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

SEED = 20_180_401
"""Of the resampling: fixed, so that a report redone later says the same."""

RESAMPLES = 2000
"""Enough for the 2.5 % tails: their rank then has a standard error of 0.35 percent points."""

MOST_GROUPS = 500
"""More are not resampled: samples are summed up in this many groups first."""

FEWEST_GROUPS = 12
"""Fewer independent pieces than this give no interval."""

_CHUNK = 100
"""Resamples at a time: at most _CHUNK * MOST_GROUPS numbers are held."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true value lies, with the confidence asked for."""

    low: float
    high: float


def mean_interval(samples_s: ArrayLike, confidence: float = 0.95, *, block: int = 1) -> Interval | None:
    """An interval for the true mean, by the bootstrap-t; None where the samples cannot tell.

    They cannot where there are fewer than FEWEST_GROUPS blocks of them, or nearly all are exactly alike.

    The bootstrap-t (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5) resamples the mean in units of
    its own standard error, so that the interval leans to where a skewed distribution can surprise; BCa covered less in
    samples of tens. `block`: samples in the order of time are resampled in stretches of at least this many
    (Carlstein 1986; Lahiri 2003, chapter 2), which keeps the dependence between neighbours; block_length says how many.

    More than MOST_GROUPS samples are first summed up in that many stretches of equal length. The mean's skewness, which
    is what sets the bootstrap-t apart from the normal interval, is the same from sums of stretches: only stretches of unequal
    sums are drawn anew. So a million samples cost no more than 500, and memory is bounded.
    """
    _check(confidence)
    samples = np.asarray(samples_s, dtype=np.float64)
    if block < 1:
        raise ValueError(f"a block of at least one sample is needed, not {block}")
    groups = min(samples.size // block, MOST_GROUPS)
    if groups < FEWEST_GROUPS:
        return None
    mean = float(samples.mean())
    scaled = _deviations(samples, mean, groups)
    error = float(scaled.std(ddof=1)) / math.sqrt(groups)
    if error <= 1e-12 * abs(mean):  # all alike
        return Interval(mean, mean)
    ratios = _bootstrap_ratios(scaled)
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2], method="nearest")
    if not math.isfinite(low) or not math.isfinite(
        high
    ):  # nearly all alike: the few others cannot tell how rare they are
        return None
    return Interval(mean - float(high) * error, mean - float(low) * error)


def percentile_interval(
    ordered: Sequence[float], fraction: float, confidence: float = 0.95, *, effective: float | None = None
) -> Interval | None:
    """An interval for the true percentile, between two of the samples (in ascending order), without any assumption on shape.

    The number of samples below the true percentile is binomial, so its exact quantiles are the ranks of both ends
    (David and Nagaraja, Order Statistics, 2003, section 7.1); each end misses with a chance of at most half of what the
    confidence leaves. None where there are too few samples for either end: for 95 %, the p50 needs 6, the p90 36, the p99 368.

    `effective`: of how many independent samples the dependent ones are worth; the ranks are then those of that many, spread
    over the samples. For the percentile q that is `effective_samples` of (sample <= q), in the order of time.
    """
    _check(confidence)
    if not 0 < fraction < 1:
        raise ValueError(f"a fraction between 0 and 1 is needed, not {fraction}")
    samples = len(ordered)
    worth = samples if effective is None else max(0, min(samples, math.floor(effective)))
    if worth < 1:
        return None
    tail = (1 - confidence) / 2
    low = binomial_quantile(tail, worth, fraction)
    high = binomial_quantile(1 - tail, worth, fraction) + 1
    if low < 1 or high > worth:
        return None
    stretch = samples / worth
    first, last = math.floor(low * stretch), math.ceil(high * stretch)
    return Interval(ordered[max(first, 1) - 1], ordered[min(last, samples) - 1])


def binomial_quantile(chance: float, trials: int, part: float) -> int:
    """The smallest number of successes that is not exceeded with at least this chance; `part`: of trials that succeed.

    scipy.stats has it too, and takes as long to import as all else that a command of ours does before it begins.
    """
    return bisect_left(range(trials), chance, key=lambda successes: float(bdtr(successes, trials, part)))


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """An interval for the true part of successes: Wilson's (1927), which also holds near 0 and 1 and for few trials."""
    _check(confidence)
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"at least one trial and no more successes than trials are needed, not {successes} of {trials}"
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    part = successes / trials
    middle = (part + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(part * (1 - part) / trials + z**2 / (4 * trials**2))
    return Interval(
        low=0.0 if successes == 0 else middle - half,  # exactly, where rounding would miss it
        high=1.0 if successes == trials else middle + half,
    )


def effective_samples(in_time_order: ArrayLike) -> float:
    """Of how many independent samples the mean of these is worth: n / (1 + 2 * sum of the autocorrelations), at most n.

    The sum ends where a pair of neighbouring autocorrelations is no longer positive, and pairs may only fall: Geyer's
    initial monotone sequence (Practical Markov Chain Monte Carlo, Statistical Science 7, 1992, section 3.3).
    """
    samples = np.asarray(in_time_order, dtype=np.float64)
    count = samples.size
    if count < 4:
        return float(count)
    centred = samples - samples.mean()
    size = 1 << (2 * count - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), size)[:count]
    if covariance[0] <= 1e-24 * count * max(1.0, float(samples.mean()) ** 2):
        return float(count)  # all alike
    correlation = covariance / covariance[0]
    pairs = correlation[0 : count - count % 2 : 2] + correlation[1:count:2]
    ended = np.flatnonzero(pairs <= 0)
    kept = np.minimum.accumulate(pairs[: ended[0]] if ended.size else pairs)
    return float(count / max(1.0, 2 * kept.sum() - 1))


def block_length(in_time_order: ArrayLike) -> int:
    """How long a stretch of samples must be for mean_interval, so that stretches hardly depend on each other.

    Ten times the autocorrelation time n / effective_samples: the variance of the mean of stretches is then short by about 5 %.
    But no longer than a 20th of the samples, since their own spread must be seen too; 1 for independent samples.
    """
    samples = np.asarray(in_time_order, dtype=np.float64)
    effective = effective_samples(samples)
    time = samples.size / effective if effective else 1.0
    if time < 1.0 + 3.0 / math.sqrt(max(samples.size, 1)):  # within the noise of independent samples
        return 1
    return max(1, min(math.ceil(10 * time), samples.size // 20))


def _deviations(samples: NDArray[np.float64], mean: float, groups: int) -> NDArray[np.float64]:
    """Sums of the deviations from the mean over stretches of (almost) equal length, scaled so that their mean errs as it does."""
    starts = np.arange(groups) * samples.size // groups
    sums = np.add.reduceat(samples - mean, starts)
    scaled: NDArray[np.float64] = sums * (groups / samples.size)
    return scaled


def _bootstrap_ratios(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of resampled deviations, each divided by its resample's own standard error."""
    generator = np.random.default_rng(SEED)
    groups = deviations.size
    ratios = np.empty(RESAMPLES)
    for first in range(0, RESAMPLES, _CHUNK):
        drawn = deviations[generator.integers(groups, size=(_CHUNK, groups), dtype=np.int32)]
        means = drawn.mean(axis=1)
        squares = (
            np.einsum("ij,ij->i", drawn, drawn) - groups * means**2
        )  # no loss of digits: the deviations are about 0
        errors = np.sqrt(np.maximum(squares, 0.0) / (groups - 1) / groups)
        errors[errors < 1e-6 * np.abs(means)] = (
            0.0  # a resample of equal values has no error of its own: infinitely far out
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios[first : first + _CHUNK] = np.nan_to_num(means / errors, nan=0.0, posinf=math.inf, neginf=-math.inf)
    return ratios


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence between 0 and 1 is needed, not {confidence}")
