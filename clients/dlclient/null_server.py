"""A server that does nothing: reads so many bytes, answers with the same bytes each time. What a client costs shows against it.

`python -m dlclient.null_server REQUEST_BYTES ANSWER_BYTES` says its port on standard output and ends with its one connection.
"""

import socket
import statistics
import subprocess
import sys

from dlclient.errors import ConnectionFailedError
from dlclient.exchange import SocketConnection

CALLS = 200
_WARM_UP = 20
_TIMEOUT_S = 30.0
_LEAST_BODY = 2


def client_cost_s(request: bytes, answer_bytes: int) -> float:
    """Median seconds that `exchange` takes for this request where the server does nothing and answers with so many bytes.

    That is the client's own part of every time that it measures, and the loopback's. Takes a fraction of a second. Raises
    ConnectionFailedError where this machine does not let it.
    """
    command = [sys.executable, "-m", "dlclient.null_server", str(len(request)), str(max(answer_bytes, _LEAST_BODY))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:  # noqa: S603  ours
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        connection = SocketConnection(f"http://127.0.0.1:{port}", _TIMEOUT_S)
        try:
            problem = connection.open() if port else "it did not start"
            times: list[float] = []
            while not problem and len(times) < _WARM_UP + CALLS:
                seen = connection.exchange(request)
                problem = seen.error
                times.append(seen.done - seen.sent)
            if problem:
                raise ConnectionFailedError(
                    f"what the client costs cannot be measured ({problem}): see whether this machine lets a program listen on"
                    " 127.0.0.1"
                )
        finally:
            connection.close()
            process.terminate()
    return statistics.median(times[_WARM_UP:])


def main(argv: list[str]) -> None:
    """Serve one connection."""
    request_bytes, answer_bytes = map(int, argv)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {answer_bytes}\r\n\r\n"
    answer = head.encode() + b"{" + b" " * (answer_bytes - _LEAST_BODY) + b"}"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    room = memoryview(bytearray(1 << 20))
    left = request_bytes
    with connection:
        while got := connection.recv_into(room[: min(left, len(room))]):
            left -= got
            if left == 0:
                connection.sendall(answer)
                left = request_bytes


if __name__ == "__main__":
    main(sys.argv[1:])
