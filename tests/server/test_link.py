"""A front end's line to a worker, whose end the tests hold: what is sent when, and who gets a slot back when."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import pytest
from dlserve import slots
from dlserve.front.link import Link, WorkerLostError
from dlserve.messages import (
    HEADER,
    Cancel,
    Described,
    Evicted,
    Failure,
    Hello,
    Item,
    Job,
    Loaded,
    Reply,
    Stages,
    ToWorker,
    frame,
)
from dlserve.slots import NOWHERE, SLOTS, Lender

BODY = os.urandom(60_000)
DEADLINE_S = 60.0


@pytest.fixture
def lender() -> Iterator[Lender]:
    descriptor = slots.make()
    yield Lender(descriptor)
    os.close(descriptor)


class Owner:
    """Whoever is told of a link's events."""

    def joined(self, link: Link, hello: Hello) -> None: ...
    def left(self, link: Link) -> None: ...
    def moved(self, link: Link, event: Loaded | Evicted) -> None: ...
    def described(self, link: Link, facts: Described) -> None: ...


def linked(lender: Lender, do: Callable[[Link, socket.socket], Awaitable[None]]) -> None:
    """Run something with a link and the worker's end of it."""

    async def run() -> None:
        near, far = socket.socketpair()
        far.settimeout(DEADLINE_S)
        _, link = await asyncio.get_running_loop().create_connection(lambda: Link(Owner(), lender), sock=near)
        with far:
            await do(link, far)
        link.close()

    asyncio.run(run())


def job(number: int, size: int, place: int) -> Job:
    """With one image, in a slot or behind it."""
    return Job(number, 1, (Item("bytes", size, "0"),), None, None, 5, 0.0, 0.0, place=place)


def ask(link: Link, number: int, body: bytes = BODY) -> "asyncio.Future[object]":
    """Send a job with a body, as the dispatcher does."""
    place = link.lend(number, [body])
    return link.ask(job(number, len(body), place), number, () if place != NOWHERE else [body])  # type: ignore[return-value]


def reply(number: int) -> bytes:
    """To that job."""
    return frame(Reply(number, (), None, "warm", 1, Stages(*[0.0] * 8)))


def taken(data: bytes) -> list[int]:
    """The numbers of the jobs and cancels in what a worker has received."""
    numbers, start = [], 0
    while start < len(data):
        size, body = HEADER.unpack_from(data, start)
        start += HEADER.size + size
        message = msgspec.msgpack.decode(data[start - size : start], type=ToWorker)
        assert isinstance(message, Job | Cancel)
        numbers.append(message.id if isinstance(message, Job) else -message.id)
        start += body
    return numbers


def test_a_slot_is_free_once_its_job_is_answered_or_the_connection_has_ended(lender: Lender) -> None:
    async def do(link: Link, far: socket.socket) -> None:
        answers = [ask(link, number) for number in range(4)]
        lent = [SLOTS - lender.free]
        answers[0].cancel()  # nobody waits for it any more, but the worker may still read its body
        lent.append(SLOTS - lender.free)
        far.sendall(reply(0) + frame(Failure(1, "input", "no image")))
        await answers[1]
        lent.append(SLOTS - lender.free)
        far.close()
        for lost in answers[2:]:
            with pytest.raises(WorkerLostError):
                await lost
        assert [*lent, SLOTS - lender.free, link.lend(9, [BODY])] == [4, 4, 2, 0, NOWHERE]

    linked(lender, do)


def test_an_idle_worker_is_asked_at_once_and_what_follows_comes_together(lender: Lender) -> None:
    async def do(link: Link, far: socket.socket) -> None:
        answers = [ask(link, number) for number in (1, 2, 3)]
        assert taken(far.recv(1 << 16)) == [1]  # in this very turn of the event loop
        far.sendall(reply(1))
        await answers[0]
        assert taken(far.recv(1 << 16)) == [2, 3]
        far.sendall(reply(2) + reply(3))
        await asyncio.gather(*answers[1:])
        ask(link, 4)
        assert taken(far.recv(1 << 16)) == [4]  # idle again

    linked(lender, do)


def test_nothing_overtakes_what_was_gathered(lender: Lender) -> None:
    async def do(link: Link, far: socket.socket) -> None:
        small = b"x" * 10
        for number in (1, 2):
            ask(link, number)
        link.tell(Cancel(2))
        ask(link, 3)
        answer = ask(link, 4, small)  # its body goes along
        link.tell(Cancel(4))
        with far.makefile("rb") as stream:
            far.sendall(reply(4))
            await answer
            link.close()
            assert taken(await asyncio.to_thread(stream.read)) == [1, 2, -2, 3, 4, -4]

    linked(lender, do)


def test_what_was_gathered_for_a_worker_that_goes_is_lost_with_it(lender: Lender) -> None:
    async def do(link: Link, _far: socket.socket) -> None:
        answers = [ask(link, number) for number in (1, 2)]
        link.close()
        for answer in answers:
            with pytest.raises(WorkerLostError):
                await answer
        assert lender.free == SLOTS

    linked(lender, do)
