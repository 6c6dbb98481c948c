"""dlclient.bench.warming: it goes on until it is steady, and says so where it never was."""

from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat

import pytest
from dlclient.bench import warming
from dlclient.bench.job import Budget
from dlclient.bench.subject import Told
from dlclient.bench_result import Warming


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def warmed(seconds: Iterator[float], budget: Budget) -> Warming:
    clock = Clock()

    def infer(_: object) -> Told:
        clock.now += next(seconds)
        return Told()

    return warming.warm_up(infer, ["batch"], 1, budget, clock=clock)


def falling() -> Iterator[float]:
    """From a second down to a tenth of it, each 20 % shorter than the one before."""
    return (max(0.8**place, 0.1) for place in range(10_000))


@pytest.mark.parametrize(
    ("seconds", "iterations"),
    [
        (lambda: repeat(0.1), 9),  # three windows of three
        (lambda: repeat(0.001), 600),  # three windows of 0.2 s
        (lambda: chain([5.0, 3.0, 1.0], repeat(0.1)), 12),  # the first window does not agree with the others
    ],
)
def test_it_ends_when_three_windows_agree(seconds: Callable[[], Iterator[float]], iterations: int) -> None:
    found = warmed(seconds(), Budget())
    assert found.steady
    assert found.iterations == pytest.approx(iterations, abs=3)
    assert warming.warning(found, Budget()) is None


def test_what_gets_faster_all_the_time_is_not_steady_before_it_stops() -> None:
    found = warmed(falling(), Budget())
    assert found.steady
    assert 18 <= found.iterations <= 24


def test_it_is_warned_of_where_it_never_agrees() -> None:
    budget = Budget(warm_up_max_s=20.0)
    found = warmed(cycle([0.1] * 3 + [0.3] * 3), budget)
    assert found.steady is False
    assert 20.0 <= found.seconds < 20.4
    reason = warming.warning(found, budget)
    assert reason is not None
    assert "raise warm_up_max_s (now 20)" in reason.cure


@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_a_warm_up_of_a_fixed_length_is_not_judged(iterations: int) -> None:
    budget = Budget(warm_up_max_iterations=iterations)
    found = warmed(repeat(0.01), budget)
    assert (found.iterations, found.steady) == (iterations, None)
    assert warming.warning(found, budget) is None


def test_the_least_of_iterations_is_kept() -> None:
    assert warmed(repeat(0.1), Budget(warm_up_min_iterations=50)).iterations >= 50
