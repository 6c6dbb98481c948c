"""HTTP/1.1 as the front end speaks it, over a socket: one application, which answers in the short way and in ASGI's."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
import uvicorn
from dlserve.front import http
from dlserve.front.http import Exchange, Protocol, close_idle
from uvicorn.server import ServerState


async def _app(scope: MutableMapping[str, Any], receive: Any, send: Exchange) -> None:
    """Answers with what it was sent; /asgi by ASGI's messages, /broken not at all."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    said = b" ".join([scope["method"].encode(), scope["path"].encode(), scope["query_string"], body])
    if scope["path"] == "/broken":
        raise RuntimeError("no answer")
    if scope["path"] == "/asgi":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})
        return
    send.respond(201, said, [(b"x-kind", b"short")], b"text/plain")


@contextlib.asynccontextmanager
async def _serving() -> AsyncIterator[tuple[uvicorn.Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    listening = socket.create_server(("127.0.0.1", 0))
    settings = uvicorn.Config(
        _app, http=Protocol, loop="none", ws="none", lifespan="off", log_config=None, server_header=False
    )
    server = uvicorn.Server(settings)
    running = asyncio.create_task(server._serve([listening]))
    try:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        yield server, reader, writer
        writer.close()
    finally:
        server.should_exit = True
        await running


async def _answer(reader: asyncio.StreamReader) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, headers and body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in head[1:-2])
    return head[0], headers, await reader.readexactly(int(headers.get(b"content-length", 0)))


def _ask(*requests: bytes) -> list[tuple[bytes, dict[bytes, bytes], bytes]]:
    """The answers to requests that are sent at once on one connection."""

    async def run() -> list[tuple[bytes, dict[bytes, bytes], bytes]]:
        async with _serving() as (_, reader, writer):
            writer.write(b"".join(requests))
            return [await asyncio.wait_for(_answer(reader), 20) for _ in requests]

    return asyncio.run(run())


class _Transport(asyncio.Transport):
    """Of a client that is not there."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False


def _post(path: bytes, body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST %s HTTP/%s" % (path, version), b"Host: x", b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def test_an_answer_in_the_short_way_is_whole() -> None:
    ((status, headers, body),) = _ask(_post(b"/a%20b?c=d%20e", b"body"))
    assert (status, body) == (b"HTTP/1.1 201 Created", b"POST /a b c=d%20e body")
    assert headers.pop(b"date")
    assert headers == {b"content-type": b"text/plain", b"content-length": b"22", b"x-kind": b"short"}


def test_pipelined_requests_are_answered_in_their_order() -> None:
    answers = _ask(_post(b"/one", b"1"), _post(b"/asgi", b"2"), _post(b"/three", b"3" * 100_000))
    assert [body for _, _, body in answers] == [b"POST /one  1", b"POST /asgi  2", b"POST /three  " + b"3" * 100_000]


def test_a_body_in_pieces_is_put_together() -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (b"ab", b"c" * 200_000, b"d")) + b"0\r\n\r\n"
    ((_, _, body),) = _ask(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert body == b"POST /a  ab" + b"c" * 200_000 + b"d"


def _come(*pieces: bytes) -> bytes:
    """What can be taken of a body at once when this much of its request has come."""

    async def run() -> bytes:
        settings = uvicorn.Config(_app, ws="none", log_config=None)
        protocol = Protocol(settings, ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(_Transport())
        for piece in pieces:
            protocol.data_received(piece)
        assert isinstance(protocol.cycle, Exchange)
        taken, again = protocol.cycle.take_whole(), protocol.cycle.take_whole()
        assert again == b"", "it is taken once"
        if taken:
            await asyncio.gather(*protocol.tasks)
            assert protocol.cycle.response_complete, "`receive` tells that the body has ended"
        return bytes(taken)

    return asyncio.run(run())


def test_a_body_is_taken_at_once_if_all_of_it_has_come() -> None:
    request = _post(b"/a", b"12345")
    assert _come(request) == b"12345"
    assert _come(request[:-2], request[-2:]) == b"12345"
    assert _come(request[:-2]) == b""


def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async def run() -> tuple[bytes, bytes]:
        async with _serving() as (_, reader, writer):
            head, _, body = _post(b"/a", b"body", b"Expect: 100-continue").partition(b"\r\n\r\n")
            writer.write(head + b"\r\n\r\n")
            told = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            writer.write(body)
            return told, (await asyncio.wait_for(_answer(reader), 20))[2]

    assert asyncio.run(run()) == (b"HTTP/1.1 100 Continue\r\n\r\n", b"POST /a  body")


@pytest.mark.parametrize(
    ("request_", "connection"),
    [
        (_post(b"/a", b""), None),
        (_post(b"/a", b"", b"Connection: close"), b"close"),
        (_post(b"/a", b"", version=b"1.0"), b"close"),
    ],
)
def test_the_connection_ends_where_the_client_wants_it(request_: bytes, connection: bytes | None) -> None:
    async def run() -> tuple[bytes | None, bool]:
        async with _serving() as (_, reader, writer):
            writer.write(request_)
            headers = (await asyncio.wait_for(_answer(reader), 20))[1]
            if connection is None:
                writer.write(request_)
                return headers.get(b"connection"), bool(await asyncio.wait_for(_answer(reader), 20))
            return headers.get(b"connection"), await asyncio.wait_for(reader.read(), 20) == b""

    assert asyncio.run(run()) == (connection, True)


def test_an_answer_to_head_has_no_body() -> None:
    async def run() -> tuple[bytes, bytes]:
        async with _serving() as (_, reader, writer):
            writer.write(b"HEAD /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            head, _, rest = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
            return head, rest

    head, rest = asyncio.run(run())
    assert b"content-length: 9\r\n" in head
    assert rest == b""


def test_an_application_that_breaks_is_an_answer_too() -> None:
    ((status, _, _),) = _ask(_post(b"/broken", b""))
    assert status.startswith(b"HTTP/1.1 500")


@pytest.mark.parametrize("quiet", [True, False])
def test_only_a_connection_that_waits_for_its_next_request_too_long_is_closed(
    quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE_S", 0.01)

    async def run() -> None:
        async with _serving() as (server, reader, writer):
            request = _post(b"/a", b"body")
            writer.write(request)
            await asyncio.wait_for(_answer(reader), 20)
            if not quiet:
                writer.write(request[:-1])
                while (await _only_connection(server)).idle_since is not None:  # noqa: ASYNC110  it has no event
                    await asyncio.sleep(0)
            sweeping = asyncio.create_task(close_idle(server.server_state))
            if quiet:
                assert await asyncio.wait_for(reader.read(), 20) == b""
            else:
                for _ in range(20):
                    await asyncio.sleep(http.KEEP_ALIVE_S / 10)
                writer.write(request[-1:])
                assert (await asyncio.wait_for(_answer(reader), 20))[2] == b"POST /a  body"
            sweeping.cancel()

    asyncio.run(run())


async def _only_connection(server: uvicorn.Server) -> Protocol:
    (connection,) = server.server_state.connections
    assert isinstance(connection, Protocol)
    return connection
