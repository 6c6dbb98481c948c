"""Bodies in shared memory, as the two sides see them, and who gets a slot back when."""

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest
from dlserve import slots
from dlserve.front.link import Link, WorkerLostError
from dlserve.messages import Described, Evicted, Failure, Hello, Item, Job, Loaded, Reply, Stages, frame
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


class Owner:
    """Whoever is told of a link's events."""

    def joined(self, link: Link, hello: Hello) -> None: ...
    def left(self, link: Link) -> None: ...
    def moved(self, link: Link, event: Loaded | Evicted) -> None: ...
    def described(self, link: Link, facts: Described) -> None: ...


def job(number: int, place: int) -> Job:
    """With one image, in a slot."""
    return Job(number, 1, (Item("bytes", len(BODY), "0"),), None, None, 5, 0.0, 0.0, place=place)


def test_a_slot_is_free_once_its_job_is_answered_or_the_connection_has_ended(descriptor: int) -> None:
    async def run() -> list[int]:
        lender = Lender(descriptor)
        near, far = socket.socketpair()
        _, link = await asyncio.get_running_loop().create_connection(lambda: Link(Owner(), lender), sock=near)
        answers = [link.ask(job(number, link.lend(number, [BODY])), number) for number in range(4)]
        lent = [SLOTS - lender.free]
        answers[0].cancel()  # nobody waits for it any more, but the worker may still read its body
        lent.append(SLOTS - lender.free)
        with far:
            far.sendall(frame(Reply(0, (), None, "warm", 1, Stages(*[0.0] * 8))))
            far.sendall(frame(Failure(1, "input", "no image")))
            await answers[1]
            lent.append(SLOTS - lender.free)
        for lost in answers[2:]:
            with pytest.raises(WorkerLostError):
                await lost
        return [*lent, SLOTS - lender.free, link.lend(9, [BODY])]

    assert asyncio.run(run()) == [4, 4, 2, 0, NOWHERE]
