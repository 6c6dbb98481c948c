"""A worker's end of the line to its supervisor: settings and commands in, events out.

The other end's closing is how a worker learns, even of a killed supervisor, that it must not live on.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Literal

import msgspec

from dlserve.control import Event, line

log = logging.getLogger(__name__)
_LINE_BYTES = 1 << 16
ORPHANED = 4
"""Exit status of a worker whose supervisor is gone."""


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a supervisor may ask of a running worker."""

    command: Literal["stop"]


class Control:
    """The worker's end of the line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unread = b""

    def first_line(self) -> bytes:
        """The settings; b"" if the supervisor has gone before it sent any."""
        while b"\n" not in self._unread:
            received = self._connection.recv(_LINE_BYTES)
            if not received:
                return b""
            self._unread += received
        text, _, self._unread = self._unread.partition(b"\n")
        return text

    def tell(self, event: Event) -> None:
        """Send an event; a supervisor that is gone is noticed by `watch`."""
        try:
            self._connection.sendall(line(event))
        except OSError as exc:
            log.warning("the supervisor cannot be told %r: %s", event.event, exc)

    def watch(self, on_stop: Callable[[], None]) -> None:
        """From now on: a stop line calls `on_stop` in a thread of its own; end of line ends the process."""
        threading.Thread(target=self._watch, args=(on_stop,), name="control", daemon=True).start()

    def _watch(self, on_stop: Callable[[], None]) -> None:
        while True:
            self._commands(on_stop)
            received = self._receive()
            if not received:
                log.warning("the supervisor is gone: this worker ends now")
                os._exit(ORPHANED)
            self._unread += received

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(_LINE_BYTES)
        except OSError:
            return b""

    def _commands(self, on_stop: Callable[[], None]) -> None:
        while b"\n" in self._unread:
            text, _, self._unread = self._unread.partition(b"\n")
            try:
                msgspec.json.decode(text, type=Command)
            except msgspec.MsgspecError as exc:
                log.error("a command that this worker does not know: %r: %s", text[:200], exc)  # noqa: TRY400  no defect
                continue
            on_stop()
