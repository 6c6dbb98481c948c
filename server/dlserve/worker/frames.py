"""A worker's connection to the front end: whole messages in, encoded messages out."""

import contextlib
import logging
import select
import socket
import threading
from collections import deque
from time import perf_counter

import msgspec
import numpy as np

from dlserve.messages import HEADER, MAX_META_BYTES, Job, ToWorker
from dlserve.slots import NOWHERE, SlotError, Slots

log = logging.getLogger(__name__)
_AHEAD_BYTES = 4096
"""Read at most this much before a frame's size is known, and beyond its end: it is copied once more, the rest of a body never is."""
_DISCARD_BYTES = 1 << 18
SEND_BUFFER_BYTES = 1 << 20


class ProtocolError(Exception):
    """The other side sent what is no frame; nothing after it can be understood."""


class FrameReader:
    """Takes messages off the connection, in one thread."""

    def __init__(self, connection: socket.socket, max_body_bytes: int, slots: Slots | None = None) -> None:
        """`slots`: where the other side may leave bodies; None: it sends them along."""
        self._connection = connection
        self._slots = slots
        self._max_body_bytes = max_body_bytes
        self._ahead = memoryview(bytearray(_AHEAD_BYTES))
        self._begin = self._end = 0
        self._between_frames = True
        self._decode = msgspec.msgpack.Decoder(ToWorker).decode

    @property
    def idle(self) -> bool:
        """Nothing has come that was not handed out; to be asked from another thread."""
        try:
            return self._between_frames and not select.select([self._connection], [], [], 0)[0]
        except ValueError:  # closed meanwhile
            return True

    @property
    def next_size(self) -> int | None:
        """Bytes of the next frame, if that much of it was read along with the last one."""
        if self._end - self._begin < HEADER.size:
            return None
        meta_size, body_size = HEADER.unpack_from(self._ahead, self._begin)
        return int(meta_size) + int(body_size)

    def read(self, spin_s: float = 0.0) -> tuple[ToWorker, memoryview | None] | None:
        """The next message and its body, in a buffer of its own or in the slot that the job names; None when the connection has ended.

        For up to `spin_s` it looks again and again before it goes to sleep. A body of more than `max_body_bytes` is read and thrown away: None stands in its place.
        Raises ProtocolError, or OSError if the connection breaks.
        """
        if self._begin == self._end:
            self._begin = self._end = 0
            self._between_frames = True
            received = self._spin(spin_s) if spin_s else None
            if received is None:
                received = self._connection.recv_into(self._ahead)
            self._between_frames = False
            if not received:
                return None
            self._end = received
        if self._end - self._begin < HEADER.size:
            self._look_ahead(HEADER.size)
        meta_size, body_size = HEADER.unpack_from(self._ahead, self._begin)
        self._begin += HEADER.size
        if meta_size > MAX_META_BYTES:
            raise ProtocolError(f"a message of {meta_size} bytes; at most {MAX_META_BYTES} are allowed")
        try:
            message = self._decode(self._meta(meta_size))
        except msgspec.MsgspecError as exc:
            raise ProtocolError(f"a message that is none of ours: {exc}") from exc
        if type(message) is Job and message.place != NOWHERE:
            return message, self._in_slot(message)
        if body_size > self._max_body_bytes:
            self._discard(body_size)
            return message, None
        return message, self._body(body_size)

    def _in_slot(self, job: Job) -> memoryview | None:
        if self._slots is None:
            raise ProtocolError("a body in shared memory, and there is none")
        size = sum([item.size for item in job.items])
        if size > self._max_body_bytes:
            return None
        try:
            return self._slots.body(job.place, size)
        except SlotError as exc:
            raise ProtocolError(f"a body that is nowhere: {exc}") from exc

    def _spin(self, spin_s: float) -> int | None:
        """Bytes that came within `spin_s`, None if none did; on the processor all the while."""
        until = perf_counter() + spin_s
        while perf_counter() < until:
            with contextlib.suppress(BlockingIOError):
                return self._connection.recv_into(self._ahead, 0, socket.MSG_DONTWAIT)
        return None

    def _look_ahead(self, size: int) -> None:
        """Have at least `size` unread bytes in the look-ahead buffer; `size` must fit in it."""
        if self._end - self._begin >= size:
            return
        unread = bytes(self._ahead[self._begin : self._end])
        self._ahead[: len(unread)] = unread
        self._begin, self._end = 0, len(unread)
        while self._end < size:
            received = self._connection.recv_into(self._ahead[self._end :])
            self._end += received or self._cut_off()

    def _meta(self, size: int) -> memoryview:
        if size > _AHEAD_BYTES:
            return self._body(size)
        self._look_ahead(size)
        self._begin += size
        return self._ahead[self._begin - size : self._begin]

    def _body(self, size: int) -> memoryview:
        body = np.empty(size, np.uint8).data  # not zeroed first, unlike a bytearray
        have = min(size, self._end - self._begin)
        body[:have] = self._ahead[self._begin : self._begin + have]
        self._begin += have
        while have < size:  # all that was read ahead is used up
            have += self._connection.recvmsg_into([body[have:], self._ahead])[0] or self._cut_off()
            self._begin, self._end = 0, max(have - size, 0)
        return body

    def _cut_off(self) -> int:
        raise ConnectionResetError("the connection ended within a frame")

    def _discard(self, size: int) -> None:
        have = min(size, self._end - self._begin)
        self._begin += have
        left = size - have
        while left:
            left -= len(self._body(min(left, _DISCARD_BYTES)))


class FrameWriter:
    """Puts frames on the connection, from any thread, in the order in which they were given.

    Whoever finds the connection free sends all that is pending, in one call; the others only leave their frames.
    A lost connection swallows what it is given: the reader will notice, and the front end asks elsewhere.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pending: deque[bytes] = deque()
        self._sending = threading.Lock()

    def send(self, *frames: bytes) -> None:
        """Send frames now, or leave them to the thread that is sending."""
        self._pending += frames
        # Looked at again after each release: a frame that came while we were sending has nobody else.
        while self._pending and self._sending.acquire(blocking=False):
            try:
                self._send_pending()
            finally:
                self._sending.release()

    def flush(self) -> None:
        """Return when everything given so far has been handed to the kernel."""
        with self._sending:
            self._send_pending()

    def _send_pending(self) -> None:
        pending = self._pending
        if not pending:
            return
        count = len(pending)
        try:
            self._connection.sendall(
                pending.popleft() if count == 1 else b"".join([pending.popleft() for _ in range(count)])
            )
        except OSError as exc:
            log.debug("an answer was lost with the connection: %s", exc)
