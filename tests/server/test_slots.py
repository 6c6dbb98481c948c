"""Bodies in shared memory, as the two sides see them."""

import os
from collections.abc import Iterator

import pytest
from dlserve import slots
from dlserve.slots import NOWHERE, SLOT_BYTES, SLOTS, SMALL_BYTES, Lender, SlotError, Slots

BODY = os.urandom(60_000)


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = slots.make()
    yield made
    os.close(made)


def test_a_body_is_read_where_it_was_left(descriptor: int) -> None:
    lender, reader = Lender(descriptor), Slots(descriptor)
    whole = lender.lend([BODY])
    pieces = lender.lend([BODY[:100], memoryview(BODY)[100:50_000], b"", BODY[50_000:]])
    largest = lender.lend([bytes(SLOT_BYTES - 1), b"\x07"])
    assert len({whole, pieces, largest}) == 3
    assert reader.body(whole, len(BODY)) == reader.body(pieces, len(BODY)) == BODY
    assert reader.body(largest, SLOT_BYTES)[-1] == 7
    assert reader.body(whole, len(BODY)).readonly


@pytest.mark.parametrize("size", [0, SMALL_BYTES - 1, SLOT_BYTES + 1])
def test_what_is_small_or_too_large_is_sent_along(descriptor: int, size: int) -> None:
    lender = Lender(descriptor)
    assert lender.lend([bytes(size)]) == lender.lend([bytes(size // 2), bytes(size - size // 2)]) == NOWHERE
    assert lender.free == SLOTS


def test_none_is_lent_twice_and_the_one_given_back_last_is_lent_next(descriptor: int) -> None:
    lender = Lender(descriptor)
    lent = [lender.lend([BODY]) for _ in range(SLOTS)]
    assert sorted(lent) == list(range(SLOTS))
    assert lender.lend([BODY]) == NOWHERE
    for place in (lent[3], lent[9]):
        lender.take_back(place)
    assert [lender.lend([BODY]) for _ in range(3)] == [lent[9], lent[3], NOWHERE]


@pytest.mark.parametrize(("place", "size"), [(-2, 1), (SLOTS, 1), (0, SLOT_BYTES + 1), (0, -1)])
def test_a_slot_that_is_not_there_is_refused(descriptor: int, place: int, size: int) -> None:
    with pytest.raises(SlotError, match=str(size)):
        Slots(descriptor).body(place, size)
