"""What is learned of forwards by batch size, by tables."""

import pytest
from dlserve.forward_times import ForwardTimes


def learned(seconds: dict[int, float], rounds: int = 1) -> ForwardTimes:
    times = ForwardTimes()
    for _ in range(rounds):
        for size, one in seconds.items():
            times.learn(size, one)
    return times


@pytest.mark.parametrize(
    ("seen", "size", "expected"),
    [
        ({}, 3, 0.0),  # nothing
        ({4: 0.08}, 4, 0.08),  # itself
        ({4: 0.08}, 3, 0.06),  # below the smallest: in proportion
        ({4: 0.08}, 8, 0.16),  # beyond the only one: in proportion
        ({1: 0.02, 5: 0.04}, 3, 0.03),  # between two: a straight line
        ({1: 0.02, 5: 0.04}, 9, 0.06),  # beyond the largest: as it grew so far
        ({1: 0.02, 5: 0.01}, 9, 0.01),  # and never less than the largest
    ],
)
def test_a_size_is_expected_by_the_nearest_that_were_seen(seen: dict[int, float], size: int, expected: float) -> None:
    assert learned(seen).seconds(size) == pytest.approx(expected)


def test_the_first_forward_of_a_size_is_forgotten_and_the_others_fade() -> None:
    times = learned({1: 5.0})
    assert times.seconds(1) == 5.0
    times.learn(1, 0.1)
    assert times.seconds(1) == 0.1
    times.learn(1, 0.2)
    assert times.seconds(1) == pytest.approx(0.12)


def test_a_forward_that_was_interrupted_is_no_more_than_an_unusual_one_and_a_change_that_lasts_is_followed() -> None:
    times = ForwardTimes()
    for round_ in range(40):
        times.learn(1, 0.1 + (0.002 if round_ % 2 else -0.002))
    before = times.seconds(1)
    assert before == pytest.approx(0.1, abs=0.001)
    times.learn(1, 0.3)
    assert times.seconds(1) - before < 0.001, "a mean would be 40 ms above it"
    for _ in range(20):
        times.learn(1, 0.2)
    assert times.seconds(1) == pytest.approx(0.2, rel=0.1)


def test_of_the_first_of_a_size_the_quickest_counts() -> None:
    times = ForwardTimes()
    for seconds in (0.5, 0.05, 0.03, 0.02, 0.025):
        times.learn(2, seconds)
    assert times.seconds(2) == pytest.approx(0.02, abs=0.002)


def test_a_size_that_has_not_come_for_long_is_learned_anew_from_a_few() -> None:
    times = learned({1: 0.01, 2: 0.03}, 16)
    for _ in range(100):
        times.learn(1, 0.01)
    assert times.limit(32) == 1
    for size in (2, 1, 2, 1, 2):
        times.learn(size, 0.012 if size == 2 else 0.01)
    soon = times.seconds(2)
    for _ in range(70):
        times.learn(1, 0.01)
    times.learn(2, 0.012)
    assert soon < 0.018, "half of the way by the first, and those after it count in full: it is not known what is usual"
    assert times.seconds(2) < 0.015


@pytest.mark.parametrize(
    ("seen", "limit"),
    [
        ({1: 0.01}, 32),  # no larger one was seen
        ({1: 0.01, 2: 0.011, 4: 0.013}, 32),  # they pay as far as was seen
        ({1: 0.01, 2: 0.02}, 1),  # a larger one does not pay
        ({1: 0.01, 2: 0.0196}, 1),  # nor does one that gains less than 3 %
        ({1: 0.01, 2: 0.0192}, 32),  # but one that gains more
        ({1: 0.01, 2: 0.012, 4: 0.024, 8: 0.05}, 2),  # they pay up to 2
        ({1: 0.01, 2: 0.02, 8: 0.03}, 32),  # but at 8 they pay again
    ],
)
def test_growth_stops_where_the_time_per_image_has_stopped_falling(seen: dict[int, float], limit: int) -> None:
    assert learned(seen, 16).limit(32) == limit
    assert learned(seen, 16).pays_up_to == limit % 32, "0 where there is none"
    assert learned(seen).limit(32) == 32, "a single forward of each is no judgement"


def test_once_in_a_while_a_batch_may_grow_all_the_same_so_that_a_wrong_judgement_ends() -> None:
    times = learned({1: 0.01, 2: 0.02}, 16)
    limits = [times.limit_now(32) for _ in range(128)]
    assert (limits.count(1), limits.count(2)) == (120, 8)
    for _ in range(40):
        times.learn(2, 0.011)
    assert times.limit_now(32) == 32
