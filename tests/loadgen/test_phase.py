"""dlload.phase: every slot is handed out once, and the phase knows when it is over."""

from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import gevent
import pytest
from dlclient.results import Record, Slot
from dlload.errors import RecordError
from dlload.options import Temperature
from dlload.phase import Phase
from gevent.event import Event

SLOTS = tuple(Slot(index, "a", ("x.jpg",)) for index in range(6))


def record(index: int, status: int = 200) -> Record:
    return Record(
        phase="warm",
        index=index,
        due_s=0.0,
        sent_s=0.0,
        first_byte_s=None,
        done_s=0.0,
        status=status,
        error="" if status else "gone",
        model="a",
        image="x.jpg",
        bytes_sent=1,
        images=1,
    )


@pytest.fixture
def written() -> list[Record]:
    return []


@pytest.fixture
def phase(written: list[Record]) -> Phase:
    return Phase("warm", SLOTS, written.append)


def take(phase: Phase) -> int:
    turn = phase.take()
    assert turn is not None
    return turn.slot.index


def test_every_slot_is_handed_out_once_and_in_order(phase: Phase, written: list[Record]) -> None:
    phase.open()
    assert [take(phase) for _ in SLOTS] == [0, 1, 2, 3, 4, 5]
    assert phase.take() is None
    for index in (1, 0, 3, 2, 5):
        phase.add(record(index))
    assert not phase.ended.is_set(), "one answer is still missing"
    phase.add(record(4))
    assert phase.ended.is_set()
    assert [one.index for one in written] == [1, 0, 3, 2, 5, 4]


def test_a_closed_phase_ends_with_what_is_in_flight(phase: Phase) -> None:
    phase.open()
    take(phase)
    take(phase)
    phase.close()
    assert phase.take() is None
    phase.add(record(0))
    assert not phase.ended.is_set()
    phase.add(record(1))
    assert phase.ended.is_set()
    assert not phase.gave_up


def test_a_phase_that_is_closed_before_it_opened_lets_nobody_wait(phase: Phase) -> None:
    phase.close()
    assert phase.opened.is_set()
    assert phase.ended.is_set()
    assert phase.take() is None


def test_a_server_that_is_gone_is_not_asked_to_the_end(phase: Phase) -> None:
    phase.open()
    for expected in (False, False, True):  # one request in flight: the third failure in a row is one too many
        phase.add(record(take(phase), status=0))
        assert phase.gave_up is expected
    assert phase.take() is None
    assert phase.ended.is_set()


def test_single_failures_do_not_end_a_phase(phase: Phase) -> None:
    phase.open()
    for status in (0, 0, 500, 0, 0, 200):
        phase.add(record(take(phase), status))
    assert not phase.gave_up
    assert phase.ended.is_set()


def test_connections_that_break_together_do_not_end_a_phase(phase: Phase) -> None:
    phase.open()
    for index in [take(phase) for _ in range(3)]:
        phase.add(record(index, status=0))
    assert not phase.gave_up
    assert phase.has_slots


def test_a_record_that_cannot_be_written_is_not_counted_and_holds_nobody_up() -> None:
    def full(_: Record) -> None:
        raise RecordError("no space")

    phase = Phase("warm", SLOTS[:1], full)
    phase.open()
    with pytest.raises(RecordError):
        phase.add(record(take(phase)))
    assert phase.records == []
    assert phase.ended.is_set()


@pytest.mark.parametrize(("name", "cache"), [("warm", None), ("host", "host"), ("disk", "disk")])
def test_only_a_cold_phase_asks_for_a_temperature(name: Temperature, cache: str | None) -> None:
    assert Phase(name, SLOTS, lambda _: None).cache == cache


LONG_S = 3600.0
"""Nobody waits so long in a test; what ends the wait is what is tested."""


def scheduled(*due_s: float, drop_after_s: float | None = None, late_s: float = 0.0) -> Phase:
    """An open loop that began `late_s` ago."""
    slots = [Slot(index, "a", ("x.jpg",), due) for index, due in enumerate(due_s)]
    made = Phase("warm", slots, lambda _: None, drop_after_s=drop_after_s, share=3)
    made.open(perf_counter() - late_s)
    return made


