"""The policies, by tables: no server, no clock."""

import random
from collections import Counter

import pytest
from dlserve.config import POLICIES
from dlserve.forward_times import ForwardTimes
from dlserve.front.balancer import Request, WorkerView, outlook
from dlserve.front.expectation import LEARN_EVERY_S, QUICK_S, Expectation
from dlserve.front.policies import AWAY_S, BOUND, OWED, policy

ONE, TWO = 1, 2


def cost_s(request: Request, worker: WorkerView) -> float:
    """What the request would add to the worker."""
    return outlook(request, worker)[2]


def finish_s(request: Request, worker: WorkerView) -> float:
    """When the worker would be done with the request, in seconds from now."""
    ahead_s, _, cost = outlook(request, worker)
    return ahead_s + cost


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


def waiting(now: float, deadline: float | None = None) -> Request:
    """A call of a model that takes 10 ms, and 100 ms to load."""
    return Request(ONE, 1, None, 0.01, 0.1, now=now, deadline=deadline)


def chosen_until(workers: list[WorkerView], gap_s: float, calls: int = 100) -> list[int | None]:
    """Where `predicted` sends calls that come so far apart, as long as nothing changes in the workers."""
    choose = policy("predicted", 0)
    return [choose(waiting(number * gap_s), workers, 8) for number in range(calls)]


def test_predicted_loads_on_an_idle_worker_what_calls_have_waited_for_long_enough_elsewhere() -> None:
    busy, idle = worker(0, 1, 0.05, (ONE,)), worker(1)
    chosen = chosen_until([busy, idle], gap_s=0.001)
    first = chosen.index(1)
    assert OWED * 0.1 / 0.05 <= first + 1 <= 1.1 * OWED * 0.1 / 0.05, "each call waits 50 ms, less what is forgotten"
    assert chosen.index(1, first + 1) == pytest.approx(2 * first + 1, abs=1), "then the next load has to be owed anew"


def test_predicted_forgets_waiting_that_is_seldom() -> None:
    assert set(chosen_until([worker(0, 1, 0.05, (ONE,)), worker(1)], gap_s=0.5)) == {0}


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([worker(1, holds=(TWO,)), worker(2, holds=(TWO,))], 1),  # either has the other model: none would miss it
        ([worker(1, holds=(TWO,)), worker(2)], 2),  # not where the only copy of another might have to leave
        ([worker(1, 1, 0.08), worker(2)], 2),  # not on a busy one
        ([WorkerView(1, prefetching={TWO}), worker(2)], 2),  # nor where a load is under way
        ([worker(1, holds=(ONE,))], 1),  # an idle one that has it is taken at once
    ],
)
def test_predicted_chooses_among_idle_workers_where_a_load_costs_the_others_least(
    others: list[WorkerView], chosen: int
) -> None:
    assert (
        chosen_until([worker(0, 1, 0.05, (ONE,)), *others], gap_s=0.001)[-1 if chosen == 1 and len(others) == 1 else 16]
        == chosen
    )


@pytest.mark.parametrize(
    "others",
    [
        [worker(1, 1, 0.2)],  # nobody is idle
        [WorkerView(1, 1, 0.11, {ONE: "expected"}), worker(2)],  # it is being loaded already
    ],
)
def test_predicted_owes_no_load_where_none_would_help_or_one_is_under_way(others: list[WorkerView]) -> None:
    assert set(chosen_until([worker(0, 1, 0.05, (ONE,)), *others], gap_s=0.001)) == {0}


def test_a_call_pays_for_no_load_that_would_make_it_miss_its_deadline() -> None:
    choose, workers = policy("predicted", 0), [worker(0, 1, 0.05, (ONE,)), worker(1)]
    short = [choose(waiting(number / 1000, number / 1000 + 0.1), workers, 8) for number in range(40)]
    assert set(short) == {0}
    assert choose(waiting(0.04, 0.24), workers, 8) == 1, "but it is owed, and the next that has the time does"


@pytest.mark.parametrize("name", ["least-loaded", "round-robin", "random"])
def test_equal_idle_workers_share_the_work(name: str) -> None:
    choose = policy(name, 7)
    workers = [worker(index) for index in range(4)]
    counts = Counter(choose(request(), workers, 8) for _ in range(400))
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) <= (150 if name == "random" else 100)


@pytest.mark.parametrize("name", POLICIES)
def test_a_full_queue_is_never_chosen_and_all_full_is_none(name: str) -> None:
    choose = policy(name, 7)
    assert {choose(request(), [worker(0, 8), worker(1, 7), worker(2, 8)], 8) for _ in range(20)} == {1}
    assert choose(request(), [worker(0, 8), worker(1, 9)], 8) is None


