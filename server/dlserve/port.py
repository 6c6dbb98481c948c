"""The port that clients connect to: bound once, and where there are several front ends, its connections dealt out to them.

One front end listens to the port itself. Of several none does: the supervisor accepts, and deals each connection to the
one that has the fewest. (The kernel would deal them out by a hash of the client's port, SO_REUSEPORT, or to whoever wakes
first: 8 connections over 2 front ends are then 4 and 4 only once in four times, and those that wait for one that has died
are lost or wait for its successor.)
"""

import contextlib
import errno
import logging
import selectors
import socket
from collections.abc import Callable, Iterable

from dlserve.board import Board
from dlserve.child import Child
from dlserve.errors import StartError

log = logging.getLogger(__name__)
MOST_ACCEPTED = 64
"""Connections dealt out at a time, before anything else is looked at."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises StartError saying what to change."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} on {host} is taken by another program; stop it, or give another --port"
            ) from exc
        raise StartError(f"cannot listen on {host} port {port}: {exc.strerror}; change --host or --port") from exc
    return listener


class Dealer:
    """The supervisor's hand: takes connections off the port and gives each to a front end."""

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        board: Board,
        fronts: Callable[[], Iterable[Child]],
    ) -> None:
        """`selector`: calls back what is registered with it. `fronts`: those that can take a connection now."""
        listener.setblocking(False)
        self._listener = listener
        self._selector = selector
        self._board = board
        self._fronts = fronts
        self._accepting = False

    def accept(self, *, wanted: bool) -> None:
        """Take connections from now on, or leave them waiting."""
        if wanted != self._accepting:
            self._accepting = wanted
            if wanted:
                self._selector.register(self._listener, selectors.EVENT_READ, self._deal)
            else:
                self._selector.unregister(self._listener)

    def close(self) -> None:
        """Deal out those that have come, and then no more."""
        if self._accepting:
            self._deal()
            self.accept(wanted=False)

    def _deal(self) -> None:
        for _ in range(MOST_ACCEPTED):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                log.warning("a connection could not be accepted: %s", exc.strerror)
                return
            with connection:
                self._hand_over(connection)

    def _hand_over(self, connection: socket.socket) -> None:
        """Give a connection to the front end that has the fewest; one that is dying, or stands still, comes last."""

        def order(child: Child) -> tuple[bool, int, int]:
            still = child.pulse is not None and child.pulse.silent_s > 0
            return still, child.dealt - self._board.closed_by(child.place), child.dealt

        for child in sorted(self._fronts(), key=order):
            assert child.deals is not None
            with contextlib.suppress(OSError):
                socket.send_fds(child.deals, [b"\0"], [connection.fileno()])
                child.dealt += 1
                return
        log.warning("a connection was closed: no front end takes it")
