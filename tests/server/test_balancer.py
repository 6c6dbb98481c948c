"""The policies, by tables: no server, no clock."""

from collections import Counter

import pytest
from dlserve.front.balancer import Expectation, Request, WorkerView, cost_s, policy

ONE, TWO = 1, 2


def request(cache: str | None = None, forward_s: float = 0.01, load_s: float = 0.1) -> Request:
    return Request(ONE, 1, cache, forward_s, load_s)  # type: ignore[arg-type]


def worker(index: int, in_flight: int = 0, work_s: float = 0.0, holds: tuple[int, ...] = ()) -> WorkerView:
    return WorkerView(index, in_flight, work_s, dict.fromkeys(holds, "warm"))


@pytest.mark.parametrize(
    ("workers", "asked", "chosen"),
    [
        ([worker(0), worker(1, holds=(ONE,))], request(), 1),  # idle both: the one that holds the weights
        ([worker(0, 1, 0.05), worker(1)], request(), 1),  # none holds them: the one with less work
        ([worker(0), worker(1, 1, 0.05, (ONE,))], request(), 1),  # waiting is cheaper than loading
        ([worker(0), worker(1, 3, 0.15, (ONE,))], request(), 0),  # the queue costs more than a load: replicate
        ([worker(0), worker(1, 1, 0.05, (ONE,))], request(cache="disk"), 0),  # it must load anyway
        ([worker(0, holds=(TWO,)), worker(1, holds=(ONE,))], request(cache="warm"), 1),
        ([worker(0, 2, 0.0, (ONE,)), worker(1, 1, 0.0, (ONE,))], request(), 1),  # equal work: fewer calls
    ],
)
def test_predicted_chooses_who_would_finish_first(workers: list[WorkerView], asked: Request, chosen: int) -> None:
    assert policy("predicted", 0)(asked, workers, 8) == chosen


def test_predicted_stays_with_the_worker_it_used_last_while_all_are_idle_and_spreads_what_comes_at_once() -> None:
    choose = policy("predicted", 0)
    idle = [worker(index, holds=(ONE,)) for index in range(4)]
    assert choose(request(), [idle[2]], 8) == 0
    assert [choose(request(), idle, 8) for _ in range(3)] == [2, 2, 2]
    chosen = []
    for _ in range(8):
        position = choose(request(), idle, 8)
        assert position is not None
        idle[position].in_flight += 1
        idle[position].work_s += 0.01
        chosen.append(position)
    assert Counter(chosen) == {0: 2, 1: 2, 2: 2, 3: 2}


@pytest.mark.parametrize("name", ["least-loaded", "round-robin", "random"])
def test_equal_idle_workers_share_the_work(name: str) -> None:
    choose = policy(name, 7)
    workers = [worker(index) for index in range(4)]
    counts = Counter(choose(request(), workers, 8) for _ in range(400))
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) <= (150 if name == "random" else 100)


@pytest.mark.parametrize("name", ["predicted", "least-loaded", "round-robin", "random"])
def test_a_full_queue_is_never_chosen_and_all_full_is_none(name: str) -> None:
    choose = policy(name, 7)
    assert {choose(request(), [worker(0, 8), worker(1, 7), worker(2, 8)], 8) for _ in range(20)} == {1}
    assert choose(request(), [worker(0, 8), worker(1, 9)], 8) is None


def test_least_loaded_counts_calls() -> None:
    assert policy("least-loaded", 0)(request(), [worker(0, 2), worker(1, 1, 9.0), worker(2, 3)], 8) == 1


def test_the_random_policy_repeats_itself_for_a_seed() -> None:
    workers = [worker(index) for index in range(8)]
    draws = [[policy("random", seed)(request(), workers, 8)] for seed in (5, 5)]
    assert draws[0] == draws[1]
    first, second = policy("random", 5), policy("random", 5)
    assert [first(request(), workers, 8) for _ in range(50)] == [second(request(), workers, 8) for _ in range(50)]


def test_expectations_follow_what_replies_report() -> None:
    expected = Expectation(weights_bytes=500_000_000)
    assert expected.expected_load_s() == pytest.approx(0.5)  # by its bytes, before one was seen
    expected.learn_load(0.2)
    expected.learn_load(0.3)
    assert expected.expected_load_s() == pytest.approx(0.8 * 0.2 + 0.2 * 0.3)
    expected.learn_forward(0.08, batch_size=4)
    assert expected.forward_s(3) == pytest.approx(0.06)


def test_a_load_is_expected_from_the_tier_where_a_worker_has_the_weights() -> None:
    asked = Request(ONE, 1, None, forward_s=0.01, load_s=1.0, host_load_s=0.1)
    staged = WorkerView(1, staged={ONE})
    assert policy("predicted", 0)(asked, [worker(0), staged, worker(2)], 8) == 1
    assert cost_s(asked, staged) == pytest.approx(0.11)
    assert cost_s(asked, worker(0)) == pytest.approx(1.01)
    assert cost_s(asked, worker(0, holds=(ONE,))) == pytest.approx(0.01)
    for cache, cost in (("host", 0.11), ("disk", 1.01)):
        cold = Request(ONE, 1, cache, 0.01, 1.0, 0.1)  # type: ignore[arg-type]  # plain text from a table
        assert cost_s(cold, worker(0, holds=(ONE,))) == pytest.approx(cost)


def test_load_times_are_learned_for_each_tier() -> None:
    expected = Expectation(weights_bytes=500_000_000)
    assert expected.expected_load_s("host") < expected.expected_load_s("disk")
    expected.learn_load(0.4)
    expected.learn_load(0.02, "host")
    assert (expected.expected_load_s(), expected.expected_load_s("host")) == (0.4, 0.02)


@pytest.mark.parametrize(
    ("forward_s", "in_flight", "picked"),
    [
        (5e-6, 3, 0),  # three of them are done before another worker would be awake
        (5e-6, 40, 1),
        (5e-3, 1, 1),
    ],
)
def test_predicted_wakes_an_idle_worker_only_where_that_pays(forward_s: float, in_flight: int, picked: int) -> None:
    busy = WorkerView(0, in_flight=in_flight, work_s=in_flight * forward_s, resident={ONE: "warm"})
    idle = WorkerView(1, resident={ONE: "warm"})
    assert policy("predicted", 0)(Request(ONE, 1, None, forward_s, 1.0), [busy, idle], 100) == picked
