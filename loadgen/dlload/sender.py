"""One user of the closed loop: takes the next slot when it is free, sends it, writes down what came of it."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

from dlclient.results import Record, Slot

from dlload.connection import Connection, Exchange
from dlload.phase import Phase
from dlload.protocols.base import Outcome, Protocol

ABANDONED = "abandoned: its user was stopped before the answer came"
_MAX_ERROR = 300
"""Characters of an error text that are kept; some quote what was sent."""


class Sender:
    """Has a connection of its own. `observe` is called with each record after it is written."""

    def __init__(
        self,
        phases: Sequence[Phase],
        protocol: Protocol,
        images: Mapping[str, bytes],
        connection: Connection,
        observe: Callable[[Record], None],
    ) -> None:
        """`images`: name -> content as the protocol encodes it."""
        self._phases = phases
        self._protocol = protocol
        self._images = images
        self._connection = connection
        self._observe = observe

    def send_next(self) -> bool:
        """Send one slot, waiting for its phase to open if need be. False: all phases are over."""
        for phase in self._phases:
            phase.opened.wait()
            if phase.has_slots:
                break
        else:
            return False
        due = (
            perf_counter()
        )  # the user is free now; connecting anew, where it is needed, is a part of what it waits for
        problem = self._connection.open()
        slot = phase.take()
        if slot is not None:
            self._observe(self._send(phase, slot, due, problem))
        return True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _send(self, phase: Phase, slot: Slot, due: float, problem: str) -> Record:
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
            record = _record(phase, slot, due, exchange, outcome, len(request))
            phase.add(record)
        return record


def _record(phase: Phase, slot: Slot, due: float, exchange: Exchange, outcome: Outcome, bytes_sent: int) -> Record:
    """Times become seconds since the phase began, to the microsecond."""
    started = phase.started
    first_byte = exchange.first_byte
    return Record(
        phase=phase.name,
        index=slot.index,
        due_s=round(due - started, 6),
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
    )
