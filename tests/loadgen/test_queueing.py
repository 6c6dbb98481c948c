"""tests/loadgen/queueing.py: theory against itself and against long seeded simulations."""

import math

import numpy as np
import pytest

from .queueing import capacity, response_percentile, response_within, simulate


def test_the_simulation_serves_in_order_with_so_many_servers() -> None:
    arrivals, responses = simulate(1000.0, 0.01, 2, 500, np.random.default_rng(1))
    free = [0.0, 0.0]
    for arrival, response in zip(arrivals.tolist(), responses.tolist(), strict=True):  # one event after the other
        start = max(arrival, free[0])
        free = sorted([free[1], start + 0.01])
        assert response == pytest.approx(start + 0.01 - arrival, abs=1e-9)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.3), (1, 0.7), (1, 0.9), (2, 0.3), (2, 0.7), (2, 0.9), (4, 0.8)])
def test_theory_and_a_long_simulation_agree(servers: int, load: float) -> None:
    rate = load * servers / 0.01
    _, responses = simulate(rate, 0.01, servers, 2_000_000, np.random.default_rng(2))
    for fraction in (0.5, 0.9, 0.99):
        theory = response_percentile(fraction, rate, 0.01, servers)
        assert float(np.quantile(responses[10_000:], fraction)) == pytest.approx(theory, rel=0.02)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.9])
def test_the_mean_of_one_server_is_that_of_pollaczek_and_khinchine(load: float) -> None:
    steps = np.arange(0, 3.0, 1e-4)
    beyond = [1 - response_within(float(step), load / 0.01, 0.01, 1) for step in steps[:20000:10]]
    assert sum(beyond) * 1e-3 == pytest.approx(0.01 * (1 + load / (2 * (1 - load))), abs=1e-3)


def test_one_server_that_is_free_serves_at_once() -> None:
    assert response_within(0.01, 50.0, 0.01, 1) == pytest.approx(0.5)  # 1 - load
    assert response_within(0.009, 50.0, 0.01, 1) == 0.0
    assert response_percentile(0.5, 10.0, 0.01, 1) == 0.01


def test_overload_has_no_percentile() -> None:
    assert math.isinf(response_percentile(0.5, 100.0, 0.01, 1))
    with pytest.raises(ValueError, match="equilibrium"):
        response_within(0.1, 200.0, 0.01, 1)


@pytest.mark.parametrize("servers", [1, 2])
def test_the_percentile_at_capacity_is_the_bound(servers: int) -> None:
    rate = capacity(0.99, 0.05, 0.01, servers)
    assert response_percentile(0.99, rate, 0.01, servers) == pytest.approx(0.05, rel=2e-3)


def test_a_bound_below_the_service_time_leaves_no_capacity() -> None:
    assert capacity(0.99, 0.009, 0.01, 2) == 0.0
    assert capacity(0.5, 10.0, 0.01, 1) == pytest.approx(99.5)
