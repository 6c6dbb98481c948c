"""dlclient.exchange and dlload.connection: one keep-alive connection on real sockets, and every way in which it can fail."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import perf_counter

import pytest
from dlclient.exchange import SocketConnection
from dlload.connection import Connection

REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

Conversation = Callable[[socket.socket], None]


def receive(peer: socket.socket) -> bytes:
    """One complete request."""
    found = b""
    while len(found) < len(REQUEST):
        part = peer.recv(1000)
        if not part:
            return found
        found += part
    return found


class Peer:
    """Accepts connections and has one conversation on each, in the order given."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread: threading.Thread | None = None
        self.served = 0
        self.release = threading.Event()
        """Set at the end, so that a conversation can wait for it instead of answering."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def expect(self, *conversations: Conversation) -> None:
        def serve() -> None:
            for conversation in conversations:
                with suppress(OSError):
                    peer, _ = self._listener.accept()
                    self.served += 1
                    with peer:
                        conversation(peer)

        self._thread = threading.Thread(target=serve)
        self._thread.start()

    def close(self) -> None:
        self.release.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread:
            self._thread.join()


@pytest.fixture
def peer() -> Iterator[Peer]:
    one = Peer()
    yield one
    one.close()


@pytest.fixture(params=[Connection, SocketConnection])
def kind(request: pytest.FixtureRequest) -> type[Connection] | type[SocketConnection]:
    """On gevent's sockets, and on the standard library's."""
    found: type[Connection] | type[SocketConnection] = request.param
    return found


@pytest.fixture
def connection(peer: Peer, kind: type[Connection] | type[SocketConnection]) -> Iterator[SocketConnection]:
    one = kind(peer.url, timeout_s=10)
    yield one
    one.close()


def test_one_connection_carries_many_requests(peer: Peer, connection: SocketConnection) -> None:
    def talk(other: socket.socket) -> None:
        for _ in range(3):
            assert receive(other) == REQUEST
            other.sendall(ANSWER)

    peer.expect(talk)
    for _ in range(3):
        assert connection.open() == ""
        exchange = connection.exchange(REQUEST)
        assert (exchange.status, exchange.body, exchange.error) == (200, b"hello", "")
    assert peer.served == 1


def test_times_are_in_the_order_of_what_happened(peer: Peer, connection: SocketConnection) -> None:
    body_sent: list[float] = []

    def talk(other: socket.socket) -> None:
        receive(other)
        other.sendall(ANSWER[:-5])
        body_sent.append(perf_counter())
        other.sendall(ANSWER[-5:])

    peer.expect(talk)
    connection.open()
    before = perf_counter()
    exchange = connection.exchange(REQUEST)
    assert exchange.first_byte is not None
    assert before <= exchange.sent < exchange.first_byte <= exchange.done <= perf_counter()
    assert exchange.sent < body_sent[0] < exchange.done


def hang_up(other: socket.socket) -> None:
    receive(other)


def cut_headers(other: socket.socket) -> None:
    receive(other)
    other.sendall(ANSWER[:20])


def cut_body(other: socket.socket) -> None:
    receive(other)
    other.sendall(ANSWER[:-2])


def talk_nonsense(other: socket.socket) -> None:
    receive(other)
    other.sendall(b"220 smtp.example ESMTP\r\n")


def reset(other: socket.socket) -> None:
    receive(other)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize("conversation", [hang_up, cut_headers, cut_body, talk_nonsense, reset])
def test_a_broken_answer_is_an_error_and_is_not_asked_for_again(
    peer: Peer, connection: SocketConnection, conversation: Conversation
) -> None:
    def fine(other: socket.socket) -> None:
        receive(other)
        other.sendall(ANSWER)

    peer.expect(conversation, fine)
    connection.open()
    exchange = connection.exchange(REQUEST)
    assert exchange.error.startswith("the connection broke before the answer was complete: ")
    assert peer.served == 1
    assert connection.open() == ""
    assert connection.exchange(REQUEST).body == b"hello"
    assert peer.served == 2


def test_an_answer_that_does_not_come_is_given_up(peer: Peer, kind: type[Connection]) -> None:
    def keep_silent(other: socket.socket) -> None:
        receive(other)
        peer.release.wait(10)

    peer.expect(keep_silent)
    connection = kind(peer.url, timeout_s=0.05)
    connection.open()
    exchange = connection.exchange(REQUEST)
    assert exchange.error == "no complete answer within 0.05 s"
    assert exchange.status == 0
    assert exchange.done - exchange.sent >= 0.05


def test_an_answer_that_drips_is_given_up_as_a_whole(peer: Peer, kind: type[Connection]) -> None:
    def drip(other: socket.socket) -> None:
        receive(other)
        with suppress(OSError):
            other.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not peer.release.wait(0.01):
                other.sendall(b".")

    peer.expect(drip)
    connection = kind(peer.url, timeout_s=0.1)
    connection.open()
    assert connection.exchange(REQUEST).error == "no complete answer within 0.1 s"


def test_a_connection_that_the_server_closed_while_idle_is_opened_anew(
    peer: Peer, connection: SocketConnection
) -> None:
    closed = threading.Event()

    def answer_and_close(other: socket.socket) -> None:
        receive(other)
        other.sendall(ANSWER)
        other.close()
        closed.set()

    def answer(other: socket.socket) -> None:
        receive(other)
        other.sendall(ANSWER)

    peer.expect(answer_and_close, answer)
    connection.open()
    assert connection.exchange(REQUEST).error == ""
    assert closed.wait(10)
    assert connection.open() == ""
    assert connection.exchange(REQUEST).error == ""
    assert peer.served == 2


def test_a_server_that_asks_to_close_is_obeyed(peer: Peer, connection: SocketConnection) -> None:
    def answer(other: socket.socket) -> None:
        receive(other)
        other.sendall(ANSWER.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    peer.expect(answer, answer)
    for number in (1, 2):
        connection.open()
        assert connection.exchange(REQUEST).body == b"hello"
        assert peer.served == number


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    ],
    ids=["after an interim answer", "in chunks"],
)
def test_an_answer_is_whole_however_it_is_sent(peer: Peer, connection: SocketConnection, answer: bytes) -> None:
    def talk(other: socket.socket) -> None:
        for _ in range(2):
            receive(other)
            other.sendall(answer)

    peer.expect(talk)
    for reused in (False, True):
        connection.open()
        exchange = connection.exchange(REQUEST)
        assert (exchange.status, exchange.body, exchange.error, exchange.reused) == (200, b"hello", "", reused)
    assert peer.served == 1


def test_an_answer_of_unknown_length_ends_with_the_connection(peer: Peer, connection: SocketConnection) -> None:
    def talk(other: socket.socket) -> None:
        receive(other)
        other.sendall(b"HTTP/1.0 200 OK\r\n\r\nhel")
        other.sendall(b"lo")

    peer.expect(talk, talk)
    for number in (1, 2):
        connection.open()
        exchange = connection.exchange(REQUEST)
        assert (exchange.status, exchange.body, exchange.error) == (200, b"hello", "")
        assert peer.served == number


def test_a_second_answer_to_one_request_is_an_error(peer: Peer, connection: SocketConnection) -> None:
    def talk(other: socket.socket) -> None:
        receive(other)
        other.sendall(ANSWER + ANSWER)

    peer.expect(talk)
    connection.open()
    assert "more came than the one answer" in connection.exchange(REQUEST).error


def test_whoever_waits_is_told_when_another_thread_aborts(peer: Peer) -> None:
    received = threading.Event()

    def keep_silent(other: socket.socket) -> None:
        receive(other)
        received.set()
        peer.release.wait(10)

    peer.expect(keep_silent)
    connection = SocketConnection(peer.url, timeout_s=60)
    connection.open()

    def abort() -> None:
        received.wait(10)
        connection.abort()

    other = threading.Thread(target=abort)
    other.start()
    assert connection.exchange(REQUEST).error.startswith("the connection broke")
    other.join()


def test_nobody_listening_is_told_and_nothing_is_sent(peer: Peer, kind: type[Connection]) -> None:
    connection = kind(peer.url, timeout_s=10)
    peer.close()
    assert "Connection refused" in connection.open()
    assert connection.exchange(REQUEST).error == "not connected"
