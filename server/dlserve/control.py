"""The supervisor's line to each of its children: JSON objects, one a line, over a socket pair.

Downwards: first the child's settings, then commands (``{"command": "stop"}``). Upwards: events. The end of the stream
means that the other side is gone.
"""

import socket
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

_MOST_BYTES = 1 << 16

EventKind = Literal["ready", "failed", "worker-ready", "worker-failed", "stuck", "drained"]
"""ready, failed: of the process itself. The others come from a front end: a worker takes its requests; could not preload;
makes no progress; all that the front end accepted is answered, so that it no longer needs the workers."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a child tells the supervisor."""

    event: EventKind
    message: str = ""
    worker: int = -1
    generation: int = -1
    """Which process of that worker is meant: it may have been replaced since."""


STOP = b'{"command": "stop"}\n'


def line(content: msgspec.Struct | dict[str, Any]) -> bytes:
    """A line to send."""
    return msgspec.json.encode(content) + b"\n"


class EventReader:
    """The supervisor's end: events out of a socket that is ready to be read."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unread = b""
        self.closed = False
        """Whether the child's end is closed."""

    def read(self) -> Iterator[Event]:
        """The events that have come; none where the child has closed its end."""
        try:
            received = self._sock.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset by a dying child
            received = b""
        self.closed = not received
        self._unread += received
        *lines, self._unread = self._unread.split(b"\n")
        for text in lines:
            try:
                yield msgspec.json.decode(text, type=Event)
            except msgspec.DecodeError as exc:
                raise RuntimeError(f"a child sent no event: {text[:200]!r}") from exc
