"""The batcher, as tables: what waits -> the batches that come out of it."""

import random
from dataclasses import dataclass, field

import pytest
from dlserve.forward_times import ForwardTimes
from dlserve.worker.batcher import PATIENCE_S, TURNS, Batcher

from tests.server.worker.conftest import Roomy

NOW = 0.5


@dataclass(frozen=True)
class Waits:
    """A job as the batcher sees it."""

    arrival: int
    key: str
    images: int = 1
    alone: bool = False
    deadline: float | None = None
    forward_times: ForwardTimes = field(default_factory=ForwardTimes)

    @property
    def received(self) -> float:
        """A millisecond after the one before."""
        return self.arrival * 1e-3

    @property
    def model(self) -> int:
        """A number for each key."""
        return sum(self.key.encode())


def batches(batcher: Batcher[Waits]) -> list[list[int]]:
    """Every batch in turn, as arrival numbers."""
    out = []
    while batch := batcher.take(NOW):
        out.append([job.arrival for job in batch])
    return out


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([(0, "a")], [[0]], id="one job does not wait for company"),
        pytest.param([(0, "a"), (1, "a"), (2, "a")], [[0, 1, 2]], id="one key runs together"),
        pytest.param([(0, "a"), (1, "b"), (2, "a")], [[0, 2], [1]], id="what waits for the same key joins"),
        pytest.param([(0, "b"), (1, "a"), (2, "b")], [[0, 2], [1]], id="the oldest job's key goes first"),
        pytest.param([(i, "a") for i in range(6)], [[0, 1, 2, 3], [4, 5]], id="at most max_batch images"),
        pytest.param([(0, "a", 3), (1, "a", 2), (2, "a", 1)], [[0], [1, 2]], id="a job is never split nor overtaken"),
        pytest.param([(0, "a", 9), (1, "a")], [[0], [1]], id="a job above max_batch runs alone"),
        pytest.param([(0, "a"), (1, "a", 9)], [[0], [1]], id="and joins nobody"),
        pytest.param([(2, "a"), (0, "a"), (1, "b")], [[0, 2], [1]], id="ready out of order, run in order of arrival"),
        pytest.param(
            [(0, "a", 1, True), (1, "a"), (2, "a")], [[0], [1, 2]], id="a colder start runs alone, in its turn"
        ),
        pytest.param([(0, "a"), (1, "a", 1, True), (2, "a")], [[0, 2], [1]], id="a colder start lets others join"),
        pytest.param(
            [(0, "a", 1, True), (1, "a", 1, True), (2, "b")], [[0], [1], [2]], id="each colder start has its own batch"
        ),
        pytest.param(
            [(0, "a"), (1, "b", 1, True), (2, "b"), (3, "a")], [[0, 3], [1], [2]], id="keys take turns by their oldest"
        ),
    ],
)
def test_batches_follow_the_table(waiting: list[tuple[int, str, int, bool]], expected: list[list[int]]) -> None:
    batcher: Batcher[Waits] = Batcher(4, Roomy())
    for job in waiting:
        batcher.add(Waits(*job))
    assert len(batcher) == len(waiting)
    assert batches(batcher) == expected
    assert len(batcher) == 0


def test_no_job_is_passed_over_for_ever_by_a_busier_key() -> None:
    batcher: Batcher[Waits] = Batcher(2, Roomy())
    batcher.add(Waits(0, "rare"))
    taken = []
    for arrival in range(1, 20):
        batcher.add(Waits(arrival, "hot"))
        batcher.add(Waits(arrival + 100, "hot"))
        taken.append([job.key for job in batcher.take(NOW)])
    assert taken[0] == ["rare"]


def test_a_discarded_job_never_runs() -> None:
    batcher: Batcher[Waits] = Batcher(4, Roomy())
    first, second, other = Waits(0, "a"), Waits(1, "a"), Waits(2, "b")
    for job in (first, second, other):
        batcher.add(job)
    assert batcher.discard(first)
    assert batcher.discard(other)
    assert not batcher.discard(other)
    assert not batcher.discard(Waits(1, "a")), "an equal job is not the same job"
    assert batches(batcher) == [[1]]


def test_many_random_jobs_each_run_once_within_the_limit() -> None:
    draws = random.Random(7)
    batcher: Batcher[Waits] = Batcher(8, Roomy())
    jobs = [Waits(i, draws.choice("abc"), draws.randint(1, 10), draws.random() < 0.1) for i in range(500)]
    seen: list[int] = []
    for job in draws.sample(jobs, len(jobs)):
        batcher.add(job)
        if draws.random() < 0.3:
            seen += check(batcher.take(NOW))
    while batch := batcher.take(NOW):
        seen += check(batch)
    assert sorted(seen) == list(range(500))


def check(batch: list[Waits]) -> list[int]:
    """Assert that a batch keeps the rules; its arrival numbers."""
    assert len({job.key for job in batch}) == 1
    assert len(batch) == 1 or (sum(job.images for job in batch) <= 8 and not any(job.alone for job in batch))
    arrivals = [job.arrival for job in batch]
    assert arrivals == sorted(arrivals)
    return arrivals


