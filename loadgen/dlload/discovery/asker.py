"""Questions to a server outside the measured time, over the connections and requests that the measured ones use."""

from typing import Any, TypeVar

import msgspec
from dlclient.exchange import SocketConnection
from dlclient.request_writer import RequestWriter

from dlload.errors import TargetError
from dlload.protocols.answer import quoted

_Shape = TypeVar("_Shape")


class Asker:
    """Of one server. Closes its connection after each answer: some servers are asked hours apart.

    On the standard library's sockets: `dlload mlperf` has no gevent, and under Locust they are gevent's.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        self.url = url
        self._writer = RequestWriter(url, api_key)
        self._connection = SocketConnection(url, timeout_s)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """HTTP status and body. Raises TargetError where no answer comes."""
        request = self._writer.write(method, path, "application/json" if body else "", body)
        problem = self._connection.open()
        try:
            if not problem:
                exchange = self._connection.exchange(request)
                problem = exchange.error
        finally:
            self._connection.close()
        if problem:
            raise TargetError(f"no server at {self.url} ({problem}); start one or give its address with --host")
        return exchange.status, exchange.body

    def told(self, shape: type[_Shape], method: str, path: str, body: bytes = b"") -> _Shape | None:
        """The answer, None where the server knows no such thing (HTTP 404, 405, 501). Raises TargetError."""
        status, answer = self.ask(method, path, body)
        if status in {404, 405, 501}:
            return None
        if not 200 <= status < 300:
            raise TargetError(f"{method} {self.url}{path}: HTTP {status}: {quoted(answer)}; see the server's log")
        try:
            return msgspec.json.decode(answer, type=shape)
        except msgspec.DecodeError as exc:
            raise TargetError(
                f"{method} {self.url}{path}: not the answer that the API promises ({exc}); see what listens there"
            ) from exc

    def json(self, method: str, path: str) -> dict[str, Any] | None:
        """The same for an object of any content."""
        return self.told(dict[str, Any], method, path)
