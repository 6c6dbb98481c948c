"""dlclient.bench.timing: what is in the clock, when it stops, and how many are in flight."""

import threading
from collections.abc import Callable

import pytest
from dlclient.bench.job import Budget
from dlclient.bench.subject import Told
from dlclient.bench.timing import Limits, measure


class Clock:
    """Moves only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def taking(clock: Clock, *seconds: float) -> Callable[[object], Told]:
    """An inference that takes these times in turn, the last one for ever."""
    left = list(seconds)

    def infer(_: object) -> Told:
        clock.now += left.pop(0) if len(left) > 1 else left[0]
        return Told()

    return infer


@pytest.mark.parametrize(
    ("limits", "iterations"),
    [
        (Limits(max_iterations=5, min_s=0.0, max_s=100.0), 5),
        (Limits(max_iterations=5, min_s=7.0, max_s=100.0), 7),  # not before the least of seconds
        (Limits(max_iterations=5, min_s=7.0, max_s=3.0), 3),  # the most of seconds wins
        (Limits(max_iterations=100, min_s=0.0, max_s=2.5), 3),
        (Limits(max_iterations=0, min_s=0.0, max_s=0.0), 1),  # at least one
    ],
)
def test_it_ends_at_its_first_maximum_but_not_before_its_minima(limits: Limits, iterations: int) -> None:
    clock = Clock()
    timed = measure(taking(clock, 1.0), ["batch"], 1, limits, clock=clock)
    assert [sample.began_s for sample in timed.samples] == list(range(iterations))
    assert timed.wall_s == iterations


def test_fewer_iterations_than_wanted_at_most_are_wanted_at_least() -> None:
    assert Limits.of(Budget(min_iterations=20, max_iterations=10)).max_iterations == 20


def test_a_slow_outlier_is_kept_as_it_was() -> None:
    clock = Clock()
    limits = Limits(4, 0.0, 1e9)
    timed = measure(taking(clock, 1.0, 1.0, 500.0, 1.0), ["batch"], 1, limits, clock=clock)
    assert [sample.latency_s for sample in timed.samples] == [1.0, 1.0, 500.0, 1.0]
    assert timed.wall_s == 503.0


def test_batches_take_turns_and_what_the_subject_tells_is_kept() -> None:
    clock = Clock()
    seen: list[object] = []

    def infer(batch: object) -> Told:
        seen.append(batch)
        clock.now += 1.0
        return Told(server_s=0.5, transform_s=0.1, error="broken" if batch == "b" else "", took_s=0.75)

    timed = measure(infer, ["a", "b"], 1, Limits(3, 0.0, 10.0), clock=clock)
    assert seen == ["a", "b", "a"]
    assert [sample.error for sample in timed.samples] == ["", "broken", ""]
    assert {(sample.latency_s, sample.server_s, sample.transform_s) for sample in timed.samples} == {(0.75, 0.5, 0.1)}


def test_progress_is_told_as_the_part_that_is_done() -> None:
    clock = Clock()
    told: list[float] = []
    measure(taking(clock, 1.0), ["batch"], 1, Limits(1000, 0.0, 4.0), clock=clock, progress=told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_so_many_are_in_flight_at_a_time_and_never_more() -> None:
    together = threading.Barrier(3, timeout=30)
    lock = threading.Lock()
    inside = most = 0

    def infer(_: object) -> Told:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait()  # passed only by three at once
        with lock:
            inside -= 1
        return Told()

    timed = measure(infer, ["batch"], 3, Limits(12, 0.0, 30.0))
    assert most == 3
    assert len(timed.samples) == 12
    assert [sample.began_s for sample in timed.samples] == sorted(sample.began_s for sample in timed.samples)


def test_the_wall_time_of_many_in_flight_ends_with_the_last_of_them() -> None:
    gate = threading.Event()
    lock = threading.Lock()
    count = 0

    def infer(_: object) -> Told:
        nonlocal count
        with lock:
            count += 1
            last = count == 4
        if last:
            gate.set()
        assert gate.wait(30)
        return Told()

    timed = measure(infer, ["batch"], 4, Limits(4, 0.0, 30.0))
    assert timed.wall_s >= max(sample.began_s + sample.latency_s for sample in timed.samples)
    assert min(sample.latency_s for sample in timed.samples) >= 0


@pytest.mark.parametrize("in_flight", [1, 3])
def test_what_an_inference_raises_ends_the_part(in_flight: int) -> None:
    def infer(_: object) -> Told:
        raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        measure(infer, ["batch"], in_flight, Limits(1000, 0.0, 30.0))