def test_what_has_no_room_is_overtaken_only_by_what_is_there_and_says_how_long_it_waits() -> None:
    room = Roomy()
    batcher: Batcher[Waits] = Batcher(8, room)
    absent, absent_too, there = Waits(0, "a"), Waits(1, "b"), Waits(2, "c")
    for job in (absent, absent_too, there):
        batcher.add(job)
    room.waits_s = {absent.model: 1.5, absent_too.model: 0.1}
    assert batcher.take(NOW) == [there]
    assert batcher.room_in_s == 1.5, "the oldest's wait, though another would have room sooner"
    assert batcher.take(NOW) == []
    assert len(batcher) == 2
    room.waits_s = {absent_too.model: 0.1}
    assert batcher.take(NOW) == [absent]
    assert batcher.room_in_s == 0
    room.waits_s = {}
    assert batcher.take(NOW) == [absent_too]


def test_a_cold_start_of_a_model_that_is_there_overtakes_too() -> None:
    room = Roomy()
    batcher: Batcher[Waits] = Batcher(8, room)
    absent, cold = Waits(0, "a"), Waits(1, "b", alone=True)
    batcher.add(absent)
    batcher.add(cold)
    room.waits_s = {absent.model: 1.0}
    assert batcher.take(NOW) == [cold]


def learned(*seconds: float) -> ForwardTimes:
    """Times of batches of 1, 2, ... images, seen often enough to be judged by."""
    times = ForwardTimes()
    for _ in range(16):
        for size, one in enumerate(seconds, 1):
            times.learn(size, one)
    return times


FLAT, STEEP = learned(0.1, 0.1, 0.1, 0.1), learned(0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("times", "deadlines", "expected"),
    [
        pytest.param(FLAT, [None] * 4, [[0, 1, 2, 3]], id="larger batches pay"),
        pytest.param(STEEP, [None] * 4, [[0], [1], [2], [3]], id="larger batches take as long per image"),
        pytest.param(learned(0.1, 0.12, 0.18, 0.24), [None] * 4, [[0, 1], [2, 3]], id="they pay up to 2"),
        pytest.param(learned(0.1, 0.15, 0.2, 0.25), [0.72, None, None, None], [[0, 1, 2], [3]], id="a deadline bounds it"),
        pytest.param(learned(0.1, 0.15, 0.2, 0.25), [0.55, None, None, None], [[0, 1, 2, 3]], id="which is missed anyway"),
        pytest.param(FLAT, [None, 0.9, 0.7, None], [[2, 1, 0, 3]], id="the first to be due goes first"),
        pytest.param(learned(0.1, 0.15, 0.2, 0.25), [None, None, None, 0.62], [[3], [0, 1, 2]], id="with whom it can afford"),
    ],
)  # fmt: skip
def test_a_batch_grows_as_far_as_it_pays_and_the_deadline_allows(
    times: ForwardTimes, deadlines: list[float | None], expected: list[list[int]]
) -> None:
    batcher: Batcher[Waits] = Batcher(4, Roomy())
    for arrival, deadline in enumerate(deadlines):
        batcher.add(Waits(arrival, "a", deadline=deadline, forward_times=times))
    assert batches(batcher) == expected


def test_a_call_without_a_deadline_is_overtaken_by_urgent_ones_for_no_longer_than_its_patience() -> None:
    batcher: Batcher[Waits] = Batcher(1, Roomy())
    batcher.add(Waits(0, "a"))
    batcher.add(Waits(1, "b", deadline=0.6))
    batcher.add(Waits(2, "c", deadline=PATIENCE_S + 0.1))
    assert batches(batcher) == [[1], [0], [2]]


def test_no_key_waits_for_more_than_the_stated_number_of_batches_however_urgent_the_others_are() -> None:
    batcher: Batcher[Waits] = Batcher(1, Roomy())
    batcher.add(Waits(0, "rare"))
    taken = []
    for arrival in range(1, 20):
        batcher.add(Waits(arrival, "hot", deadline=0.1))
        taken += [job.key for job in batcher.take(NOW)]
    assert taken[: TURNS + 2] == ["hot"] * TURNS + ["rare", "hot"]


def test_what_has_missed_its_deadline_is_handed_out_and_not_run() -> None:
    batcher: Batcher[Waits] = Batcher(4, Roomy())
    jobs = [Waits(0, "a", deadline=0.4), Waits(1, "a"), Waits(2, "a", deadline=0.6), Waits(3, "b", deadline=NOW)]
    for job in jobs:
        batcher.add(job)
    assert batcher.expired(0.3) == []
    assert batcher.expired(NOW) == [jobs[0], jobs[3]]
    assert batches(batcher) == [[2, 1]]
    assert len(batcher) == 0


def test_a_job_waits_for_company_as_long_as_told_and_no_longer_than_its_batch_needs() -> None:
    batcher: Batcher[Waits] = Batcher(3, Roomy(), wait_s=0.02)
    batcher.add(Waits(0, "a"))
    assert batcher.take(0.0) == []
    assert batcher.again_in_s == pytest.approx(0.02)
    batcher.add(Waits(1, "a"))
    assert batcher.take(0.01) == []
    assert batcher.again_in_s == pytest.approx(0.01)
    batcher.add(Waits(2, "a"))
    assert len(batcher.take(0.01)) == 3, "it is full"
    batcher.add(Waits(10, "a"))
    batcher.add(Waits(11, "b", alone=True))
    assert [job.arrival for job in batcher.take(0.012)] == [11], "a cold start has no company to wait for"
    assert [job.arrival for job in batcher.take(0.03)] == [10]
    batcher.add(Waits(20, "a", deadline=0.13, forward_times=FLAT))
    assert batcher.take(0.02) == []
    assert batcher.again_in_s == pytest.approx(0.01), "until its deadline leaves just the forward"
    batcher.add(Waits(30, "c", forward_times=STEEP))
    assert [job.arrival for job in batcher.take(0.02)] == [30], "company would not pay"
