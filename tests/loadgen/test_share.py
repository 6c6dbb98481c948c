"""dlload.share: each share sends its own slots, phase after phase, whoever comes and goes."""

from collections.abc import Sequence
from time import perf_counter

import gevent
import pytest
from dlclient.results import Record, Slot
from dlload.crew import LocalCrew
from dlload.errors import RecordError
from dlload.options import Temperature
from dlload.share import Cycled, Share, Step
from gevent.event import Event

from tests.loadgen.quick_answers import quick_share, slots

LONG_S = 3600.0
"""Nobody waits so long in a test; what ends the wait is what is tested."""


def step(name: Temperature = "warm", *, measured: bool = True, at: float = 0.0, most: int | None = None) -> Step:
    return Step(name, measured=measured, at=at, most_requests=most)


def workers(share: Share, count: int) -> list[gevent.Greenlet]:
    return [gevent.spawn(share.work, share.sender(lambda _: None)) for _ in range(count)]


def leave(share: Share, greenlets: Sequence[gevent.Greenlet]) -> None:
    share.end()
    gevent.joinall(greenlets, timeout=60, raise_error=True)
    assert share.left.is_set()
    share.dispose()


@pytest.mark.parametrize(("number", "of"), [(0, 1), (0, 3), (1, 3), (2, 3), (9, 12)])
def test_share_k_of_n_sends_the_slots_k_modulo_n(number: int, of: int) -> None:
    written: list[Record] = []
    share = quick_share(slots(10), written.append, number=number, of=of)
    at_work = workers(share, 2)
    phase = share.begin(step())
    assert phase.ended.wait(60)
    assert sorted(record.index for record in written) == list(range(number, 10, of))
    assert {record.share for record in written} <= {number}
    leave(share, at_work)


def test_a_share_without_slots_is_over_at_once() -> None:
    share = quick_share(slots(2), lambda _: None, number=5, of=6)
    assert share.begin(step(measured=False)).ended.is_set()
    assert share.begin(step()).ended.is_set()
    leave(share, [])


def test_phases_follow_each_other_and_only_measured_ones_are_kept() -> None:
    written: list[Record] = []
    asked: list[str] = []
    share = quick_share(slots(4), written.append, asked=asked)
    at_work = workers(share, 3)
    assert share.begin(step(measured=False, most=6)).ended.wait(60)
    assert (share.is_measuring, len(asked), written) == (False, 6, [])
    assert share.begin(step()).ended.wait(60)
    assert share.is_measuring
    assert share.begin(step("disk")).ended.wait(60)
    assert [phase.name for phase in share.phases] == ["warm", "disk"]
    assert [record.phase for record in written] == ["warm"] * 4 + ["disk"] * 4
    assert all("cache=disk" in path for path in asked[-4:])
    assert not any("cache=" in path for path in asked[:-4])
    leave(share, at_work)


@pytest.mark.parametrize(("most", "of", "sent"), [(6, 1, 6), (6, 4, 2), (7, 4, 2), (1, 4, 1), (0, 4, 0)])
def test_a_warm_up_of_so_many_requests_is_shared_and_rounded_up(most: int, of: int, sent: int) -> None:
    asked: list[str] = []
    share = quick_share(slots(4), lambda _: None, of=of, asked=asked)
    at_work = workers(share, 1)
    assert share.begin(step(measured=False, most=most)).ended.wait(60)
    assert len(asked) == sent
    leave(share, at_work)


def test_a_warm_up_without_an_end_goes_on_until_it_is_closed() -> None:
    share = quick_share(slots(3), lambda _: None)
    at_work = workers(share, 1)
    phase = share.begin(step(measured=False))
    while phase.taken < 50:
        gevent.sleep(0)
    assert not phase.ended.is_set()
    share.close()
    assert phase.ended.wait(60)
    leave(share, at_work)


def test_a_cycle_goes_round_and_its_due_times_go_on() -> None:
    planned = slots(3, lambda index: index * 1.0)
    cycled = Cycled(planned, period_s=3.0)
    assert [(cycled[index].model, cycled[index].due_s) for index in range(7)] == [
        ("0", 0.0),
        ("1", 1.0),
        ("2", 2.0),
        ("0", 3.0),
        ("1", 4.0),
        ("2", 5.0),
        ("0", 6.0),
    ]
    assert [cycled[index].index for index in range(5)] == [0, 1, 2, 3, 4]
    assert len(Cycled(planned, most=5)) == 5
    assert len(Cycled(planned)) > 1 << 60
    assert len(Cycled((), most=5)) == len(Cycled(())) == 0
    assert Cycled(slots(2))[5].due_s is None


