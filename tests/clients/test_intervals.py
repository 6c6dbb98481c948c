"""dlclient.intervals: how often the intervals hold the truth, where the truth is known. All draws are seeded."""

from collections.abc import Callable

import numpy as np
import pytest
from dlclient.intervals import (
    Interval,
    binomial_quantile,
    block_length,
    effective_samples,
    mean_interval,
    percentile_interval,
    proportion_interval,
)
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import binom

Samples = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Samples]


def lognormal(generator: np.random.Generator, size: int) -> Samples:
    """Mean exp(1/2)."""
    return np.asarray(generator.lognormal(0, 1, size))


def bimodal(generator: np.random.Generator, size: int) -> Samples:
    """One in ten takes ten times as long. Mean 1.9."""
    return np.asarray(np.where(generator.random(size) < 0.1, 10.0, 1.0) * generator.normal(1, 0.05, size), np.float64)


def correlated(generator: np.random.Generator, size: int, correlation: float) -> Samples:
    """A stationary AR(1) around 10."""
    noise = generator.normal(size=size + 300)
    return np.asarray(lfilter([1], [1, -correlation], noise)[300:] + 10, np.float64)


def coverage(draw: Callable[[np.random.Generator], Interval | None], truth: float, runs: int = 300) -> float:
    """The share of seeded runs whose interval holds the truth."""
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(runs):
        interval = draw(generator)
        assert interval is not None
        held += interval.low <= truth <= interval.high
    return held / runs


@pytest.mark.parametrize(("draw", "truth"), [(lognormal, float(np.exp(0.5))), (bimodal, 1.9)])
@pytest.mark.parametrize("size", [50, 200, 2000])
def test_the_mean_is_in_its_interval_95_times_in_100(draw: Draw, truth: float, size: int) -> None:
    assert 0.92 <= coverage(lambda generator: mean_interval(draw(generator, size)), truth, 200) <= 0.99


def test_dependent_samples_taken_as_independent_give_too_narrow_an_interval() -> None:
    assert coverage(lambda generator: mean_interval(correlated(generator, 1000, 0.9)), 10, 100) < 0.6


@pytest.mark.parametrize(("size", "correlation"), [(1000, 0.5), (4000, 0.9)])
def test_resampling_in_blocks_makes_up_for_dependence(size: int, correlation: float) -> None:
    def interval(generator: np.random.Generator) -> Interval | None:
        samples = correlated(generator, size, correlation)
        return mean_interval(samples, block=block_length(samples))

    assert 0.90 <= coverage(interval, 10) <= 0.98


