"""Clients' connections where several front ends share a port: the supervisor accepts and deals them out, each is taken over here."""

import asyncio
import contextlib
import logging
import socket

import uvicorn

from dlserve.board import Board
from dlserve.front.http import Protocol

log = logging.getLogger(__name__)


def counting_protocol(board: Board) -> type[asyncio.Protocol]:
    """The HTTP of a front end that tells the board of every connection that has ended."""

    class Counting(Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            board.closed()

    return Counting


class Dealing:
    """This front end's end of the line over which connections come."""

    def __init__(self, line: socket.socket, server: uvicorn.Server, board: Board) -> None:
        self._line = line
        self._server = server
        self._board = board
        self._tasks: set[asyncio.Task[None]] = set()
        line.setblocking(False)

    def start(self) -> None:
        """Take over what comes, from now on; the server must have been started."""
        asyncio.get_running_loop().add_reader(self._line, self._take)

    async def close(self) -> None:
        """Take over what has come, and then no more."""
        self._take()
        asyncio.get_running_loop().remove_reader(self._line)
        self._line.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while descriptors := socket.recv_fds(self._line, 1, 1)[1]:
                task = asyncio.get_running_loop().create_task(self._serve(socket.socket(fileno=descriptors[0])))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            asyncio.get_running_loop().remove_reader(self._line)  # the supervisor deals no more

    async def _serve(self, connection: socket.socket) -> None:
        server = self._server

        def protocol() -> asyncio.Protocol:
            return server.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn does it for its own
                config=server.config, server_state=server.server_state, app_state=server.lifespan.state
            )

        try:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        except OSError as exc:  # its client was faster
            log.debug("a connection was gone before it was taken over: %s", exc)
            connection.close()
            self._board.closed()
