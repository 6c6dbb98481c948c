"""The system under test as LoadGen sees it: takes the samples that it releases, asks the server, tells when it answered.

OS threads, each with a keep-alive connection, take the samples in the order in which they were released. The queue between
is as long as what LoadGen has released and not seen answered, which is LoadGen's to limit.
"""

import logging
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic, perf_counter
from typing import Any, Protocol

from dlclient.exchange import Exchange, SocketConnection
from dlclient.results import Record, Slot

from dlload.encoded_images import EncodedImages
from dlload.errors import RecordError
from dlload.protocols.base import Outcome
from dlload.protocols.base import Protocol as ServerProtocol
from dlload.records import record_of

logger = logging.getLogger(__name__)

ABANDONED = "abandoned: the run ended before the answer came"
GIVE_UP_ROUNDS = 2
"""A server is gone when so many requests in a row as there are connections, this many times over, got no answer at all."""


class Sample(Protocol):
    """LoadGen's QuerySample."""

    id: int
    """Of this release, to answer to."""
    index: int
    """Into the library."""


@dataclass(frozen=True, slots=True)
class Library:
    """What LoadGen draws from: sample i is slot i."""

    slots: Sequence[Slot]
    images: EncodedImages


@dataclass(frozen=True, slots=True)
class _Released:
    """A sample that LoadGen released, and when."""

    id: int
    index: int
    at: float


class SystemUnderTest:
    """`issue` is LoadGen's callback. `complete`: tells LoadGen; `keep`: takes the record; `end`: why nothing more can come."""

    def __init__(
        self,
        scenario: str,
        library: Library,
        protocol: ServerProtocol,
        connections: Sequence[SocketConnection],
        complete: Callable[[int, bytes], None],
        keep: Callable[[Record], None],
        end: Callable[[str], None],
    ) -> None:
        self.records: list[Record] = []
        self.released = 0
        self.started = 0.0
        """On `time.perf_counter`."""
        self._scenario = scenario
        self._library = library
        self._protocol = protocol
        self._connections = connections
        self._complete = complete
        self._keep = keep
        self._end = end
        self._queue: SimpleQueue[_Released | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, args=(one,), daemon=True) for one in connections]
        self._lock = Lock()
        self._unanswered_in_a_row = 0
        self._closed = False

    def start(self) -> None:
        """Connect, so that the first samples need not wait for it, start the clock and the threads."""
        for connection in self._connections:
            connection.open()  # where that does not work, the sample that needs it will tell
        self.started = perf_counter()
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Iterable[Sample]) -> None:
        """Samples of one query, due now."""
        now = perf_counter()
        if self._closed:
            return
        for sample in samples:
            self.released += 1  # LoadGen issues from one thread
            self._queue.put(_Released(sample.id, sample.index, now))

    def finish(self) -> None:
        """All is answered: let the threads end."""
        for _ in self._threads:
            self._queue.put(None)
        self._join(None)

    def abandon(self, wait_s: float) -> None:
        """Send nothing more, and leave records of what is in flight. LoadGen gets no more answers, and never ends."""
        self._closed = True
        for connection in self._connections:
            connection.abort()
        for _ in self._threads:
            self._queue.put(None)
        self._join(wait_s)

    def _join(self, wait_s: float | None) -> None:
        until = None if wait_s is None else monotonic() + wait_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(None if until is None else max(until - monotonic(), 0.0))

    def _work(self, connection: SocketConnection) -> None:
        try:
            while (released := self._queue.get()) is not None:
                if not self._closed:
                    self._serve(connection, released)
        except RecordError as exc:
            self._end(str(exc))
        except Exception as exc:
            logger.exception("a bug of the load tester")
            self._end(f"the load tester failed: {exc!r}")
        finally:
            connection.close()

    def _serve(self, connection: SocketConnection, released: _Released) -> None:
        slot = self._library.slots[released.index]
        images = self._library.images.of(slot.model, slot.images)
        problem = connection.open()
        request = self._protocol.request(slot.model, images, None, None)
        if problem:
            now = perf_counter()
            exchange = Exchange(now, None, now, 0, b"", problem)
        else:
            exchange = connection.exchange(request)
        if self._closed and exchange.status == 0:
            exchange = Exchange(exchange.sent, None, exchange.done, 0, b"", ABANDONED)
        else:
            self._complete(released.id, exchange.body if exchange.status == 200 else b"")
        outcome = Outcome()
        if not exchange.error:
            outcome = self._protocol.outcome(exchange.status, exchange.body, len(images))
        record = record_of(
            phase=self._scenario,
            started=self.started,
            slot=slot,
            due=released.at,
            exchange=exchange,
            outcome=outcome,
            bytes_sent=len(request),
        )
        self._add(record)

    def _add(self, record: Record) -> None:
        with self._lock:
            self._keep(record)
            self.records.append(record)
            self._unanswered_in_a_row = 0 if record.status else self._unanswered_in_a_row + 1
            gone = self._unanswered_in_a_row > GIVE_UP_ROUNDS * len(self._connections)
        if gone and not self._closed:
            self._end(f"the server stopped answering ({record.error})")


def completion(library: Any, *, with_answers: bool) -> Callable[[int, bytes], None]:
    """Tells LoadGen (`library`: the module mlperf_loadgen) that a sample is answered; `with_answers`: and by what."""

    def complete(sample: int, answer: bytes) -> None:
        content = array("B", answer if with_answers else b"")
        address, size = content.buffer_info()
        library.QuerySamplesComplete([library.QuerySampleResponse(sample, address, size)])  # which copies it

    return complete
