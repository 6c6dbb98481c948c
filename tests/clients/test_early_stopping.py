"""dlclient.early_stopping: LoadGen's own figures, the binomial as a second opinion, and claims against a simulated truth."""

import numpy as np
import pytest
from dlclient.early_stopping import fewest_samples, find_min_passing, judge_claim, percentile_estimate
from dlclient.statistics import PERCENTILE_FLOORS
from scipy.stats import binom


@pytest.mark.parametrize(
    ("fraction", "over", "requests"),
    [
        # of MLPerf's Server scenario without an outlier: ceil(log 0.01 / log p), as LoadGen begins its search
        (0.9, 0, 44),
        (0.95, 0, 90),
        (0.99, 0, 459),
        (0.999, 0, 4603),
        # "Need to process at least ... queries for early stopping" of LoadGen's SingleStream (p90) and MultiStream (p99)
        (0.9, 1, 64),
        (0.99, 1, 662),
        (0.999, 1, 6636),
        (0.9, 2, 81),
        (0.99, 2, 838),
        (0.99, 10, 2010),
    ],
)
def test_so_many_requests_confirm_a_percentile(fraction: float, over: int, requests: int) -> None:
    assert find_min_passing(over, fraction) + over == requests
    assert judge_claim(requests, over, fraction).confirmed
    assert not judge_claim(requests - 1, over, fraction).confirmed
    assert judge_claim(requests - 1, over, fraction).more == 1


@pytest.mark.parametrize("fraction", [0.9, 0.99, 0.999])
def test_the_sample_floors_are_those_of_early_stopping(fraction: float) -> None:
    assert fewest_samples(fraction) == PERCENTILE_FLOORS[fraction]


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.97, 0.99])
@pytest.mark.parametrize("over", [0, 1, 7, 50])
def test_the_fewest_passing_are_those_of_the_binomial(fraction: float, over: int) -> None:
    under = find_min_passing(over, fraction)
    assert binom.cdf(over, under + over, 1 - fraction) < 0.01
    assert binom.cdf(over, under + over - 1, 1 - fraction) >= 0.01


def test_a_claim_is_confirmed_refuted_or_open() -> None:
    assert judge_claim(2000, 3, 0.99).confirmed
    assert judge_claim(2000, 40, 0.99).refuted
    open_claim = judge_claim(2000, 20, 0.99)
    assert (open_claim.confirmed, open_claim.refuted) == (False, False)
    assert judge_claim(2000 + open_claim.more, 20, 0.99).confirmed


def test_nothing_confirms_nothing() -> None:
    claim = judge_claim(0, 0, 0.99)
    assert (claim.confirmed, claim.refuted, claim.more) == (False, False, 459)
    assert judge_claim(5, 5, 0.99).refuted


def test_a_server_at_the_edge_is_hardly_ever_confirmed_or_refuted() -> None:
    generator = np.random.default_rng(1)
    claims = [judge_claim(3000, int(over), 0.99) for over in generator.binomial(3000, 0.01, 4000)]
    assert sum(claim.confirmed for claim in claims) <= 0.015 * len(claims)
    assert sum(claim.refuted for claim in claims) <= 0.015 * len(claims)


def test_the_estimate_discards_as_many_as_early_stopping_allows() -> None:
    assert percentile_estimate([1.0] * 63, 0.9) is None
    for samples, discarded in ((64, 0), (80, 0), (81, 1), (96, 1), (97, 2)):
        estimate = percentile_estimate([float(number) for number in range(1, samples + 1)], 0.9)
        assert estimate is not None
        assert (estimate.discarded, estimate.seconds) == (discarded, samples - discarded)


@pytest.mark.parametrize(("samples", "discarded"), [(64, 0), (81, 1), (97, 2), (662, 47), (2010, 168)])
def test_the_real_loadgen_discards_as_many(samples: int, discarded: int) -> None:
    # "Would discard ... highest latency queries" of the summaries of mlcommons-loadgen 6.0.17, SingleStream, p90
    estimate = percentile_estimate([0.1] * samples, 0.9)
    assert estimate is not None
    assert estimate.discarded == discarded


def test_the_estimate_is_above_the_true_percentile_99_times_in_100() -> None:
    generator = np.random.default_rng(2)
    truth = float(np.exp(1.2815515655446004))  # p90 of the standard lognormal
    below = 0
    for _ in range(1000):
        estimate = percentile_estimate(np.sort(generator.lognormal(size=500)).tolist(), 0.9)
        assert estimate is not None
        below += estimate.seconds < truth
    assert below <= 20


@pytest.mark.parametrize(("requests", "over"), [(10, 11), (10, -1)])
def test_impossible_counts_are_refused(requests: int, over: int) -> None:
    with pytest.raises(ValueError, match="over the bound"):
        judge_claim(requests, over, 0.9)


def test_fractions_and_confidences_are_between_0_and_1() -> None:
    with pytest.raises(ValueError, match="fraction"):
        find_min_passing(1, 1.0)
    with pytest.raises(ValueError, match="confidence"):
        find_min_passing(1, 0.9, 1.0)
    with pytest.raises(ValueError, match="count"):
        find_min_passing(-1, 0.9)
