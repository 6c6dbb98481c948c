"""One keep-alive HTTP connection of one user, with exact times. Requests are ready-made bytes; nothing is sent twice.

A plain socket with TCP_NODELAY under gevent, and geventhttpclient's parser for the answers: with geventhttpclient's own
client (what Locust's FastHttpUser is made of) the headers would be built anew within the measured time, the moment of
sending would be unknown, and a broken connection might be used again unseen.
"""

from dataclasses import dataclass
from http.client import HTTPException
from time import perf_counter
from urllib.parse import urlsplit

import gevent.socket
import gevent.ssl
from geventhttpclient.response import HTTPSocketResponse

_BLOCK_BYTES = 1 << 16
_SEND_BUFFER_BYTES = 1 << 20
"""A usual image goes in one call, without a wait for the server to read."""


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


class Connection:
    """To one server; used by one greenlet at a time."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._tls = gevent.ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._timeout_s = timeout_s
        self._socket: gevent.socket.socket | None = None
        self._used = False

    def open(self) -> str:
        """Connect unless connected to a server that is still there; returns "" or why it did not work."""
        if self._socket is not None and not self._is_stale(self._socket):
            return ""
        self.close()
        try:
            connected = gevent.socket.create_connection((self._host, self._port), self._timeout_s)
            connected.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
            connected.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            if self._tls:
                connected = self._tls.wrap_socket(connected, server_hostname=self._host)
            connected.settimeout(None)  # `exchange` limits the whole, not each wait
        except OSError as exc:
            return f"cannot connect to {self._host}:{self._port}: {exc.strerror or exc}"
        self._socket = connected
        self._used = False
        return ""

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, request: bytes) -> Exchange:
        """Send a complete HTTP request, wait for the complete answer. `open` first. Never raises for the network."""
        connected = self._socket
        if connected is None:
            now = perf_counter()
            return Exchange(now, None, now, 0, b"", "not connected")
        first_byte: float | None = None
        status, body, error = 0, b"", ""
        reusable = False
        reused, self._used = self._used, True
        limit = gevent.Timeout.start_new(self._timeout_s)
        sent = perf_counter()
        try:
            connected.sendall(request)
            answer = HTTPSocketResponse(connected, _BLOCK_BYTES, method="POST")
            first_byte = perf_counter()
            body = answer.read()
            status = answer.status_code
            reusable = not answer.should_close()
        except gevent.Timeout as expired:
            if expired is not limit:
                raise
            error = f"no complete answer within {self._timeout_s:g} s"
        except (OSError, HTTPException) as exc:
            error = f"the connection broke before the answer was complete: {exc or type(exc).__name__}"
        finally:
            done = perf_counter()
            limit.close()
            if not reusable:  # broken, timed out, its user was stopped, or the server asks for it
                self.close()
        return Exchange(sent, first_byte, done, status, body, error, reused)

    def _is_stale(self, connected: gevent.socket.socket) -> bool:
        """Whether the server has closed the idle connection (or sent what nobody asked for)."""
        if self._tls:
            return False  # bytes may wait there that belong to TLS itself
        connected.settimeout(0.0)
        try:
            connected.recv(1, gevent.socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            connected.settimeout(None)
        return True