def test_stretches_of_many_samples_give_the_interval_of_single_ones() -> None:
    samples = lognormal(np.random.default_rng(4), 1_000_000)
    interval = mean_interval(samples)
    assert interval is not None
    error = float(samples.std()) / 1000
    assert interval.low == pytest.approx(float(samples.mean()) - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(float(samples.mean()) + 1.96 * error, abs=0.15 * error)


def test_a_mean_interval_leans_to_the_long_tail() -> None:
    samples = lognormal(np.random.default_rng(5), 60)
    interval = mean_interval(samples)
    assert interval is not None
    mean = float(samples.mean())
    assert interval.high - mean > mean - interval.low > 0


def test_a_higher_confidence_gives_a_wider_interval() -> None:
    samples = lognormal(np.random.default_rng(6), 500)
    narrow, wide = mean_interval(samples, 0.9), mean_interval(samples, 0.99)
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high
    assert mean_interval(samples, 0.9) == narrow


def test_samples_that_cannot_tell_give_no_interval() -> None:
    assert mean_interval([]) is None
    assert mean_interval([1.0] * 11) is None
    assert mean_interval([1.0] * 100, block=10) is None
    assert mean_interval([1.0] * 29 + [9.0]) is None


def test_equal_samples_have_an_interval_of_no_width() -> None:
    assert mean_interval([0.125] * 50) == Interval(0.125, 0.125)


@pytest.mark.parametrize(
    ("samples", "fraction", "confidence", "expected"),
    [
        (5, 0.5, 0.95, None),
        (6, 0.5, 0.95, Interval(1, 6)),  # 2 * 0.5**6 = 0.03
        (10, 0.5, 0.95, Interval(2, 9)),  # tables of the sign test
        (100, 0.5, 0.95, Interval(40, 61)),
        (367, 0.99, 0.95, None),  # 0.99**367 = 0.0250
        (368, 0.99, 0.95, Interval(360, 368)),
        (35, 0.9, 0.95, None),
        (36, 0.9, 0.95, Interval(29, 36)),
    ],
)
def test_the_ends_are_the_ranks_of_the_binomial(
    samples: int, fraction: float, confidence: float, expected: Interval | None
) -> None:
    ordered = [float(number) for number in range(1, samples + 1)]
    assert percentile_interval(ordered, fraction, confidence) == expected


@pytest.mark.parametrize(("fraction", "truth"), [(0.5, 1.0), (0.99, float(np.exp(2.3263478740408408)))])
def test_the_percentile_is_in_its_interval_at_least_95_times_in_100(fraction: float, truth: float) -> None:
    held = coverage(
        lambda generator: percentile_interval(np.sort(lognormal(generator, 900)).tolist(), fraction), truth, 1000
    )
    assert held >= 0.94


def test_a_percentile_of_dependent_samples_needs_their_effective_number() -> None:
    def interval(generator: np.random.Generator, *, mind: bool) -> Interval | None:
        samples = correlated(generator, 3000, 0.9)
        effective = effective_samples(samples <= np.median(samples)) if mind else None
        return percentile_interval(np.sort(samples).tolist(), 0.5, effective=effective)

    assert coverage(lambda generator: interval(generator, mind=False), 10) < 0.75
    assert coverage(lambda generator: interval(generator, mind=True), 10) >= 0.9


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_effective_number_is_that_of_an_autoregression(correlation: float) -> None:
    generator = np.random.default_rng(7)
    told = float(np.median([effective_samples(correlated(generator, 5000, correlation)) for _ in range(25)]))
    assert told == pytest.approx(5000 * (1 - correlation) / (1 + correlation), rel=0.15)


def test_equal_or_few_samples_are_worth_their_number() -> None:
    assert effective_samples([0.3] * 100) == 100
    assert effective_samples([1.0, 2.0]) == 2
    assert effective_samples([]) == 0
    assert block_length([]) == 1


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17, 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_the_interval_of_a_proportion_is_wilsons(successes: int, trials: int, low: float, high: float) -> None:
    found = proportion_interval(successes, trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("truth", [0.02, 0.5, 0.76, 0.99])
def test_the_interval_of_a_proportion_holds_the_truth_about_as_often_as_it_says(truth: float) -> None:
    drawn = np.random.default_rng(3).binomial(200, truth, 2000)
    held = [proportion_interval(int(count), 200) for count in drawn]
    assert np.mean([one.low <= truth <= one.high for one in held]) >= 0.92


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="no more successes"):
        proportion_interval(3, 2)
    with pytest.raises(ValueError, match="at least one trial"):
        proportion_interval(0, 0)
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([1.0] * 20, 95)
    with pytest.raises(ValueError, match="fraction"):
        percentile_interval([1.0] * 20, 99)
    with pytest.raises(ValueError, match="block"):
        mean_interval([1.0] * 20, block=0)


@pytest.mark.parametrize("trials", [1, 2, 6, 36, 368, 5000, 1_000_000])
@pytest.mark.parametrize("part", [0.001, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("chance", [0.005, 0.025, 0.5, 0.975])
def test_the_quantile_of_a_binomial_is_scipys(trials: int, part: float, chance: float) -> None:
    assert binomial_quantile(chance, trials, part) == binom.ppf(chance, trials, part)
