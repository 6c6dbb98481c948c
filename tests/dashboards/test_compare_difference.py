"""Intervals of differences: how often they hold the truth, by simulation, and what must come out by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from dlreport.compare.difference import RATE, Change, Timed, changes, mover, paired_ratio
from numpy.typing import NDArray

TRUTH = 1.1
Array = NDArray[np.float64]


def latencies(generator: np.random.Generator, number: int, *, dependence: float = 0.0, spread: float = 0.3) -> Array:
    """Lognormal with median 1 s, neighbours correlated."""
    noise = generator.normal(size=number)
    steps = np.empty(number)
    steps[0] = noise[0]
    for index in range(1, number):
        steps[index] = dependence * steps[index - 1] + math.sqrt(1 - dependence**2) * noise[index]
    result: Array = np.exp(spread * steps)
    return result


def one_after_the_other(times: Array, *, plan: bool = False) -> Timed:
    """One user's requests; with a plan, of which each is the same in another run."""
    done = np.cumsum(times)
    keys = tuple((index,) for index in range(times.size)) if plan else ()
    waited, completions = (times, ()) if plan else ((), done)
    return Timed(list(times), times.size / float(done[-1]), list(waited), list(completions), keys)


def covered(make: Callable[[], tuple[Timed, Timed]], runs: int) -> dict[str, float]:
    """How often each figure's interval held the true change of B's times over A's."""
    hits: dict[str, list[bool]] = {}
    for _ in range(runs):
        for change in changes(*make()):
            if change.ratio is not None:
                low, high = change.ratio
                truth = 1 / TRUTH if change.figure == RATE else TRUTH
                hits.setdefault(change.figure, []).append(low <= truth <= high)
    return {figure: sum(found) / len(found) for figure, found in hits.items()}


def test_intervals_hold_the_true_change_as_often_as_they_say_of_independent_samples() -> None:
    generator = np.random.default_rng(1)

    def make() -> tuple[Timed, Timed]:
        return (
            one_after_the_other(latencies(generator, 150)),
            one_after_the_other(TRUTH * latencies(generator, 150)),
        )

    found = covered(make, 200)
    assert set(found) == {"mean", "p50", "p90", RATE}
    assert min(found.values()) >= 0.91  # 0.95 less 2.6 standard errors of 200 runs


def test_intervals_hold_the_true_change_where_requests_were_slow_together() -> None:
    generator = np.random.default_rng(2)

    def make() -> tuple[Timed, Timed]:
        return (
            one_after_the_other(latencies(generator, 400, dependence=0.6)),
            one_after_the_other(TRUTH * latencies(generator, 400, dependence=0.6)),
        )

    assert min(covered(make, 150).values()) >= 0.90


def test_a_plan_that_both_followed_narrows_the_mean_and_still_holds_the_truth() -> None:
    generator = np.random.default_rng(3)
    of_model = np.array([1.0, 5.0, 2.0, 1.5])[generator.integers(4, size=200)]
    widths = []

    def make() -> tuple[Timed, Timed]:
        a, b = of_model * latencies(generator, 200), TRUTH * of_model * latencies(generator, 200)
        pair = one_after_the_other(a, plan=True), one_after_the_other(b, plan=True)
        alone = changes(one_after_the_other(a), one_after_the_other(b))[0].ratio
        together = changes(*pair)[0].ratio
        assert alone is not None
        assert together is not None
        widths.append((alone[1] - alone[0], together[1] - together[0]))
        return pair

    found = covered(make, 100)
    assert min(found["mean"], found[RATE]) >= 0.89
    independent, paired = (float(np.mean([pair[side] for pair in widths])) for side in (0, 1))
    assert paired < 0.65 * independent


def test_a_slowdown_of_a_tenth_is_found_and_equal_runs_are_not_told_apart() -> None:
    generator = np.random.default_rng(4)
    slower, different = 0, 0
    for _ in range(40):
        one, other, third = (latencies(generator, 300, spread=0.15) for _ in range(3))
        found = changes(one_after_the_other(one), one_after_the_other(1.1 * other))
        slower += found[0].outcome == "slower" and found[1].outcome == "slower" and found[4].outcome == "slower"
        different += changes(one_after_the_other(one), one_after_the_other(third))[0].outcome != "no difference"
    assert slower >= 38
    assert different <= 6  # 5 % of 40 are 2; more than 6 has a chance of 1 in 70


def test_a_ratio_of_intervals_is_that_computed_by_hand() -> None:
    found = mover(1.0, 2.0, (math.exp(-0.3), math.exp(0.4)), (2 * math.exp(-0.3), 2 * math.exp(0.4)))
    assert found == pytest.approx((2 * math.exp(-0.5), 2 * math.exp(0.5)))


def test_what_reaches_zero_or_is_missing_has_no_ratio() -> None:
    assert mover(1.0, 1.0, (-0.1, 2.0), (0.9, 1.1)) is None
    assert mover(1.0, None, (0.9, 1.1), (0.9, 1.1)) is None
    assert mover(1.0, 1.0, None, (0.9, 1.1)) is None


def test_a_run_against_itself_differs_by_nothing_at_all() -> None:
    times = list(np.random.default_rng(5).exponential(size=100))
    assert paired_ratio(times, times) == pytest.approx((1.0, 1.0))


def test_every_request_a_tenth_slower_is_a_tenth_with_no_width() -> None:
    times = np.random.default_rng(5).exponential(size=100)
    assert paired_ratio(list(times), list(1.1 * times)) == pytest.approx((1.1, 1.1))


def test_too_few_samples_cannot_tell() -> None:
    few = one_after_the_other(np.array([1.0, 1.1, 0.9, 1.0, 1.2]))
    assert {change.outcome for change in changes(few, few)} == {"cannot tell"}


@pytest.mark.parametrize(
    ("figure", "ratio", "outcome"),
    [
        ("p50", (1.01, 1.2), "slower"),
        ("p50", (0.8, 0.99), "faster"),
        (RATE, (1.01, 1.2), "faster"),
        (RATE, (0.8, 0.99), "slower"),
        ("p50", (0.99, 1.2), "no difference"),
        ("p50", (1.0, 1.2), "no difference"),
    ],
)
def test_more_images_are_faster_and_more_seconds_slower(figure: str, ratio: tuple[float, float], outcome: str) -> None:
    assert Change(figure, 1.0, sum(ratio) / 2, ratio).outcome == outcome