def test_least_loaded_counts_calls() -> None:
    assert policy("least-loaded", 0)(request(), [worker(0, 2), worker(1, 1, 9.0), worker(2, 3)], 8) == 1


@pytest.mark.parametrize("name", ["random", "two-choices"])
def test_a_policy_that_draws_repeats_itself_for_a_seed(name: str) -> None:
    workers = [worker(index) for index in range(8)]
    first, second, other = policy(name, 5), policy(name, 5), policy(name, 6)
    chosen = [[choose(request(), workers, 8) for _ in range(50)] for choose in (first, second, other)]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("in_flight", "chosen"),
    [
        ([5, 2], {1}),  # both are drawn: the one with fewer
        ([3, 3, 3, 0], {0, 1, 2, 3}),  # the idle one only where it is drawn
        ([8, 8, 4, 8], {2}),  # one has room
        ([8, 1, 7, 8], {1}),  # two have room
        ([0, 1, 2, 7], {0, 1, 2}),  # the fullest loses against whichever it is drawn with
    ],
)
def test_two_choices_takes_the_less_loaded_of_two(in_flight: list[int], chosen: set[int]) -> None:
    choose = policy("two-choices", 3)
    workers = [worker(index, count) for index, count in enumerate(in_flight)]
    assert {choose(request(), workers, 8) for _ in range(200)} == chosen


def of(service: int) -> Request:
    """A request of that service."""
    return Request(service, 1, None, 0.01, 0.1)


def test_affinity_gives_each_model_its_worker_and_all_workers_some() -> None:
    choose = policy("affinity", 0)
    idle = [worker(index) for index in range(8)]
    homes = [choose(of(service), idle, 8) for service in range(800)]
    assert [choose(of(service), idle, 8) for service in range(800)] == homes
    counts = Counter(homes)
    assert set(counts) == set(range(8))
    assert max(counts.values()) < 150


def test_affinity_moves_only_the_models_of_a_worker_that_has_gone() -> None:
    choose = policy("affinity", 0)
    idle = [worker(index) for index in range(8)]
    left = [one for one in idle if one.index != 3]
    for service in range(200):
        before, after = choose(of(service), idle, 8), choose(of(service), left, 8)
        assert before is not None
        assert after is not None
        assert before == 3 or left[after].index == before