def test_the_period_of_a_schedule_is_that_of_all_shares_together() -> None:
    planned = slots(4, lambda index: (index + 1) * 0.5)  # due at 0.5, 1, 1.5, 2: the next round begins 0.5 s later
    assert [quick_share(planned, lambda _: None, number=k, of=2).period_s for k in (0, 1)] == [2.5, 2.5]
    assert quick_share(slots(4), lambda _: None).period_s == 0.0


def test_a_sender_that_comes_late_goes_to_the_phase_that_is_open() -> None:
    written: list[Record] = []
    share = quick_share(slots(4), written.append)
    early = workers(share, 1)
    assert share.begin(step()).ended.wait(60)
    allowed = share.begin(step("disk"))
    late = workers(share, 1)
    assert allowed.ended.wait(60)
    assert len(written) == 8
    leave(share, [*early, *late])


def test_a_sender_that_leaves_in_between_is_done_without() -> None:
    written: list[Record] = []
    allowed = Event()
    share = quick_share(slots(4), written.append, allowed=allowed)
    staying, leaving = workers(share, 2)
    phase = share.begin(step())
    gevent.idle()
    leaving.kill()
    allowed.set()
    assert phase.ended.wait(60)
    assert sorted(record.index for record in written) == [0, 1, 2, 3]
    assert [record.error.partition(":")[0] for record in written if record.error] == ["abandoned"]
    assert share.begin(step("disk")).ended.wait(60)
    leave(share, [staying])


def test_all_have_left_only_when_nobody_is_at_work() -> None:
    allowed = Event()
    share = quick_share(slots(2), lambda _: None, allowed=allowed)
    at_work = workers(share, 1)
    share.begin(step())
    gevent.idle()
    share.end()
    assert not share.left.is_set(), "a request is in flight"
    allowed.set()
    leave(share, at_work)


def test_after_the_end_no_phase_opens_and_no_sender_stays() -> None:
    asked: list[str] = []
    share = quick_share(slots(4), lambda _: None, asked=asked)
    share.end()
    assert share.left.is_set()
    assert share.begin(step()).ended.is_set()
    leave(share, workers(share, 2))
    assert asked == []


def test_the_end_comes_while_all_wait_for_the_clock_or_a_due_time() -> None:
    for planned in (slots(4), slots(4, lambda _: LONG_S)):
        share = quick_share(planned, lambda _: None)
        at_work = workers(share, 3)
        share.begin(step(at=perf_counter() + LONG_S))
        gevent.idle()
        leave(share, at_work)


def test_a_share_that_cannot_write_says_why_and_ends() -> None:
    def full(record: Record) -> None:
        share.fail(f"no space for {record.index}")
        raise RecordError("no space")

    share = quick_share(slots(4), full)
    at_work = workers(share, 1)
    crew = LocalCrew(share)
    crew.open(step())
    with pytest.raises(RecordError):
        at_work[0].get(timeout=60)
    state = crew.state()
    assert (state.over, state.gave_up, state.ended) == (True, "no space for 0", 0)
    assert share.left.is_set()
    share.dispose()


def test_a_share_is_exhausted_once_all_its_senders_are_busy() -> None:
    allowed = Event()
    share = quick_share(slots(3, lambda _: 0.0), lambda _: None, allowed=allowed)
    at_work = workers(share, 2)
    assert not share.exhausted
    phase = share.begin(step())
    gevent.idle()
    assert share.exhausted
    allowed.set()
    assert phase.ended.wait(60)
    leave(share, at_work)


def test_a_local_crew_tells_and_collects_what_its_share_did() -> None:
    written: list[Record] = []
    share = quick_share(slots(5), written.append)
    crew = LocalCrew(share)
    assert crew.wait(0.0), "nothing is open yet"
    assert crew.state().ended == 0
    at_work = workers(share, 2)
    for name in ("warm", "disk"):
        crew.open(step(name))
        assert crew.wait(60)
        state = crew.state()
        assert (state.taken, state.ended, state.images, state.errors, state.over) == (5, 5, 5, 0, True)
    crew.end()
    gevent.joinall(at_work, timeout=60, raise_error=True)
    assert [len(records) for records in crew.collect()] == [5, 5]
    assert (crew.shares, list(crew.missing), list(crew.samples)) == (1, [], [])


def test_a_slot_is_a_copy_in_a_cycle() -> None:
    planned = (Slot(7, "a", ("x.jpg",), None, 0.5),)
    assert Cycled(planned)[3] == Slot(3, "a", ("x.jpg",), None, 0.5)
