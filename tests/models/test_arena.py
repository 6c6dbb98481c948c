"""The page allocator of the host tier."""

import random

import pytest
from dlmodels.engines.arena import Arena, Run
from dlmodels.errors import OutOfMemoryError

PAGE = 16


def length(runs: tuple[Run, ...]) -> int:
    return sum(run.end - run.begin for run in runs)


@pytest.mark.parametrize("seed", range(20))
def test_pages_are_never_given_out_twice_and_never_lost(seed: int) -> None:
    draws = random.Random(seed)
    arena = Arena(40 * PAGE + 5, PAGE)
    assert arena.total_bytes == 40 * PAGE
    owned: list[tuple[Run, ...]] = []
    for _ in range(400):
        if owned and draws.random() < 0.5:
            arena.free(owned.pop(draws.randrange(len(owned))))
        else:
            size = draws.randrange(1, 12 * PAGE)
            free = arena.free_bytes
            if arena.pages_of(size) > free:
                with pytest.raises(OutOfMemoryError, match=f"{size} bytes do not fit the {free} bytes that are free"):
                    arena.allocate(size)
                assert arena.free_bytes == free
            else:
                owned.append(arena.allocate(size))
                assert size <= length(owned[-1]) < size + PAGE
        pages = [page for runs in owned for run in runs for page in range(run.begin, run.end)]
        assert len(pages) == len(set(pages)) == arena.total_bytes - arena.free_bytes
        assert all(0 <= page < arena.total_bytes for page in pages)
    for runs in owned:
        arena.free(runs)
    assert arena.allocate(arena.total_bytes) == (Run(0, arena.total_bytes),)


def test_one_run_is_given_where_there_is_one_and_the_tightest() -> None:
    arena = Arena(10 * PAGE, PAGE)
    first, second, third = (arena.allocate(size * PAGE) for size in (4, 1, 2))
    arena.free(first)
    arena.free(third)
    assert second == (Run(4 * PAGE, 5 * PAGE),)
    assert arena.allocate(4 * PAGE) == first
    assert arena.allocate(1) == (Run(5 * PAGE, 6 * PAGE),)


def test_scattered_pages_serve_where_no_run_is_long_enough() -> None:
    arena = Arena(6 * PAGE, PAGE)
    pages = [arena.allocate(PAGE) for _ in range(6)]
    for page in pages[::2]:
        arena.free(page)
    assert arena.allocate(3 * PAGE - 1) == tuple(run for page in pages[::2] for run in page)
    assert arena.free_bytes == 0


def test_nothing_is_given_for_nothing() -> None:
    arena = Arena(PAGE, PAGE)
    assert arena.allocate(0) == ()
    assert arena.free_bytes == PAGE


@pytest.mark.parametrize(
    "runs",
    [
        (Run(0, PAGE),),  # free already
        (Run(2 * PAGE, 3 * PAGE), Run(2 * PAGE, 3 * PAGE)),
        (Run(2 * PAGE, 5 * PAGE),),  # beyond the end
        (Run(2 * PAGE, 2 * PAGE + 1),),
        (Run(3 * PAGE, 2 * PAGE),),
    ],
)
def test_pages_that_are_not_out_cannot_come_back(runs: tuple[Run, ...]) -> None:
    arena = Arena(4 * PAGE, PAGE)
    everything = arena.allocate(4 * PAGE)
    arena.free((Run(0, 2 * PAGE),))
    with pytest.raises(ValueError, match=r"gives out|free at once"):
        arena.free(runs)
    assert arena.free_bytes == 2 * PAGE
    arena.free((Run(2 * PAGE, 4 * PAGE),))
    assert arena.allocate(4 * PAGE) == everything


def test_an_arena_of_less_than_a_page_holds_nothing() -> None:
    with pytest.raises(OutOfMemoryError, match="more memory"):
        Arena(PAGE - 1, PAGE).allocate(1)
    with pytest.raises(ValueError, match="cannot be"):
        Arena(-1)
