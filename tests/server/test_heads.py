"""Requests whose head was parsed before: read the same as by the parser, however they are cut up, or by the parser itself."""

import asyncio
import itertools
from collections.abc import MutableMapping
from typing import Any

import pytest
import uvicorn
from dlserve.front import heads
from dlserve.front.heads import Heads
from dlserve.front.http import Exchange, Protocol
from uvicorn.server import ServerState

PLAIN = b"Content-Length: 5"


class _Client(asyncio.Transport):
    """Keeps what it is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.come = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.come += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """It reads on: what it is given is little."""

    def resume_reading(self) -> None:
        """It never stopped."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default


async def _app(scope: MutableMapping[str, Any], receive: Any, send: Exchange) -> None:
    """Says all that it was told."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message["body"]
        more = message["more_body"]
    send.respond(200, repr((sorted(scope.items(), key=str), body)).encode())


def _answers(*connections: list[bytes]) -> tuple[list[bytes], Heads]:
    """What each connection is answered, whose requests come in these pieces; and the heads that are known then."""

    async def run() -> tuple[list[bytes], Heads]:
        settings = uvicorn.Config(_app, ws="none", log_config=None)

        class Fresh(Protocol):
            _heads = Heads()

        clients = []
        for pieces in connections:
            client = _Client()
            protocol = Fresh(settings, ServerState(), {}, asyncio.get_running_loop())
            protocol.connection_made(client)
            clients.append(client)
            for piece in pieces:
                protocol.data_received(piece)
                while protocol.tasks and not protocol.cycle.more_body:
                    await asyncio.gather(*protocol.tasks)
            protocol.connection_lost(None)
            await asyncio.gather(*protocol.tasks)
        return [client.come for client in clients], Fresh._heads

    return asyncio.run(run())


def _request(*headers: bytes, body: bytes = b"12345", line: bytes = b"POST /a%20b?c=d HTTP/1.1") -> bytes:
    return b"\r\n".join([line, b"Host: x", *headers, b"", body])


def test_a_head_that_was_parsed_before_reads_the_same() -> None:
    request = _request(PLAIN, b"X-More: 1", b"Connection: Keep-Alive")
    (once, twice, other), known = _answers([request], [request, request], [request.replace(b"12345", b"abcde")])
    assert len(known) == 1
    assert once.startswith(b"HTTP/1.1 200 OK\r\n")
    assert twice == once * 2
    assert other == once.replace(b"12345", b"abcde")


@pytest.mark.parametrize("cut", range(1, 80, 3))
def test_it_does_not_matter_where_a_request_is_cut(cut: int) -> None:
    request = _request(PLAIN) * 2
    assert cut < len(request)
    (parsed, known, cut_up), _ = _answers([request[: len(request) // 2]], [request], [request[:cut], request[cut:]])
    assert known == cut_up == parsed * 2


def test_bytes_that_come_one_by_one_are_a_request_too() -> None:
    request = _request(PLAIN)
    (once, slowly), _ = _answers([request], [bytes([byte]) for byte in request * 2])
    assert slowly == once * 2


def test_what_follows_a_known_head_may_be_another_request() -> None:
    known, other, last = (
        _request(PLAIN),
        _request(b"Content-Length: 0", body=b""),
        _request(PLAIN, b"Connection: close"),
    )
    (apart, together), _ = _answers([known, known, other, known, last], [known + known + other + known + last])
    assert together == apart
    assert apart.count(b"HTTP/1.1 200") == 5


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(_request(PLAIN, line=b"POST / HTTP/1.0"), id="HTTP/1.0"),
        pytest.param(_request(PLAIN, b"Connection: close"), id="ends"),
        pytest.param(_request(PLAIN, b"Connection: keep-alive, close"), id="ends all the same"),
        pytest.param(_request(PLAIN, b"Proxy-Connection: close"), id="ends by a header that only the parser heeds"),
        pytest.param(_request(PLAIN, b"Expect: 100-continue"), id="asks first"),
        pytest.param(_request(b"Transfer-Encoding: chunked", body=b"5\r\n12345\r\n0\r\n\r\n"), id="chunked"),
        pytest.param(_request(PLAIN, b"Connection: Upgrade", b"Upgrade: h2c"), id="upgrade"),
        pytest.param(_request(body=b"", line=b"GET / HTTP/1.1"), id="no length"),
        pytest.param(_request(PLAIN, b"X: " + b"x" * heads.MOST_BYTES), id="long"),
        pytest.param(b"POST / HTTP/1.1\nHost: x\nContent-Length: 5\n\n1\r\n\r\n", id="bare newlines"),
        pytest.param(b"nonsense\r\n\r\n", id="nonsense"),
        pytest.param(_request(PLAIN, PLAIN), id="two lengths"),
    ],
)
def test_a_head_that_leaves_a_question_is_parsed_each_time(request_: bytes) -> None:
    (once, again), known = _answers([request_], [request_])
    assert len(known) == 0
    assert again == once


def test_two_requests_at_once_are_no_head() -> None:
    (_,), known = _answers([_request(PLAIN) + _request(PLAIN, b"X: 1")])
    assert len(known) == 0


def test_after_an_upgrade_the_parser_decides() -> None:
    request, upgrade = _request(PLAIN), _request(PLAIN, b"Connection: Upgrade", b"Upgrade: h2c")
    (fresh, known), _ = _answers([upgrade, request], [request, upgrade, request])
    (once,), _ = _answers([request])
    assert known == once + fresh


def test_no_more_heads_are_remembered_than_that() -> None:
    of = [_request(PLAIN, b"X-Request-Id: %d" % number) for number in range(heads.MOST_HEADS + 2)]
    answers, known = _answers(*([request] for request in of))
    assert len(known) == 2
    assert all(b"200 OK" in answer for answer in answers)
    assert all(one != other for one, other in itertools.pairwise(answers))
