"""The eviction policies, as tables."""

import pytest
from dlserve.worker.eviction import (
    MOST_RESIDENCE_S,
    RESIDENCE_FACTOR,
    Candidate,
    rank_of,
    residence_s,
    room_after_s,
    victims,
)


def model(service: int, size: int = 10, rate: float = 1.0, reload_s: float = 1.0, last_used: float = 0.0) -> Candidate:
    return Candidate(service, size, rate, reload_s, last_used)


@pytest.mark.parametrize(
    ("candidates", "value", "lru"),
    [
        pytest.param([model(1, rate=5, last_used=1), model(2, rate=1, last_used=2)], 2, 1, id="asked for less often"),
        pytest.param([model(1, reload_s=5), model(2, last_used=9)], 2, 1, id="quicker to bring back"),
        pytest.param([model(1, size=10), model(2, size=40, last_used=9)], 2, 1, id="of more bytes"),
        pytest.param([model(1, last_used=2), model(2, last_used=1)], 2, 2, id="among equals the one used longer ago"),
        pytest.param([model(1, rate=0, last_used=5), model(2, rate=1e-9)], 1, 2, id="never asked for"),
    ],
)
def test_the_first_to_leave(candidates: list[Candidate], value: int, lru: int) -> None:
    assert victims(candidates, 1, rank_of("value")) == [value]
    assert victims(candidates, 1, rank_of("lru")) == [lru]


@pytest.mark.parametrize(
    ("sizes", "needed", "leaving"),
    [
        pytest.param([10, 10, 10], 0, [], id="nobody where there is room"),
        pytest.param([10, 10, 10], -5, [], id="nor where there is more than that"),
        pytest.param([10, 10, 10], 15, [0, 1], id="as many as it takes"),
        pytest.param([10, 10, 10], 30, [0, 1, 2], id="all, if it must be"),
        pytest.param([10, 10, 10], 31, None, id="nobody leaves in vain"),
        pytest.param([5, 5, 40], 40, [2], id="those that turn out not to be needed stay"),
        pytest.param([0, 10], 10, [1], id="what frees nothing stays"),
        pytest.param([], 1, None, id="an empty tier"),
    ],
)
def test_who_leaves_for_so_many_bytes(sizes: list[int], needed: int, leaving: list[int] | None) -> None:
    candidates = [model(number, size, last_used=number) for number, size in enumerate(sizes)]
    assert victims(candidates, needed, rank_of("lru")) == leaving


def test_a_model_stays_as_long_as_its_load_took_and_never_longer_than_the_stated_most() -> None:
    assert residence_s(0.2) == pytest.approx(0.2 * RESIDENCE_FACTOR)
    assert residence_s(1e6) == MOST_RESIDENCE_S
    assert residence_s(0) == 0


@pytest.mark.parametrize(
    ("leaving", "needed", "expected"),
    [
        pytest.param([(3, 10)], 0, 0.0, id="no need to wait"),
        pytest.param([(3, 10)], 10, 3.0, id="until it may leave"),
        pytest.param([(3, 10), (1, 5), (2, 5)], 10, 2.0, id="the soonest that suffice"),
        pytest.param([(0, 10), (3, 10)], 5, 0.0, id="one that may leave now"),
        pytest.param([(3, 10)], 11, None, id="never"),
    ],
)
def test_when_there_will_be_room(leaving: list[tuple[float, int]], needed: int, expected: float | None) -> None:
    assert room_after_s(leaving, needed) == expected
