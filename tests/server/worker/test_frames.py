"""Frames over a real socket pair: cut anywhere, of any size, from many threads."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import msgspec
import pytest
from dlmodels.spec import ModelSpec
from dlserve.messages import HEADER, MAX_META_BYTES, Cancel, Define, Item, Job, ToWorker, frame
from dlserve.worker.frames import FrameReader, FrameWriter, ProtocolError

LIMIT = 1 << 20


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected stream sockets that give up after a while."""
    near, far = socket.socketpair()
    near.settimeout(30)
    far.settimeout(30)
    with closing(near), closing(far):
        yield near, far


def job(number: int, size: int) -> Job:
    """A job with one item of that size."""
    return Job(number, 1, (Item("bytes", size, "0"),), None, None, 5, 0.0, 0.0)


def received(reader: FrameReader) -> list[tuple[ToWorker, bytes | None]]:
    """All messages until the stream ends."""
    out = []
    while (found := reader.read()) is not None:
        message, body = found
        out.append((message, None if body is None else bytes(body)))
    return out


def sender(connection: socket.socket, data: bytes, sizes: Iterator[int]) -> threading.Thread:
    """Send data in pieces, then end the stream."""

    def send() -> None:
        start = 0
        while start < len(data):
            size = next(sizes)
            connection.sendall(data[start : start + size])
            start += size
        connection.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.parametrize("largest_piece", [1, 7, 100, 5000, 1 << 20])
def test_messages_survive_any_cut(pair: tuple[socket.socket, socket.socket], largest_piece: int) -> None:
    draws = random.Random(largest_piece)
    sizes = [0, 1, 3000, 4096, 5000, 20, 0, 40] if largest_piece < 10 else [0, 1, 4096, 60_000, 300_000, 20, 4000, 0]
    bodies = [draws.randbytes(size) for size in sizes]
    messages: list[ToWorker] = [job(number, len(body)) for number, body in enumerate(bodies)]
    large = Define(7, ModelSpec("x" * 9000, "simulated"))
    data = b"".join(frame(m, len(b)) + b for m, b in zip(messages, bodies, strict=True)) + frame(large)
    thread = sender(pair[0], data, iter(lambda: draws.randint(1, largest_piece), 0))
    assert received(FrameReader(pair[1], LIMIT)) == [*zip(messages, bodies, strict=True), (large, b"")]
    thread.join()


def test_a_body_is_a_buffer_of_its_own(pair: tuple[socket.socket, socket.socket]) -> None:
    thread = sender(pair[0], b"".join(frame(job(n, 3), 3) + bytes([n] * 3) for n in range(3)), iter(lambda: 1 << 20, 0))
    reader = FrameReader(pair[1], LIMIT)
    bodies = [found[1] for _ in range(3) if (found := reader.read())]
    assert [bytes(body) for body in bodies if body is not None] == [b"\0\0\0", b"\1\1\1", b"\2\2\2"]
    thread.join()


def test_a_reader_tells_what_has_come_behind_a_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    frames = [frame(job(number, size), size) + bytes(size) for number, size in enumerate((10, 30, 9000))]
    sender(pair[0], b"".join(frames), iter(lambda: 1 << 20, 0)).join()
    reader = FrameReader(pair[1], LIMIT)
    sizes = []
    while reader.read():
        sizes.append(reader.next_size)
    assert sizes == [len(frames[1]) - HEADER.size, len(frames[2]) - HEADER.size, None]


def test_a_body_above_the_limit_is_thrown_away_and_the_next_message_is_understood(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    too_large = LIMIT + 70_000
    data = frame(job(1, too_large), too_large) + bytes(too_large) + frame(Cancel(2))
    thread = sender(pair[0], data, iter(lambda: 1 << 20, 0))
    assert received(FrameReader(pair[1], LIMIT)) == [(job(1, too_large), None), (Cancel(2), b"")]
    thread.join()


@pytest.mark.parametrize("kept", [1, 7, 9, 60, 5000])
def test_a_stream_that_ends_within_a_frame_is_a_broken_connection(
    pair: tuple[socket.socket, socket.socket], kept: int
) -> None:
    pair[0].sendall((frame(job(1, 9000), 9000) + bytes(9000))[:kept])
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        FrameReader(pair[1], LIMIT).read()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HEADER.pack(MAX_META_BYTES + 1, 0), id="a message of absurd size"),
        pytest.param(HEADER.pack(4, 0) + b"\xc1\xc1\xc1\xc1", id="no msgpack"),
        pytest.param(
            HEADER.pack(len(msgspec.msgpack.encode(["Nonsense", 1])), 0) + msgspec.msgpack.encode(["Nonsense", 1]),
            id="no message of ours",
        ),
    ],
)
def test_what_is_no_frame_ends_the_understanding(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    pair[0].sendall(data)
    with pytest.raises(ProtocolError):
        FrameReader(pair[1], LIMIT).read()


def test_frames_of_many_threads_arrive_whole_and_in_each_thread_s_order(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    writer = FrameWriter(pair[0])
    per_thread, threads = 300, 6

    def send(thread: int) -> None:
        for number in range(per_thread):
            writer.send(frame(Cancel(thread * per_thread + number)))

    senders = [threading.Thread(target=send, args=(number,)) for number in range(threads)]

    def end() -> None:
        for thread in senders:
            thread.join()
        writer.flush()
        pair[0].shutdown(socket.SHUT_WR)

    for thread in [*senders, ender := threading.Thread(target=end)]:
        thread.start()
    ids = [message.id for message, _ in received(FrameReader(pair[1], LIMIT)) if isinstance(message, Cancel)]
    ender.join()
    assert sorted(ids) == list(range(per_thread * threads))
    for number in range(threads):
        own = [i for i in ids if i // per_thread == number]
        assert own == sorted(own)


class Overtaken:
    """A connection on which another thread sends a frame while the first one is being sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.writer = FrameWriter(cast("socket.socket", self))

    def sendall(self, data: bytes) -> None:
        """As of a socket."""
        self.sent.append(data)
        if len(self.sent) == 1:
            other = threading.Thread(target=self.writer.send, args=(b"second", b"third"))
            other.start()
            other.join(30)
            assert not other.is_alive(), "nobody waits for the connection"


def test_what_comes_while_another_thread_sends_is_sent_by_that_one_in_one_piece() -> None:
    connection = Overtaken()
    connection.writer.send(b"first")
    assert connection.sent == [b"first", b"secondthird"]


def test_a_lost_connection_swallows_what_is_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    writer = FrameWriter(pair[0])
    for number in range(3):
        writer.send(frame(Cancel(number)))
    writer.flush()


def test_the_reader_is_idle_only_between_frames(pair: tuple[socket.socket, socket.socket]) -> None:
    reader = FrameReader(pair[1], LIMIT)
    assert reader.idle
    pair[0].sendall(frame(Cancel(1)) + frame(Cancel(2)))
    assert not reader.idle, "bytes wait in the kernel"
    reader.read()
    assert not reader.idle, "the second message was read ahead"
