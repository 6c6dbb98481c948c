"""A server that does nothing, in a process of its own: what a call to it takes is what the client itself costs.

`python -m dlclient.null_server` prints its port, answers `POST /N` with N bytes once the request's body is there, and ends when
its standard input does: so whatever ends the program that started it leaves nothing running.
"""

import os
import socket
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

from dlclient.errors import LocalServerError
from dlclient.exchange import SocketConnection
from dlclient.request_writer import RequestWriter
from dlclient.statistics import nearest_rank

COST_CALLS = 25
"""How many calls the cost is the median of."""
_UNTIMED_CALLS = 3
_TIMEOUT_S = 60.0
_BUFFER_BYTES = 1 << 20
_MOST_HEAD_BYTES = 1 << 14
_HEAD_END = b"\r\n\r\n"


class NullServer:
    """Runs from `with` to its end."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dlclient.null_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        told = self._process.stdout.readline()
        if not told:
            self._stop()
            raise LocalServerError("the server that measures the client's own cost did not start; see its output above")
        self._url = f"http://127.0.0.1:{int(told)}"
        self._writer = RequestWriter(self._url, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def cost_s(self, request_bytes: int, answer_bytes: int) -> float:
        """Median seconds of an exchange whose bodies have these sizes. Raises LocalServerError."""
        request = self._writer.write("POST", f"/{answer_bytes}", "application/json", bytes(request_bytes))
        connection = SocketConnection(self._url, _TIMEOUT_S)
        times: list[float] = []
        try:
            for _ in range(_UNTIMED_CALLS + COST_CALLS):
                problem = connection.open()
                exchange = connection.exchange(request)
                if problem or exchange.error:
                    raise LocalServerError(
                        f"the client's own cost could not be measured: {problem or exchange.error}; run it again"
                    )
                times.append(exchange.done - exchange.sent)
        finally:
            connection.close()
        return nearest_rank(sorted(times[_UNTIMED_CALLS:]), 0.5)

    def _stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve() -> None:
    """Answer one connection after the other, until standard input ends."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _answer_all(connection)


def _answer_all(connection: socket.socket) -> None:
    """Until the client leaves. It sends nothing before it has its answer."""
    buffer = bytearray(_BUFFER_BYTES)
    while head_and_more := _read_head(connection):
        head, _, begun = head_and_more.partition(_HEAD_END)
        left = _body_bytes(head) - len(begun)
        while left > 0:
            got = connection.recv_into(buffer, min(left, len(buffer)))
            if not got:
                return
            left -= got
        size = int(head.split(b" ", 2)[1][1:])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))


def _read_head(connection: socket.socket) -> bytes:
    """A request up to the end of its headers at least; b"" where the client has left."""
    got = b""
    while _HEAD_END not in got:
        more = connection.recv(_MOST_HEAD_BYTES)
        if not more:
            return b""
        got += more
    return got


def _body_bytes(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    serve()
