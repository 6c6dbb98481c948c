"""What leaves a connection in one write, and what does not wait."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from dlserve.front.http import GatheringTransport


class Wire:
    """Stands for a connection: the pieces as they are handed to the kernel."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.sent.append(b"".join(pieces))

    def close(self) -> None:
        self.closed = True

    def get_extra_info(self, name: str) -> Any:
        return name

    is_closing = pause_reading = resume_reading = close


async def _after(do: Callable[[GatheringTransport], None]) -> tuple[list[bytes], list[bytes], bool]:
    """What was sent at once, by the end of the event loop's turn, and whether it was closed."""
    wire = Wire()
    do(GatheringTransport(cast("asyncio.Transport", wire), asyncio.get_running_loop()))
    at_once = list(wire.sent)
    await asyncio.sleep(0)
    return at_once, wire.sent, wire.closed


def _answer(transport: GatheringTransport) -> None:
    transport.write(b"head")
    transport.write(b"body")


def _two_answers(transport: GatheringTransport) -> None:
    _answer(transport)
    _answer(transport)


def _head_alone(transport: GatheringTransport) -> None:
    transport.write(b"100 Continue")


def _head_and_close(transport: GatheringTransport) -> None:
    transport.write(b"head")
    transport.close()


@pytest.mark.parametrize(
    ("do", "at_once", "later", "closed"),
    [
        (_answer, [b"headbody"], [b"headbody"], False),
        (_two_answers, [b"headbody", b"headbody"], [b"headbody", b"headbody"], False),
        (_head_alone, [], [b"100 Continue"], False),
        (_head_and_close, [b"head"], [b"head"], True),
    ],
)
def test_a_head_leaves_with_its_body_and_never_waits_longer_than_a_turn(
    do: Callable[[GatheringTransport], None], at_once: list[bytes], later: list[bytes], closed: bool
) -> None:
    assert asyncio.run(_after(do)) == (at_once, later, closed)
