"""Calls over kept connections, one at a time on each: the clock of dd_bench."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from dlclient.dd_bench.answers import Said
from dlclient.dd_bench.calls import Lane
from dlclient.errors import PointError
from dlclient.exchange import Exchange, SocketConnection

_TELL_EVERY_S = 0.2
_GIVE_UP_S = 5.0
"""For a thread that still connects: it is left behind, and ends with the process."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is ready to be sent, and how its answer is read: raises PointError."""

    request: bytes
    read: Callable[[Exchange], Said]


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was sent. `said` None: it failed, and `error` says why."""

    exchange: Exchange
    said: Said | None
    error: PointError | None = None


@dataclass
class _Work:
    """What the connections of a crew share while they work."""

    call: Callable[[Lane, int], Call]
    start: threading.Barrier
    done: list[Done] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    broken: list[BaseException] = field(default_factory=list)


class Crew:
    """Connections to one server: one for each lane, kept between runs."""

    def __init__(self, url: str, timeout_s: float, lanes: Sequence[Lane]) -> None:
        self.lanes = tuple(lanes)
        self._connections = [SocketConnection(url, timeout_s) for _ in lanes]

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()

    def work(
        self,
        count: int,
        call: Callable[[Lane, int], Call],
        tell: Callable[[float], None] = lambda _: None,
        *,
        evenly: bool = False,
    ) -> list[Done]:
        """Send `count` calls: whichever connection is free takes the next, or `evenly` each the same number of them.

        All begin together, connected already. The first failure ends it: no more calls are sent then. Returned in the order in
        which they were sent.
        """
        lanes = list(zip(self.lanes, self._connections, strict=True))[:count]
        work = _Work(call, threading.Barrier(len(lanes)))
        shared = iter(range(count))
        threads = [
            threading.Thread(
                target=_take_part,
                args=(work, lane, one, iter(range(place, count, len(lanes))) if evenly else shared),
                daemon=True,
            )
            for place, (lane, one) in enumerate(lanes)
        ]
        with self._ending(work, threads):
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TELL_EVERY_S)
                    tell(len(work.done) / count)
        if work.broken:
            raise work.broken[0]
        return sorted(work.done, key=lambda one: one.exchange.sent)

    @contextmanager
    def _ending(self, work: _Work, threads: Sequence[threading.Thread]) -> Iterator[None]:
        """Whatever interrupts the wait for the threads (Ctrl-C) ends them first."""
        try:
            yield
        except BaseException:
            work.stopped.set()
            for connection in self._connections:
                connection.abort()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(_GIVE_UP_S)
            raise


def _take_part(work: _Work, lane: Lane, connection: SocketConnection, numbers: Iterator[int]) -> None:
    """The thread of one connection. `numbers`: of the calls; taking one is a single step of the interpreter."""
    try:
        problem = connection.open()
        with suppress(threading.BrokenBarrierError):  # one that could not take part; its reason is kept
            work.start.wait()
        while not problem and not work.stopped.is_set():
            number = next(numbers, None)
            if number is None:
                return
            call = work.call(lane, number)
            problem = connection.open()
            if not problem:
                _send(work, connection, call)
        if problem:
            raise PointError(f"{problem}; see the server's log, it may have ended", kind="crash")
    except BaseException as exc:  # noqa: BLE001  raised again in the thread that waits
        work.broken.append(exc)
        work.stopped.set()
        work.start.abort()


def _send(work: _Work, connection: SocketConnection, call: Call) -> None:
    exchange = connection.exchange(call.request)
    try:
        work.done.append(Done(exchange, call.read(exchange)))
    except PointError as exc:
        work.done.append(Done(exchange, None, exc))
        work.stopped.set()