def test_affinity_gives_no_worker_more_than_its_bounded_share_of_one_hot_model() -> None:
    choose = policy("affinity", 0)
    workers = [worker(index) for index in range(8)]
    for count in range(1, 161):
        position = choose(of(7), workers, 128)
        assert position is not None
        workers[position].in_flight += 1
        assert max(one.in_flight for one in workers) <= -(-BOUND * count // 8)
    assert sum(one.in_flight > 0 for one in workers) == 7, "of 8 workers so many, at 1.25 times an even share each"


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


def learned() -> ForwardTimes:
    """Of a model whose batches take 10 ms and 10 ms more for each image."""
    times = ForwardTimes()
    for size in (1, 2, 3, 4):
        times.learn(size, 0.01 + 0.01 * size)
    return times


def asked(now: float, service: int = ONE, most: int = 4, decode_s: float = 0.0, between_s: float = 0.0) -> Request:
    """A warm request for an image."""
    return Request(
        service, 1, None, 0.02, 0.0, now=now, decode_s=decode_s, most=most, times=learned(), between_s=between_s
    )


def test_a_call_is_expected_with_the_batch_that_it_joins_behind_what_is_left_of_the_one_that_runs() -> None:
    view = worker(0)
    assert finish_s(asked(0.0), view) == pytest.approx(0.02)
    first, _ = view.sent(asked(0.0))
    assert finish_s(asked(0.005), view) == pytest.approx(0.015 + 0.02)
    second, _ = view.sent(asked(0.005))
    assert finish_s(asked(0.01), view) == pytest.approx(0.01 + 0.03), "it shares the second's batch"
    other, _ = view.sent(asked(0.01, TWO))
    assert finish_s(asked(0.01), view) == pytest.approx(0.01 + 0.03), "which runs before the other model's"
    assert finish_s(asked(0.01, most=1), view) == pytest.approx(0.01 + 0.02 + 0.02 + 0.02), "or after it, if it is full"
    assert finish_s(asked(0.5), view) == pytest.approx(0.03), "what should be over long ago counts for nothing"
    view.answered(first, 1, 0.025)
    assert finish_s(asked(0.03), view) == pytest.approx(0.015 + 0.02 + 0.02), (
        "the second runs since then: none joins it"
    )
    view.answered(other, 1, 0.06)
    assert finish_s(asked(0.06), view) == pytest.approx(0.02 + 0.02), "what ran out of turn is gone"
    view.answered(second, 1, 0.08)
    assert (view.in_flight, view.work_s, view.batches) == (0, 0.0, [])


def test_no_call_joins_a_batch_that_the_worker_would_not_grow_so_far() -> None:
    view = worker(0)
    for _ in range(2):
        view.sent(asked(0.0))
    assert finish_s(asked(0.0), view) == pytest.approx(0.02 + 0.03)
    view.limits[ONE] = 1
    assert finish_s(asked(0.0), view) == pytest.approx(0.02 + 0.02 + 0.02)


def test_a_call_that_is_decoded_too_late_for_the_next_batch_opens_another() -> None:
    view = worker(0)
    view.sent(asked(0.0))
    view.sent(asked(0.0))
    assert finish_s(asked(0.015, decode_s=0.01), view) == pytest.approx(0.005 + 0.02 + 0.02)
    assert finish_s(asked(0.015, decode_s=0.001), view) == pytest.approx(0.005 + 0.03)
    late = asked(0.015, decode_s=0.01, between_s=0.006)
    assert finish_s(late, view) == pytest.approx(0.005 + 0.03), "the next batch begins only so long after the first"


def test_of_a_batch_that_was_answered_in_part_the_rest_counts_as_a_batch_of_its_own() -> None:
    view = worker(0)
    for _ in range(4):
        coming, _ = view.sent(asked(0.0))
    running, waiting = view.batches
    assert (running.images, waiting.images, coming) == (1, 3, waiting)
    view.answered(running, 1, 0.02)
    assert waiting.seconds == pytest.approx(0.04)
    for _ in range(2):
        view.answered(waiting, 1, 0.06)
    assert finish_s(asked(0.06, TWO), view) == pytest.approx(0.02 + 0.02)
    view.answered(waiting, 1, 0.08)
    assert (view.in_flight, view.work_s, view.batches) == (0, 0.0, [])


def test_what_waits_is_thought_to_fill_up_the_next_batch_as_the_worker_does() -> None:
    view = worker(0)
    view.limits[ONE] = 2
    for _ in range(6):
        last, _ = view.sent(asked(0.0))
    assert [coming.images for coming in view.batches] == [1, 2, 2, 1]
    view.answered(last, 1, 0.02)
    view.answered(last, 1, 0.04)  # alone, since the other was decoded too late
    assert finish_s(asked(0.04), view) == pytest.approx(0.03 + 0.03 + 0.02), "both that are left are full"
    assert [coming.images for coming in view.batches] == [2, 2]
    assert view.work_s == pytest.approx(sum(coming.seconds for coming in view.batches))


def test_a_call_that_is_decoded_after_a_batch_began_does_not_fill_it_up() -> None:
    view = worker(0)
    for _ in range(3):
        coming, _ = view.sent(asked(0.0))
    view.sent(asked(0.015, decode_s=0.01))
    view.answered(coming, 1, 0.02)
    view.answered(coming, 1, 0.02)
    view.sent(asked(0.02))
    assert [(coming.images, coming.ready) for coming in view.batches] == [(1, 0.0), (2, 0.025)]


def test_a_call_is_in_time_for_a_batch_that_begins_so_much_later_than_the_one_before_it_has_ended() -> None:
    expected, view = Expectation(forward=learned()), worker(0)
    first, _ = view.sent(asked(0.0))
    view.sent(asked(0.0))
    view.answered(first, 1, 0.02)

    def late(now: float) -> Request:
        return asked(now, decode_s=0.001, between_s=0.004)

    assert expected.in_worker_s(late(0.022), view) == pytest.approx(0.018 + 0.01), "with the one that is about to run"
    assert finish_s(late(0.024), view) == pytest.approx(0.016 + 0.02)
    view.limits[ONE] = 1
    assert finish_s(late(0.022), view) == pytest.approx(0.018 + 0.02)
    view.limits[ONE] = 2
    view.sent(late(0.022))
    assert [coming.images for coming in view.batches] == [2]


def test_a_call_that_never_ran_leaves_the_batch_that_runs_as_it_is() -> None:
    view = worker(0)
    for _ in range(3):
        coming, _ = view.sent(asked(0.0))
    view.answered(coming, 1, 0.015, ran=False)
    assert finish_s(asked(0.015, TWO), view) == pytest.approx(0.005 + 0.02 + 0.02)
    view.answered(view.batches[0], 1, 0.02)
    view.answered(coming, 1, 0.03, ran=False)
    view.sent(asked(0.035))
    assert finish_s(asked(0.04, TWO), view) == pytest.approx(0.015 + 0.02)


def test_a_call_that_shares_its_batch_with_none_is_answered_by_itself() -> None:
    view = worker(0, holds=(ONE,))
    view.sent(asked(0.0))
    cold, _ = view.sent(Request(ONE, 1, "disk", 0.02, 0.5, times=learned(), most=4))
    view.sent(asked(0.0))
    assert [(coming.images, coming.open) for coming in view.batches] == [(1, True), (1, False), (1, True)]
    view.answered(cold, 1, 0.5)
    assert [coming.open for coming in view.batches] == [True, True]


def test_what_passes_before_a_batch_begins_is_learned_and_part_of_what_it_takes() -> None:
    expected = Expectation(forward=learned())
    expected.learn_between(0.002, 0.02)
    expected.learn_between(0.004, 0.02)
    assert expected.between_s == pytest.approx(0.8 * 0.002 + 0.2 * 0.004)
    assert expected.forward_s(1) == pytest.approx(0.02 + expected.between_s)
    known = expected.between_s
    expected.learn_between(0.03, 0.02)
    expected.learn_between(-0.001, 0.02)
    assert expected.between_s == known, "something else ran there, or its call came too late to tell"


def test_a_waiting_batch_is_expected_to_grow_as_others_did() -> None:
    expected, view = Expectation(forward=learned()), worker(0)
    view.sent(asked(0.0))
    assert expected.in_worker_s(asked(0.0), view) == pytest.approx(0.02 + 0.02)
    for _ in range(30):
        expected.joiners.learn(1, 0.02, 2)
    assert expected.in_worker_s(asked(0.0), view) == pytest.approx(0.02 + 0.04), "two more images in its batch"
    assert expected.in_worker_s(asked(0.01), view) == pytest.approx(0.01 + 0.03), "one more, in half the time"
    other = worker(1)
    for _ in range(3):
        other.sent(asked(0.0, TWO, most=1))
    assert expected.in_worker_s(asked(0.0, most=32), other) == pytest.approx(0.06 + 0.04), "no more in thrice the time"
    assert expected.in_worker_s(asked(0.0, most=1), view) == pytest.approx(0.02 + 0.02)


def test_the_margin_is_above_what_most_calls_take() -> None:
    draws, expected = random.Random(5), Expectation()
    ratios = [draws.uniform(0.5, 1.5) for _ in range(4000)]
    for ratio in ratios:
        expected.learn_ratio(ratio)
    assert expected.margin == pytest.approx(1.45, abs=0.06)


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


@pytest.mark.parametrize(
    ("in_worker_s", "later_s", "learned"),
    [
        pytest.param(QUICK_S / 2, LEARN_EVERY_S / 2, False, id="quick, and one was learned from just now"),
        pytest.param(QUICK_S / 2, LEARN_EVERY_S * 1.5, True, id="quick"),
        pytest.param(QUICK_S, 0.0, True, id="of one batch, and not quick: each says how many joined it"),
    ],
)
def test_of_quick_calls_few_are_learned_from(in_worker_s: float, later_s: float, learned: bool) -> None:
    expected = Expectation()
    assert not expected.tells_nothing_new(in_worker_s, 5.0), "nothing is known yet"
    expected.learned_at = 5.0
    assert expected.tells_nothing_new(in_worker_s, 5.0 + later_s) is not learned


@pytest.mark.parametrize(
    ("front", "at_home_s", "picked"),
    [
        pytest.param(0, 0.0, 0, id="each front end has a worker"),
        pytest.param(1, 0.0, 1, id="of its own"),
        pytest.param(1, AWAY_S * 0.9, 1, id="and waits for it a little"),
        pytest.param(1, AWAY_S * 1.1, 0, id="but no longer than a guest costs"),
        pytest.param(2, 0.0, 0, id="there may be fewer workers than front ends"),
    ],
)
def test_of_several_front_ends_each_prefers_workers_of_its_own(front: int, at_home_s: float, picked: int) -> None:
    workers = [worker(number, 1, at_home_s if number == front else 0.0, (ONE,)) for number in range(2)]
    assert policy("predicted", 0, front, 3)(request(), workers, 8) == picked
