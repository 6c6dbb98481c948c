"""Bodies: their limits, and that nothing stays counted of what is no longer held."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from dlserve import board
from dlserve.config import Limits
from dlserve.errors import ApiError, BodyTimeoutError, BodyTooLargeError, QueueFullError
from dlserve.front import asgi
from dlserve.front.asgi import Bodies, DisconnectedError, Receive
from dlserve.front.http import Exchange, Piece

LIMITS = Limits(body_bytes=100, images=1, pixels=1, queue=1, queue_bytes=150)


def sending(*pieces: bytes | None, ends: bool = True) -> Receive:
    """A client that sends these pieces (None: it leaves), and then ends its body or says nothing more."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        piece = left.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(left) or not ends}

    return receive


def read(bodies: Bodies, receive: Receive, declared: int = 0) -> Sequence[Piece]:
    async def run() -> Sequence[Piece]:
        sweep = asyncio.create_task(bodies.sweep())
        try:
            return await bodies.read({b"content-length": str(declared).encode()}, receive)
        finally:
            sweep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweep

    return asyncio.run(run())


def test_a_body_is_counted_until_it_is_released() -> None:
    bodies = Bodies(LIMITS)
    pieces = read(bodies, sending(b"a" * 60, b"b" * 40))
    assert (pieces, bodies.held_bytes) == ([b"a" * 60, b"b" * 40], 100)
    bodies.release(pieces)
    assert bodies.held_bytes == 0


@pytest.mark.parametrize(
    ("pieces", "declared", "error"),
    [
        ([b"a" * 60, b"b" * 41], 0, BodyTooLargeError),
        ([b"a"], 101, BodyTooLargeError),
        ([b"a" * 60, None], 0, DisconnectedError),
    ],
)
def test_a_body_that_is_not_taken_is_not_counted(
    pieces: list[bytes | None], declared: int, error: type[Exception]
) -> None:
    bodies = Bodies(LIMITS)
    with pytest.raises(error):
        read(bodies, sending(*pieces), declared)
    assert bodies.held_bytes == 0


def test_bodies_are_limited_together() -> None:
    bodies = Bodies(LIMITS)
    held = read(bodies, sending(b"a" * 100))
    with pytest.raises(QueueFullError) as caught:
        read(bodies, sending(b"b" * 60))
    assert caught.value.reason == "body_bytes"
    bodies.release(held)
    assert read(bodies, sending(b"b" * 60))


class Come(Exchange):
    """A request whose body has come."""

    def __init__(self, body: bytes) -> None:
        self._come = body

    def take_whole(self) -> bytes:
        return self._come


def test_a_body_that_has_come_whole_is_limited_and_counted_the_same() -> None:
    bodies = Bodies(LIMITS)
    with pytest.raises(BodyTooLargeError):
        bodies.whole(Come(b"a" * 101))
    assert (bodies.whole(Come(b"")), bodies.held_bytes) == ([], 0), "the way of one that has yet to come"
    held = bodies.whole(Come(b"a" * 100))
    assert (held, bodies.held_bytes) == ([b"a" * 100], 100)
    with pytest.raises(QueueFullError):
        bodies.whole(Come(b"b" * 51))
    assert bodies.held_bytes == 100
    bodies.release(held)
    assert bodies.held_bytes == 0


def test_bodies_of_several_front_ends_are_limited_together() -> None:
    descriptor = board.make(2, 1)
    one, other = (Bodies(LIMITS, board.Board(descriptor, 2, 1, place)) for place in (0, 1))
    held = read(one, sending(b"a" * 100))
    with pytest.raises(QueueFullError):
        read(other, sending(b"b" * 60))
    one.release(held)
    assert read(other, sending(b"b" * 60))
    with pytest.raises(QueueFullError):
        read(one, sending(b"a" * 100))


def test_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_IDLE_S", 0.02)
    bodies = Bodies(LIMITS)
    with pytest.raises(BodyTimeoutError):
        read(bodies, sending(b"a" * 60, ends=False))
    assert bodies.held_bytes == 0


@pytest.mark.parametrize("body", [b"nonsense", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"])
def test_what_is_no_gzip_is_an_error(body: bytes) -> None:
    with pytest.raises(ApiError, match="gzip"):
        Bodies(LIMITS).decoded({b"content-encoding": b"gzip"}, [body])
