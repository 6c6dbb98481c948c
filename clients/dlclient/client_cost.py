"""What the client itself costs: the time of its calls to a server that does nothing, in a process of its own."""

import subprocess
import sys
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


class NullServer:
    """One such server, from `with` to its end."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dlclient.client_cost_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
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


def client_cost_s(request: bytes, answer_bytes: int) -> float:
    """The same for a single request, from a server that is started for it. Raises LocalServerError."""
    with NullServer() as server:
        return server.cost_s(len(request), answer_bytes)
