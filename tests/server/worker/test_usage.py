"""What is learned of a model, with times as plain numbers."""

import random

import pytest
from dlserve.worker.usage import REMEMBERED_S, Usage


def test_the_rate_is_that_of_the_requests_and_fades_once_they_end() -> None:
    usage, draws, now = Usage(), random.Random(5), 0.0
    while now < 10 * REMEMBERED_S:
        now += draws.expovariate(4.0)
        usage.used(now, 1)
    assert usage.rate(now) == pytest.approx(4.0, rel=0.15)  # 480 requests are remembered: 5 % of noise
    later = usage.rate(now + REMEMBERED_S)
    assert later == pytest.approx(usage.rate(now) / 2.71828, rel=1e-4)
    assert usage.rate(now + 100 * REMEMBERED_S) < 1e-9


def test_a_batch_counts_for_all_its_requests_and_a_cold_start_for_none() -> None:
    several, single, cold = Usage(), Usage(), Usage()
    several.used(1.0, 8)
    for _ in range(8):
        single.used(1.0, 1)
    cold.used(1.0, 0)
    assert several.rate(2.0) == pytest.approx(single.rate(2.0))
    assert cold.rate(2.0) == 0
    assert cold.last_used == 1.0


def test_load_times_are_kept_for_each_move_and_guessed_by_bytes_before_the_first() -> None:
    usage = Usage()
    assert usage.move_s("disk", 500_000_000) == pytest.approx(0.5)
    usage.learn("disk", 2.0)
    usage.learn("host", 0.1)
    assert usage.move_s("disk", 500_000_000) == 2.0
    usage.learn("disk", 1.0)
    assert 1.0 < usage.move_s("disk", 500_000_000) < 2.0
    assert usage.move_s("host", 500_000_000) == 0.1
