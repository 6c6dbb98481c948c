"""A server that does nothing, for dlclient.client_cost: a call to it takes what the client itself takes.

`python -m dlclient.client_cost_server` prints its port, answers `POST /N` with N bytes once the request's body is there, and ends when
its standard input does: so whatever ends the program that started it leaves nothing running. It imports nothing that takes long.
"""

import os
import socket
import sys
import threading

_BUFFER_BYTES = 1 << 20
_MOST_HEAD_BYTES = 1 << 14
_HEAD_END = b"\r\n\r\n"


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
