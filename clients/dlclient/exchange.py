"""One keep-alive HTTP connection with exact times. Requests are ready-made bytes; nothing is sent twice.

A plain socket with TCP_NODELAY and httptools' parser (llhttp) for the answers: a client library would build the headers
anew within the measured time, the moment of sending would be unknown, and a broken connection might be used again unseen.
The sockets are the standard library's, for threads, or what else `connect` gives, such as gevent's.
"""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import httptools

_BLOCK_BYTES = 1 << 16
_SEND_BUFFER_BYTES = 1 << 20
"""A usual image goes in one call, without a wait for the server to read."""
_LEAST_WAIT_S = 1e-6
"""A timeout of 0 would mean "do not wait at all" to a socket, which is another error."""
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""Headers that say where an answer ends; without either it ends with the connection."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came of one request. Times are on `time.perf_counter`. `status` 0: no answer, and `error` says why."""

    sent: float
    first_byte: float | None
    done: float
    status: int
    body: bytes
    error: str
    reused: bool = True
    """Whether an earlier request went the same connection."""


class SocketConnection:
    """To one server; used by one thread (or greenlet) at a time. `connect`, `tls`: how to get a socket and a TLS context."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        connect: Callable[..., Any] = socket.create_connection,
        tls: Callable[[], Any] = ssl.create_default_context,
    ) -> None:
        parts = urlsplit(url)
        self._tls = tls() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._timeout_s = timeout_s
        self._connect = connect
        self._socket: Any = None
        self._answer = _Answer()
        self._used = False

    def open(self) -> str:
        """Connect unless connected to a server that is still there; returns "" or why it did not work."""
        if self._socket is not None and not self._is_stale(self._socket):
            return ""
        self.close()
        try:
            connected = self._connect((self._host, self._port), self._timeout_s)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            if self._tls:
                connected = self._tls.wrap_socket(connected, server_hostname=self._host)
        except OSError as exc:
            return f"cannot connect to {self._host}:{self._port}: {exc.strerror or exc}"
        self._socket = connected
        self._answer = _Answer()
        self._used = False
        return ""

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def abort(self) -> None:
        """From another thread: whoever waits for an answer gets an error now."""
        connected = self._socket
        if connected is not None:
            with suppress(OSError):  # closed already, which is as good
                connected.shutdown(socket.SHUT_RDWR)

    def exchange(self, request: bytes) -> Exchange:
        """Send a complete HTTP request, wait for the complete answer. `open` first. Never raises for the network."""
        connected, answer = self._socket, self._answer
        if connected is None:
            now = perf_counter()
            return Exchange(now, None, now, 0, b"", "not connected")
        first_byte: float | None = None
        status, body, error = 0, b"", ""
        reusable = False
        reused, self._used = self._used, True
        answer.begin()
        sent = perf_counter()
        try:
            connected.settimeout(self._timeout_s)  # of all parts together
            connected.sendall(request)
            while not answer.complete:
                connected.settimeout(max(sent + self._timeout_s - perf_counter(), _LEAST_WAIT_S))
                answer.feed(connected.recv(_BLOCK_BYTES))
                if first_byte is None and answer.has_head:
                    first_byte = perf_counter()
            status, body, reusable = answer.status, answer.body(), answer.keeps_alive
        except TimeoutError:
            error = f"no complete answer within {self._timeout_s:g} s"
        except (OSError, httptools.HttpParserError) as exc:
            error = f"the connection broke before the answer was complete: {exc or type(exc).__name__}"
        finally:
            done = perf_counter()
            if not reusable:  # broken, timed out, its user was stopped, or the server asks for it
                self.close()
        return Exchange(sent, first_byte, done, status, body, error, reused)

    def _is_stale(self, connected: Any) -> bool:
        """Whether the server has closed the idle connection (or sent what nobody asked for)."""
        if self._tls:
            return False  # bytes may wait there that belong to TLS itself
        connected.settimeout(0.0)
        try:
            connected.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


class _Answer:
    """The answers of one connection, one after the other, as httptools calls back while it parses them."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Forget the last answer."""
        self.status = 0
        self.has_head = False
        self.complete = False
        self.keeps_alive = False
        """Whether the connection may carry another request."""
        self._parts: list[bytes] = []
        self._has_end = False
        self._too_much = False

    def feed(self, data: bytes) -> None:
        """What was received; b"" for the end of the connection. Raises httptools.HttpParserError or ConnectionError."""
        if data:
            self._parser.feed_data(data)
            if self._too_much:
                raise ConnectionError("more came than the one answer that was asked for")
        elif self.has_head and not self._has_end:
            self.complete = True
        else:
            raise ConnectionError("the server closed it")

    def body(self) -> bytes:
        """All of it."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def on_message_begin(self) -> None:
        self._too_much = self.complete

    def on_header(self, name: bytes, _: bytes) -> None:
        if name.lower() in _FRAMING:
            self._has_end = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.has_head = self.status >= 200

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self.has_head:  # else an interim answer, such as 100: the real one follows
            self.complete = True
            self.keeps_alive = self._parser.should_keep_alive()