@dataclass
class Takers:
    """Greenlets that each take one slot, by name; what they did, in order."""

    phase: Phase
    ready: list[str] = field(default_factory=list)
    """Those that got ready to wait for a due time."""
    took: list[tuple[str, int | None]] = field(default_factory=list)
    greenlets: dict[str, gevent.Greenlet] = field(default_factory=dict)
    go: Event = field(default_factory=Event)
    """Who is next waits for it before it waits for the due time."""

    def __post_init__(self) -> None:
        self.go.set()

    def come(self, *names: str) -> None:
        for name in names:
            self.greenlets[name] = gevent.spawn(self._take, name)
            gevent.idle()

    def _take(self, name: str) -> None:
        turn = self.phase.take(partial(self._get_ready, name))
        assert turn is None or perf_counter() >= turn.due >= self.phase.started
        self.took.append((name, None if turn is None else turn.slot.index))

    def _get_ready(self, name: str) -> None:
        self.ready.append(name)
        self.go.wait()

    def end(self) -> list[tuple[str, int | None]]:
        self.go.set()
        gevent.joinall(list(self.greenlets.values()), timeout=60, raise_error=True)
        return self.took


def test_a_schedule_is_kept_by_one_sender_after_the_other_each_ready_before_its_time() -> None:
    phase = scheduled(0.0, 0.002, 0.004, 0.006)
    takers = Takers(phase)
    takers.come("a", "b", "c", "d", "e")
    assert sorted(index for _, index in takers.end() if index is not None) == [0, 1, 2, 3]
    assert [index for _, index in takers.took if index is not None] == [0, 1, 2, 3]
    assert [name for name, _ in takers.took] == takers.ready, "only who is next waits for a due time"
    phase.dispose()


def test_of_the_idle_senders_the_last_to_come_goes_first() -> None:
    phase = scheduled(0.0, 0.001)
    takers = Takers(phase)
    takers.go.clear()
    takers.come("a", "b", "c")
    assert takers.ready == ["a"]
    assert takers.end() == [("a", 0), ("c", 1), ("b", None)]
    phase.dispose()


def test_without_a_free_sender_a_slot_waits_and_keeps_its_due_time() -> None:
    phase = scheduled(0.0, 0.25, 0.5, late_s=2.0)
    turns = [phase.take() for _ in range(3)]
    assert [turn.due - phase.started for turn in turns if turn] == pytest.approx([0.0, 0.25, 0.5])
    assert phase.take() is None
    assert (phase.taken, phase.in_flight, phase.most_in_flight) == (3, 3, 3)
    phase.dispose()


def test_what_nobody_was_free_for_in_time_is_dropped_and_noted() -> None:
    phase = scheduled(0.0, 1.0, 1000.0, drop_after_s=0.5, late_s=10.0)
    takers = Takers(phase)
    takers.come("a")
    assert [record.index for record in phase.records] == [0, 1]
    first, second = phase.records
    assert first.dropped
    assert (first.due_s, second.due_s, first.status, first.share, first.bytes_sent) == (0.0, 1.0, 0, 3, 0)
    assert first.sent_s >= 10.0
    assert "no sender was free within 0.5 s of its due time" in first.error
    assert (phase.tally.errors, phase.tally.images, phase.gave_up) == (2, 0, False)
    phase.close()
    assert takers.end() == [("a", None)]
    assert phase.ended.is_set()
    phase.dispose()


def test_drops_alone_do_not_mean_that_the_server_is_gone() -> None:
    phase = scheduled(*(0.0 for _ in range(50)), drop_after_s=0.5, late_s=10.0)
    assert phase.take() is None
    assert len(phase.records) == 50
    assert phase.ended.is_set()
    assert not phase.gave_up
    phase.dispose()


def test_closing_ends_all_waits_for_due_times() -> None:
    phase = scheduled(LONG_S)
    takers = Takers(phase)
    takers.come("a", "b", "c")
    phase.close()
    assert [index for _, index in takers.end()] == [None] * 3
    assert phase.ended.is_set()
    assert phase.taken == 0
    phase.dispose()


