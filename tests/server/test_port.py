"""dlserve.port: whom a new connection is given to."""

import contextlib
import selectors
import socket
import subprocess
from collections.abc import Iterator

import pytest
from dlserve import board, port
from dlserve.board import Board
from dlserve.child import FRONT, Child
from dlserve.pulse import Pulse

from tests.conftest import DEADLINE_S


class Table:
    """A dealer and two front ends that take what they are dealt; they are processes that do nothing."""

    def __init__(self, opened: contextlib.ExitStack) -> None:
        self._opened = opened
        self.fronts: list[Child] = []
        self.own = [opened.enter_context(contextlib.closing(self._sit(place))) for place in (0, 1)]
        self._listener = opened.enter_context(port.bind("127.0.0.1", 0))
        self._selector = opened.enter_context(selectors.DefaultSelector())
        self.dealer = port.Dealer(self._listener, self._selector, Board(board.make(2, 1), 2, 1), lambda: self.fronts)
        self.dealer.accept(wanted=True)

    def _sit(self, place: int) -> socket.socket:
        deals, own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = self._opened.enter_context(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        channel, far = socket.socketpair()
        far.close()
        child = Child(FRONT - place, f"front end {place}", process, channel)
        child.deals, child.pulse = deals, Pulse(1.0)
        self._opened.callback(child.close)
        self._opened.callback(process.kill)
        self.fronts.append(child)
        own.setblocking(False)
        return own

    def connect(self) -> int:
        """A client comes; which front end is given its connection."""
        self._opened.enter_context(socket.create_connection(self._listener.getsockname()))
        ((key, _),) = self._selector.select(DEADLINE_S)
        key.data()
        for place, own in enumerate(self.own):
            with contextlib.suppress(BlockingIOError):
                (descriptor,) = socket.recv_fds(own, 1, 1)[1]
                self._opened.enter_context(socket.socket(fileno=descriptor))
                return place
        pytest.fail("nobody was given the connection")


@pytest.fixture
def table() -> Iterator[Table]:
    with contextlib.ExitStack() as opened:
        yield Table(opened)


def test_whoever_has_the_fewest_is_given_the_next(table: Table) -> None:
    assert [table.connect() for _ in range(4)] == [0, 1, 0, 1]


def test_one_that_stands_still_is_given_none_until_it_turns_again(table: Table) -> None:
    pulse = table.fronts[0].pulse
    assert pulse is not None
    for now in (1.0, 2.0):
        pulse.look(7, now)
    assert [table.connect() for _ in range(3)] == [1, 1, 1]
    pulse.look(8, 3.0)
    assert [table.connect() for _ in range(3)] == [0, 0, 0]


def test_where_all_stand_still_they_are_dealt_to_as_ever(table: Table) -> None:
    for front in table.fronts:
        assert front.pulse is not None
        for now in (1.0, 2.0):
            front.pulse.look(7, now)
    assert [table.connect() for _ in range(4)] == [0, 1, 0, 1]
