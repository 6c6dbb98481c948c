"""The policies at work: thousands of requests through the real batcher and cache, by a clock that is a number."""

import itertools
import math
import random

import pytest
from dlserve.eviction import EVICTIONS, Eviction
from dlserve.messages import Evicted, Loaded
from dlserve.worker.batcher import TURNS
from dlserve.worker.eviction import MOST_RESIDENCE_S

from tests.server.worker.simulation import Call, Simulation, early_evictions, zipf_calls

SEEDS = range(5)


@pytest.mark.parametrize("rate", [2.0, 6.0, 12.0])
def test_with_zipf_traffic_over_8_models_of_which_3_fit_value_is_at_least_as_good_as_lru(rate: float) -> None:
    """Acceptance 6: 5 seeds of 3,000 requests each; 12 a second is more than the worker can do without its batches."""
    for seed in SEEDS:
        found = {}
        for eviction in EVICTIONS:
            simulation = Simulation(8, fit=3, eviction=eviction, load_s=0.1, forward_s=0.01)
            found[eviction] = simulation.run(zipf_calls(3000, 8, 1.1, rate, seed))
            assert early_evictions(simulation.events) == []
            assert len(found[eviction].latencies_s) == 3000
        assert found["value"].hit_rate >= found["lru"].hit_rate
        assert found["value"].percentile(0.99) <= found["lru"].percentile(0.99)
        assert found["value"].loads < found["lru"].loads


def test_value_follows_traffic_that_changes() -> None:
    simulation = Simulation(6, fit=3, eviction="value", load_s=0.1, forward_s=0.01)
    draws = random.Random(1)
    calls = []
    for number in range(6000):
        hot = (0, 1, 2) if number < 3000 else (3, 4, 5)
        calls.append(Call(number, draws.choice(hot), due=number * 0.2))
    simulation.run(calls)
    last = [event for event in simulation.events if event.at > 1100]
    assert last == [], "the new three have taken the old ones' places and stay"
    assert [number for number in range(6) if number in simulation.cache] == [3, 4, 5]


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_two_models_that_take_turns_in_room_for_one_each_stay_as_long_as_their_load_took(eviction: Eviction) -> None:
    """Without a minimum residence each request would load: an evict-and-reload spiral."""
    simulation = Simulation(2, fit=1, eviction=eviction, load_s=0.1, forward_s=0.001)
    calls = [Call(number, number % 2, due=number * 0.01) for number in range(2000)]
    outcome = simulation.run(calls)
    assert early_evictions(simulation.events) == []
    assert simulation.longest_wait_s == pytest.approx(0.099), "what was earned, less the forward that ran meanwhile"
    assert outcome.loads <= math.ceil(simulation.now / 0.2) + 1, "a load, and as long again to be of use"
    assert outcome.hit_rate > 0.4


@pytest.mark.parametrize("load_s", [0.2, 4.0, 60.0])
def test_no_load_waits_for_room_longer_than_the_stated_most_whatever_comes_meanwhile(load_s: float) -> None:
    """The one that is next in line; those behind it wait for it and its load first, in the order of arrival."""
    simulation = Simulation(4, fit=1, eviction="value", load_s=load_s, forward_s=0.01)
    draws = random.Random(2)
    calls = [Call(number, draws.choice((0, 0, 0, 0, 0, 0, 1, 2, 3)), due=number * 0.05) for number in range(3000)]
    outcome = simulation.run(calls)
    assert 0 < simulation.longest_wait_s <= min(load_s, MOST_RESIDENCE_S)
    assert len(outcome.latencies_s) == 3000
    loaded = [event.service for event in simulation.events if isinstance(event, Loaded)]
    assert set(loaded) == {0, 1, 2, 3}


def test_loads_come_in_the_order_of_arrival_and_only_what_is_there_overtakes() -> None:
    simulation = Simulation(3, fit=1, eviction="lru", load_s=1.0, forward_s=0.01)
    calls = [Call(0, 0, 0.0), Call(1, 1, 0.5), Call(2, 2, 0.6), Call(3, 0, 1.2), Call(4, 2, 1.3), Call(5, 0, 1.4)]
    outcome = simulation.run(calls)
    assert [event.service for event in simulation.events if isinstance(event, Loaded)] == [0, 1, 2]
    assert outcome.hits == 2, "both later calls of the model that is there were answered before it left"


def test_a_cold_start_earns_its_model_no_stay() -> None:
    simulation = Simulation(2, fit=1, eviction="lru", load_s=1.0, forward_s=0.01)
    simulation.run([Call(0, 0, 0.0, alone=True), Call(1, 1, 0.1)])
    assert simulation.longest_wait_s == 0
    evicted = [event.at for event in simulation.events if isinstance(event, Evicted) and event.reason == "room"]
    assert evicted == [pytest.approx(1.01)]


@pytest.mark.parametrize("max_batch", [1, 8])
def test_a_rare_model_waits_for_no_more_than_the_stated_batches_of_a_hot_one(max_batch: int) -> None:
    """Issue 6, acceptance 7: under 95 % load of one model. The bound: the batch that runs, `TURNS` more, and its own."""
    forward_s, load_s = 0.02, 0.1
    simulation = Simulation(2, fit=2, eviction="lru", load_s=load_s, forward_s=forward_s, max_batch=max_batch)
    draws = random.Random(3)
    gaps = (draws.expovariate(0.95 / forward_s) for _ in range(20_000))
    calls = [Call(number, number % 200 == 199, due) for number, due in enumerate(itertools.accumulate(gaps))]
    outcome = simulation.run(calls)
    first, *others = outcome.of_model[1]
    bound_s = (1 + TURNS + 1) * forward_s
    assert first <= bound_s + load_s
    assert max(others) <= bound_s + 1e-9
    assert len(others) == 99
    if max_batch == 1:
        assert outcome.percentile(0.99) > 3 * bound_s, "the hot model's own calls wait far longer"
