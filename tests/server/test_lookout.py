"""When the event loop is kept awake for an answer, seen from that loop."""

import asyncio
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

import pytest
from dlserve.front.lookout import Lookout

CALL = object()
QUICK_S, SLOW_S = 1e-6, 0.01


def run(test: Coroutine[Any, Any, None]) -> None:
    """In a loop of its own, which can't spin for ever."""
    asyncio.run(asyncio.wait_for(test, 30))


def single(under_way: set[object], cores: int = 2) -> Lookout:
    """After enough calls one by one, with one under way."""
    lookout = Lookout(under_way, cores)
    while not lookout.single():
        pass
    under_way.add(CALL)
    return lookout


async def until(lookout: Lookout, spins: bool) -> None:
    """Look at every turn of the loop."""
    while lookout.spins is not spins:  # noqa: ASYNC110  nothing else says so
        await asyncio.sleep(0)


def test_calls_one_by_one_make_a_single_client_and_two_at_a_time_do_not() -> None:
    under_way: set[object] = set()
    lookout = Lookout(under_way)
    assert [lookout.single() for _ in range(20)] == [False] * 16 + [True] * 4
    under_way.add(CALL)
    assert not lookout.single()
    under_way.clear()
    assert [lookout.single() for _ in range(17)] == [False] * 16 + [True]


def test_a_quick_call_is_looked_for_at_once_and_a_slower_one_once_it_is_expected() -> None:
    async def play() -> None:
        lookout, sent = single(set()), perf_counter()
        lookout.watch(QUICK_S, 0.0, sent + 60)  # as if it were sent in a minute: it is looked for until then
        assert lookout.spins

        lookout = single(set())
        lookout.watch(SLOW_S, 0.05, sent := perf_counter())
        assert not lookout.spins
        await until(lookout, spins=True)
        assert perf_counter() - sent > 0.04

    run(play())


@pytest.mark.parametrize("end", ["answered", "another comes", "too late"])
def test_it_ends_with_the_answer_or_a_second_call_or_when_it_was_not_so(end: str) -> None:
    async def play() -> None:
        under_way: set[object] = set()
        lookout = single(under_way)
        lookout.watch(QUICK_S, 0.0, perf_counter() + (0.0 if end == "too late" else 60.0))
        if end == "answered":
            under_way.clear()
        elif end == "another comes":
            under_way.add(object())
        await until(lookout, spins=False)

    run(play())


@pytest.mark.parametrize("why", ["", "one core", "nothing is known of it", "answered before", "the next is under way"])
def test_nobody_spins_for_nothing(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlserve.front.lookout._LOOK_OUT_S", 60.0)  # so it is time to look out now, and for a minute

    async def play() -> None:
        under_way: set[object] = set()
        lookout = single(under_way, cores=1 if why == "one core" else 2)
        lookout.watch(SLOW_S, 0.0 if why == "nothing is known of it" else SLOW_S, perf_counter())
        if why in {"answered before", "the next is under way"}:
            under_way.clear()
        if why == "the next is under way":
            assert lookout.single()
            under_way.add(CALL)
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0, later.set)
        await later.wait()  # so timers that were due before it have run
        assert lookout.spins is (not why)
        under_way.clear()

    run(play())
