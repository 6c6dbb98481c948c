"""The board, as two front ends and their supervisor see it."""

import pytest
from dlserve import board
from dlserve.board import Board

NONE: frozenset[int] = frozenset()


def load(seen: Board, worker: int) -> tuple[float, float]:
    """Calls in flight on one of 2 workers, and their seconds."""
    _, *loads = seen.loads()
    return loads[worker], loads[2 + worker]


@pytest.fixture
def boards() -> tuple[Board, Board, Board]:
    """Of front ends 0 and 1, and the supervisor's; 2 workers."""
    descriptor = board.make(2, 2)
    return Board(descriptor, 2, 2, 0), Board(descriptor, 2, 2, 1), Board(descriptor, 2, 2)


def test_work_is_the_sum_of_all_and_ends_where_it_began(boards: tuple[Board, Board, Board]) -> None:
    one, two, _ = boards
    assert [one.began(1), two.began(1), one.began(1), one.began(0)] == [1, 2, 3, 1]
    for own, worker, cost in ((one, 1, 0.5), (two, 1, 0.25), (one, 1, 1.0), (one, 0, 2.0)):
        own.works(worker, cost)
    assert load(one, 1) == load(two, 1) == (3, 1.75)
    assert load(one, 0) == load(two, 0) == (1, 2.0)
    assert not two.quiet_elsewhere()
    one.ended(1, 0.5)
    assert load(two, 1) == (2, 1.25)
    one.ended(1, 0.9)  # what the last one leaves of rounding errors does not stay
    assert load(two, 1) == (1, 0.25)
    one.ended(0, 2.0)
    assert two.quiet_elsewhere()
    assert not one.quiet_elsewhere()


def test_of_two_that_claim_the_last_place_at_once_none_is_beyond_it(boards: tuple[Board, Board, Board]) -> None:
    one, two, _ = boards
    counts = [one.began(0), two.began(0)]
    assert sum(count <= 1 for count in counts) <= 1


def test_each_reads_what_the_others_expect_and_not_what_it_expects_itself(boards: tuple[Board, Board, Board]) -> None:
    one, two, _ = boards
    one.expects(1, [7, 1 << 40], 9)
    assert two.loads()[0] == 1
    assert (two.awaited(1), two.hinted(1)) == (frozenset({7, 1 << 40}), frozenset({9}))
    assert (two.awaited(0), two.hinted(0)) == (NONE, NONE)
    assert (one.awaited(1), one.hinted(1)) == (NONE, NONE)
    one.expects(1, list(range(100)), None)
    assert two.awaited(1) == set(range(board.MOST_EXPECTED))
    assert two.hinted(1) == set()
    one.expects(1, [], None)
    assert two.awaited(1) == set()
    assert two.loads()[0] == 0


def test_bytes_waiting_calls_and_progress_are_seen_elsewhere(boards: tuple[Board, Board, Board]) -> None:
    one, two, _ = boards
    one.holds(100)
    one.waits(3)
    one.progressed(1, 5.0)
    two.progressed(1, 4.0)
    assert (two.held_elsewhere(), two.waiting_elsewhere(), two.last_progress(1)) == (100, 3, 5.0)
    assert (one.held_elsewhere(), one.waiting_elsewhere(), one.last_progress(0)) == (0, 0, 0.0)


def test_of_one_that_has_died_nothing_stays(boards: tuple[Board, Board, Board]) -> None:
    one, two, supervisor = boards
    two.began(0)
    two.works(0, 1.0)
    two.expects(1, [3], 4)
    two.holds(10)
    two.waits(2)
    two.progressed(1, 8.0)
    two.closed()
    one.began(0)
    assert [supervisor.closed_by(place) for place in (0, 1)] == [0, 1]
    supervisor.clear(1)
    assert load(one, 0) == (1, 0.0)
    assert (one.awaited(1), one.hinted(1), one.held_elsewhere(), one.waiting_elsewhere()) == (NONE, NONE, 0, 0)
    assert (one.last_progress(1), one.quiet_elsewhere(), supervisor.closed_by(1)) == (0.0, True, 0)


def test_deaths_are_counted_for_all_to_see_and_beats_for_the_supervisor(boards: tuple[Board, Board, Board]) -> None:
    one, two, supervisor = boards
    for _ in range(3):
        two.beat()
    assert [supervisor.beats_of(place) for place in (0, 1)] == [0, 3]
    supervisor.clear(1)
    supervisor.clear(1)
    assert supervisor.beats_of(1) == 0
    assert one.deaths() == two.deaths() == [0, 2]
