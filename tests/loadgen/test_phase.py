"""dlload.phase: every slot is handed out once, and the phase knows when it is over."""

import pytest
from dlclient.results import Record, Slot
from dlload.errors import RecordError
from dlload.options import Temperature
from dlload.phase import Phase

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