def test_a_sender_that_is_ended_while_it_waits_for_a_due_time_hands_over() -> None:
    phase = scheduled(LONG_S)
    takers = Takers(phase)
    takers.come("a", "b", "c")
    takers.greenlets["a"].kill()
    gevent.idle()
    assert takers.ready == ["a", "c"]
    phase.close()
    assert sorted(takers.end()) == [("b", None), ("c", None)]
    phase.dispose()


def test_an_idle_sender_that_is_ended_is_not_waited_for() -> None:
    phase = scheduled(0.0, 0.001)
    takers = Takers(phase)
    takers.go.clear()
    takers.come("a", "b", "c")
    takers.greenlets["c"].kill()
    assert takers.end() == [("a", 0), ("b", 1)]
    phase.dispose()


def test_a_sender_that_is_ended_just_as_it_was_called_up_calls_up_the_next() -> None:
    phase = scheduled(LONG_S)
    takers = Takers(phase)
    takers.come("a", "b", "c")
    gevent.killall([takers.greenlets["a"], takers.greenlets["c"]])
    gevent.idle()
    assert takers.ready == ["a", "b"]
    phase.close()
    assert takers.end() == [("b", None)]
    phase.dispose()


def test_a_sender_that_fails_to_get_ready_leaves_the_slot_to_others() -> None:
    def fail() -> None:
        raise ConnectionError

    phase = scheduled(0.0)
    with pytest.raises(ConnectionError):
        phase.take(fail)
    assert take(phase) == 0
    phase.dispose()


def test_a_server_that_is_gone_is_not_asked_to_the_end_of_a_schedule() -> None:
    phase = scheduled(*(0.0 for _ in range(20)))
    for _ in range(3):
        phase.add(record(take(phase), status=0))
    assert phase.gave_up
    assert phase.take() is None
    phase.dispose()


def test_a_record_of_a_dropped_slot_that_cannot_be_written_holds_nobody_up() -> None:
    def full(_: Record) -> None:
        raise RecordError("no space")

    slots = [Slot(index, "a", ("x.jpg",), 0.0) for index in range(2)]
    phase = Phase("warm", slots, full, drop_after_s=0.5)
    phase.open(perf_counter() - 10.0)
    for _ in range(2):
        with pytest.raises(RecordError):
            phase.take()
    assert phase.ended.is_set()
    phase.dispose()


def test_all_users_of_a_closed_loop_begin_when_the_clock_starts(phase: Phase) -> None:
    phase.open(perf_counter() + 0.05)
    takers = Takers(phase)
    takers.come("a", "b", "c", "d")
    assert sorted(index for _, index in takers.end() if index is not None) == [0, 1, 2, 3]
    assert phase.in_flight == 4


def test_users_that_wait_for_the_clock_go_when_the_phase_is_closed(phase: Phase) -> None:
    phase.open(perf_counter() + LONG_S)
    takers = Takers(phase)
    takers.come("a", "b")
    phase.close()
    assert takers.end() == [("a", None), ("b", None)]
    assert phase.ended.is_set()


def thinking(think_s: float) -> Phase:
    made = Phase("warm", [Slot(index, "a", ("x.jpg",), None, think_s) for index in range(2)], lambda _: None)
    made.open()
    return made


def test_a_user_thinks_before_its_request_is_due() -> None:
    phase = thinking(0.01)
    began = perf_counter()
    turn = phase.take()
    assert turn is not None
    assert turn.due >= began + 0.009  # gevent's clock is that of the round of its loop


def test_a_user_that_thinks_when_the_phase_is_closed_sends_nothing() -> None:
    phase = thinking(LONG_S)
    takers = Takers(phase)
    takers.come("a", "b")
    phase.close()
    assert takers.end() == [("a", None), ("b", None)]
    assert phase.ended.is_set()
    assert phase.records == []


def test_a_user_that_is_ended_while_it_thinks_holds_nobody_up() -> None:
    phase = thinking(LONG_S)
    takers = Takers(phase)
    takers.come("a", "b")
    gevent.killall(list(takers.greenlets.values()))
    assert phase.ended.is_set()


def test_a_phase_counts_as_records_come(phase: Phase) -> None:
    phase.open()
    for status in (200, 0, 200):
        phase.add(record(take(phase), status))
    assert (phase.tally.images, phase.tally.errors, len(phase.records)) == (2, 1, 3)
