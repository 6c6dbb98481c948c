"""dlclient.stability: windows by hand; drift on noise, which has none, and on queues that grow, which have."""

import math

import numpy as np
import pytest
from dlclient.stability import Window, agree, drift, windows


def window(mean_s: float | None, count: int = 100) -> Window:
    return Window(start_s=0.0, end_s=1.0, count=count, mean_s=mean_s, median_s=mean_s)


def queue(load: float, requests: int, generator: np.random.Generator) -> list[tuple[float, float]]:
    """(due, latency) of an M/D/1 that begins empty, with a service time of 10 ms."""
    due = np.cumsum(generator.exponential(0.01 / load, requests))
    work = 0.01 * np.arange(requests)
    latency = np.maximum.accumulate(due - work) + work + 0.01 - due
    return list(zip(due.tolist(), latency.tolist(), strict=True))


def steady(requests: int, generator: np.random.Generator) -> list[tuple[float, float]]:
    """Independent lognormal latencies."""
    latencies = generator.lognormal(-4, 0.8, requests)
    return [(index * 0.01, latency) for index, latency in enumerate(latencies.tolist())]


def test_samples_fall_into_the_window_they_were_due_in() -> None:
    first, second = windows([(0.0, 1.0), (0.9, 3.0), (1.0, 5.0), (2.0, 9.0), (-0.1, 9.0)], 2, 0.0, 2.0)
    assert (first.start_s, first.end_s, first.count, first.mean_s, first.rate_per_s) == (0.0, 1.0, 2, 2.0, 2.0)
    assert (second.start_s, second.end_s, second.count, second.median_s) == (1.0, 2.0, 1, 5.0)


def test_a_window_without_samples_has_no_latency() -> None:
    assert windows([], 1, 0.0, 1.0)[0].mean_s is None
    with pytest.raises(ValueError, match="windows"):
        windows([], 0, 0.0, 1.0)
    with pytest.raises(ValueError, match="windows"):
        windows([], 3, 1.0, 1.0)


@pytest.mark.parametrize(
    ("means", "counts", "expected"),
    [
        ((1.0, 1.0, 1.0), (100, 100, 100), True),
        ((9.0, 1.0, 1.05, 0.95), (1, 100, 100, 100), True),  # only the last three count
        ((1.0, 1.0, 1.2), (100, 100, 100), False),
        ((1.0, 1.0, 1.0), (100, 100, 130), False),
        ((1.0, 1.0), (100, 100), False),
        ((1.0, 1.0, None), (100, 100, 100), False),
    ],
)
def test_three_windows_agree_within_a_tenth(
    means: tuple[float | None, ...], counts: tuple[int, ...], expected: bool
) -> None:
    found = agree([window(mean, count) for mean, count in zip(means, counts, strict=True)])
    assert found.agree is expected


def test_a_disagreement_says_how_large_it_is() -> None:
    found = agree([window(1.0), window(1.0), window(1.3)])
    assert found.latency_spread == pytest.approx(0.2 / 1.1)
    assert found.rate_spread == 0.0
    assert math.isinf(agree([]).latency_spread)


def test_a_drift_below_what_the_clock_may_be_wrong_by_is_none() -> None:
    falling = [(float(index), 0.0006 - 0.000001 * index) for index in range(100)]
    assert drift(falling) is not None
    assert drift(falling, least_s=0.0002) is None
    assert drift(falling, least_s=0.00005) is not None


@pytest.mark.parametrize("requests", [500, 1500, 5000])
def test_pure_noise_is_called_a_drift_less_than_once_in_a_hundred(requests: int) -> None:
    generator = np.random.default_rng(11)
    assert sum(drift(steady(requests, generator)) is not None for _ in range(400)) < 4


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_a_queue_in_equilibrium_is_steady(load: float) -> None:
    generator = np.random.default_rng(12)
    assert sum(drift(queue(load, 5000, generator)) is not None for _ in range(200)) < 4


@pytest.mark.parametrize(("load", "requests"), [(1.1, 1500), (1.2, 500), (1.5, 500), (1.05, 5000), (3.0, 200)])
def test_a_queue_that_grows_without_bound_is_always_found(load: float, requests: int) -> None:
    generator = np.random.default_rng(13)
    for _ in range(100):
        found = drift(queue(load, requests, generator))
        assert found is not None
        assert found.grows


def test_the_finding_has_numbers_and_a_cure() -> None:
    found = drift(queue(1.5, 1000, np.random.default_rng(14)))
    assert found is not None
    assert found.last_s == pytest.approx(1000 * 0.01 / 3, rel=0.2)  # the backlog: a third of the work that came
    assert found.concordance > 0.9
    assert found.chance < 1e-6
    reason = found.reason("open")
    assert reason.code == "unstable-windows"
    assert reason.text.startswith("open: latency rose all through the phase, from about ")
    assert "--rate" in reason.cure


def test_a_server_that_warms_up_is_found_too() -> None:
    found = drift([(float(index), 0.1 - 0.0005 * index) for index in range(100)])
    assert found is not None
    assert not found.grows
    assert "--warmup" in found.reason("warm").cure


def test_a_sure_but_tiny_trend_is_no_finding() -> None:
    assert drift([(float(index), 1.0 + 0.0005 * index) for index in range(100)]) is None


def test_too_few_or_equal_samples_have_no_trend() -> None:
    assert drift([]) is None
    assert drift([(float(index), float(index)) for index in range(39)]) is None
    assert drift([(float(index), 0.1) for index in range(1000)]) is None
