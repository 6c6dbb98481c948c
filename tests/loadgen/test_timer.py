"""dlload.timer: never early, ended by `wake`, and gone after `close`. How late it is depends on the machine."""

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import gevent
import pytest
from dlload.timer import Timer

LONG_S = 3600.0
"""Nobody waits so long in a test; what ends the wait is what is tested."""


@pytest.fixture
def timer() -> Iterator[Timer]:
    made = Timer()
    yield made
    made.close()


def test_nobody_wakes_before_the_time(timer: Timer) -> None:
    for number in range(50):
        due = perf_counter() + number * 1e-4
        timer.wait_until(due)
        assert perf_counter() >= due


def test_others_run_while_it_waits(timer: Timer) -> None:
    ran: list[str] = []
    gevent.spawn(ran.append, "other")
    timer.wait_until(perf_counter() + 0.001)
    assert ran == ["other"]


def test_what_is_past_is_not_waited_for(timer: Timer) -> None:
    ran: list[str] = []
    other = gevent.spawn(ran.append, "other")
    timer.wait_until(perf_counter())
    timer.wait_until(0.0)
    assert ran == [], "nobody else came in between"
    other.join()


def test_wake_ends_the_wait_and_every_later_one(timer: Timer) -> None:
    waiting = gevent.spawn(timer.wait_until, perf_counter() + LONG_S)
    gevent.idle()
    assert not waiting.ready()
    timer.wake()
    waiting.get(timeout=60)
    gevent.spawn(timer.wait_until, perf_counter() + LONG_S).get(timeout=60)


def test_wake_before_any_wait_counts_too(timer: Timer) -> None:
    timer.wake()
    timer.wait_until(perf_counter() + LONG_S)


def test_a_waiter_that_is_ended_leaves_the_timer_to_the_next(timer: Timer) -> None:
    first = gevent.spawn(timer.wait_until, perf_counter() + LONG_S)
    gevent.idle()
    first.kill()
    due = perf_counter() + 0.002
    timer.wait_until(due)
    assert perf_counter() >= due


def test_close_gives_the_descriptor_back_and_may_come_twice() -> None:
    before = descriptors()
    timers = [Timer() for _ in range(20)]
    for timer in timers:
        timer.wait_until(perf_counter() + 1e-4)
    for timer in timers:
        timer.close()
        timer.close()
        timer.wake()
    assert descriptors() <= before + 1


def descriptors() -> int:
    """How many files this process has open; 0 where that cannot be seen."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0
