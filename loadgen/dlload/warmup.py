"""What is sent before the clock of a phase starts, so that every worker has loaded and run every model once."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread

from dlclient.exchange import SocketConnection

from dlload.errors import TargetError
from dlload.protocols.base import Protocol

UNPINNED_ROUNDS = 2
"""Where requests cannot be sent to a chosen worker: how often every model is asked."""


@dataclass(frozen=True, slots=True)
class Round:
    """Requests sent one after the other; rounds run side by side."""

    worker: int | None
    """The worker that all of them are for; None: the server chooses."""
    services: tuple[str, ...]


def rounds(services: Sequence[str], workers: Sequence[int]) -> list[Round]:
    """One round per worker, or one for all where there is none to choose. Pure."""
    if workers:
        return [Round(worker, tuple(services)) for worker in workers]
    return [Round(None, tuple(services) * UNPINNED_ROUNDS)]


def greenlets(jobs: Sequence[Callable[[], str]]) -> Generator[str, None, None]:
    """What the jobs return, in the order in which they end, side by side under gevent; `close` ends those still at work."""
    import gevent  # noqa: PLC0415  `dlload mlperf` works with threads, and without gevent

    running = [gevent.spawn(job) for job in jobs]
    try:
        for one in gevent.iwait(running):
            yield one.get()
    finally:
        gevent.killall(running)


def threads(jobs: Sequence[Callable[[], str]]) -> Generator[str, None, None]:
    """The same in threads; those still at work at `close` are left to end by themselves, at their timeouts."""
    ends: SimpleQueue[str | BaseException] = SimpleQueue()

    def work(job: Callable[[], str]) -> None:
        try:
            ends.put(job())
        except BaseException as exc:  # noqa: BLE001  it is raised again in the thread that waits
            ends.put(exc)

    for job in jobs:
        Thread(target=work, args=(job,), daemon=True).start()
    for _ in jobs:
        end = ends.get()
        if isinstance(end, BaseException):
            raise end
        yield end


def warm_up(
    planned: Sequence[Round],
    protocol: Protocol,
    images: Callable[[str], Sequence[bytes]],
    connect: Callable[[], SocketConnection],
    together: Callable[[Sequence[Callable[[], str]]], Generator[str, None, None]] = greenlets,
) -> int:
    """Send the rounds, side by side. `images`: service -> one request's, encoded. Returns how many were sent.

    Raises TargetError.
    """
    jobs = [partial(_send, one, protocol, images, connect()) for one in planned]
    with closing(together(jobs)) as ends:
        for problem in ends:
            if problem:
                raise TargetError(f"{problem}; nothing was measured, see the server's log")
    return sum(len(one.services) for one in planned)


def _send(
    one: Round, protocol: Protocol, images: Callable[[str], Sequence[bytes]], connection: SocketConnection
) -> str:
    """Returns "" or what went wrong."""
    where = "" if one.worker is None else f" on worker {one.worker}"
    try:
        for service in one.services:
            problem = connection.open()
            if not problem:
                carried = images(service)
                exchange = connection.exchange(protocol.request(service, carried, None, one.worker))
                problem = exchange.error or protocol.outcome(exchange.status, exchange.body, len(carried)).error
            if problem:
                return f"warming up service {service}{where} failed: {problem}"
    finally:
        connection.close()
    return ""
