"""One sender: takes the next slot when it is its turn, sends it, writes down what came of it."""

from collections.abc import Callable, Mapping
from time import perf_counter

from dlclient.results import Record

from dlload.connection import Connection, Exchange
from dlload.phase import Phase, Turn
from dlload.protocols.base import Outcome, Protocol

ABANDONED = "abandoned: its user was stopped before the answer came"
_MAX_ERROR = 300
"""Characters of an error text that are kept; some quote what was sent."""


class Sender:
    """Has a connection of its own. `observe` is called with each record after it is written."""

    def __init__(
        self,
        protocol: Protocol,
        images: Mapping[str, bytes],
        connection: Connection,
        observe: Callable[[Record], None],
        share: int = 0,
    ) -> None:
        """`images`: name -> content as the protocol encodes it."""
        self._protocol = protocol
        self._images = images
        self._connection = connection
        self._observe = observe
        self._share = share

    def empty(self, phase: Phase) -> None:
        """Send slots of a phase until there are none left."""
        phase.opened.wait()
        while (turn := phase.take(self._connection.open)) is not None:
            self._observe(self._send(phase, turn))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _send(self, phase: Phase, turn: Turn) -> Record:
        slot = turn.slot
        problem = self._connection.open()  # where it is needed, connecting is a part of what the request waits for
        request = self._protocol.request(slot.model, [self._images[name] for name in slot.images], phase.cache, None)
        now = perf_counter()
        exchange = Exchange(now, None, now, 0, b"", problem or ABANDONED)
        outcome = Outcome()
        try:
            if not problem:
                exchange = self._connection.exchange(request)
                outcome = self._protocol.outcome(exchange.status, exchange.body, len(slot.images))
        finally:  # a user that is stopped while it waits leaves a record too
            if exchange.error == ABANDONED:
                exchange = Exchange(now, None, perf_counter(), 0, b"", ABANDONED)
            record = self._record(phase, turn, exchange, outcome, len(request))
            phase.add(record)
        return record

    def _record(self, phase: Phase, turn: Turn, exchange: Exchange, outcome: Outcome, bytes_sent: int) -> Record:
        """Times become seconds since the phase began, to the microsecond."""
        started = phase.started
        slot = turn.slot
        first_byte = exchange.first_byte
        return Record(
            phase=phase.name,
            index=slot.index,
            due_s=round(turn.due - started, 6),
            sent_s=round(exchange.sent - started, 6),
            first_byte_s=None if first_byte is None else round(first_byte - started, 6),
            done_s=round(exchange.done - started, 6),
            status=exchange.status,
            error=(exchange.error or outcome.error)[:_MAX_ERROR],
            model=slot.model,
            image=slot.images[0],
            bytes_sent=bytes_sent,
            images=len(slot.images),
            worker=outcome.worker,
            cache=outcome.cache,
            batch_size=outcome.batch_size,
            server_s=outcome.server_s,
            stages=outcome.stages,
            reused=exchange.reused,
            share=self._share,
            answer=outcome.answer,
        )
