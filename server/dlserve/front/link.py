"""One connection per worker: frames out, replies in, and a future for each question that is under way."""

import asyncio
import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Protocol, cast

import msgspec

from dlserve.messages import (
    HEADER,
    MAX_META_BYTES,
    Described,
    Evicted,
    Failure,
    Hello,
    Loaded,
    Message,
    Prepared,
    Reply,
    ToFront,
    frame,
)
from dlserve.slots import NOWHERE, Lender

log = logging.getLogger(__name__)
Answer = Reply | Failure | Prepared
_WRITE_BUFFER_BYTES = 4 << 20
_NUMBERS = 1 << 62


class WorkerLostError(Exception):
    """The connection to a worker ended while it owed an answer."""


class LinkOwner(Protocol):
    """Who is told what happens on a link."""

    def joined(self, link: "Link", hello: Hello) -> None:
        """The worker has said who it is."""

    def left(self, link: "Link") -> None:
        """The connection ended; every open question has been failed."""

    def moved(self, link: "Link", event: Loaded | Evicted) -> None:
        """A model came into one of the worker's tiers or left it."""

    def described(self, link: "Link", facts: Described) -> None:
        """The worker has built a service's skeleton."""


class Link(asyncio.Protocol):
    """The front end's side of one worker's connection."""

    def __init__(self, owner: LinkOwner, slots: Lender) -> None:
        """`slots`: where bodies are left for the worker."""
        self.hello: Hello | None = None
        self.last_progress = perf_counter()
        """When the worker last answered anything, or was asked something while idle."""
        self._owner = owner
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._slots = slots
        self._lent: dict[int, int] = {}
        """The slot of each job that was given one."""
        self._last_id = 0
        self._loop = asyncio.get_running_loop()
        self._gathered: list[bytes] = []
        self._unread = b""
        self._decode = msgspec.msgpack.Decoder(ToFront).decode

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to listen; the worker speaks first."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's does not inherit from asyncio's
        self._transport.set_write_buffer_limits(_WRITE_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every open question: its owner decides about a retry."""
        self._transport = None
        waiting, self._waiting = self._waiting, {}
        lent, self._lent = self._lent, {}
        for place in lent.values():
            self._slots.take_back(place)
        for future in waiting.values():
            if not future.done():
                future.set_exception(WorkerLostError(str(exc or "connection closed")))
        self._owner.left(self)

    def data_received(self, data: bytes) -> None:
        """Take the complete frames out of what has come."""
        unread = self._unread + data if self._unread else data
        start, come = 0, len(unread)
        while come - start >= HEADER.size:
            size, body = HEADER.unpack_from(unread, start)
            if size > MAX_META_BYTES or body:
                log.error("a worker sent what is no frame (%d bytes, body %d): its connection is closed", size, body)
                self.close()
                return
            end = start + HEADER.size + size
            if come < end:
                break
            message = self._decode(unread[start + HEADER.size : end])
            start = end
            self._take(message)
        self._unread = unread[start:]

    def _take(self, message: ToFront) -> None:
        self.last_progress = perf_counter()
        match message:
            case Reply() | Failure() | Prepared():
                future = self._waiting.pop(message.id, None)
                if (place := self._lent.pop(message.id, None)) is not None:
                    self._slots.take_back(place)
                if future is not None and not future.done():
                    future.set_result(message)
            case Loaded() | Evicted():
                self._owner.moved(self, message)
            case Described():
                self._owner.described(self, message)
            case Hello():
                self.hello = message
                self._owner.joined(self, message)

    @property
    def open_questions(self) -> int:
        """Jobs and prepares that the worker has not answered yet."""
        return len(self._waiting)

    def next_id(self) -> int:
        """A number for the next question; unique on this connection."""
        self._last_id = (self._last_id + 1) % _NUMBERS
        return self._last_id

    def lend(self, question_id: int, body: Sequence[bytes | memoryview]) -> int:
        """Leave the body of a job that is about to be asked in a slot, until its answer comes; NOWHERE if it must be sent along."""
        if self._transport is None:
            return NOWHERE
        place = self._slots.lend(body)
        if place != NOWHERE:
            self._lent[question_id] = place
        return place

    def ask(
        self, question: Message, question_id: int, body: Sequence[bytes | memoryview] = ()
    ) -> "asyncio.Future[Answer]":
        """Send a message that will be answered; `body` follows it in the frame. Raises WorkerLostError at once if closed."""
        if self._transport is None:
            raise WorkerLostError("not connected")
        encoded = frame(question, sum(map(len, body)))
        future: asyncio.Future[Answer] = self._loop.create_future()
        waiting = self._waiting
        idle = not waiting
        waiting[question_id] = future
        if idle:
            self.last_progress = perf_counter()
        if body:
            self._flush()
            self._transport.writelines([encoded, *body])
        elif idle:
            self._transport.write(encoded)
        else:
            if not self._gathered:
                self._loop.call_soon(self._flush)
            self._gathered.append(encoded)
        return future

    def _flush(self) -> None:
        """Send what was gathered."""
        gathered = self._gathered
        if gathered:
            self._gathered = []
            if self._transport is not None:
                self._transport.write(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def tell(self, message: Message) -> None:
        """Send a message that has no answer; lost if the worker is."""
        self._flush()
        if self._transport is not None:
            self._transport.write(frame(message))

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()
