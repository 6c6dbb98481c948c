"""One sender: takes the next slot when it is its turn, sends it, writes down what came of it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter

from dlclient.results import Record

from dlload.answers import is_kept
from dlload.connection import Connection, Exchange
from dlload.encoded_images import EncodedImages
from dlload.phase import Phase, Turn
from dlload.protocols.base import Outcome, Protocol
from dlload.records import record_of
from dlload.reloading import Reloading

RELOAD = "reload"
"""In place of a temperature: the model was removed and brought back before the request."""

ABANDONED = "abandoned: its user was stopped before the answer came"


class Sender:
    """Has a connection of its own. `observe` is called with each record after it is written."""

    def __init__(
        self,
        protocol: Protocol,
        images: EncodedImages,
        connection: Connection,
        observe: Callable[[Record], None],
        share: int = 0,
        reloading: Reloading | None = None,
        *,
        keeps_answers: bool = False,
    ) -> None:
        """`reloading`: how cold phases are made cold; None: requests ask for it."""
        self._protocol = protocol
        self._images = images
        self._connection = connection
        self._observe = observe
        self._share = share
        self._reloading = reloading
        self._keeps_answers = keeps_answers

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
        reloading = self._reloading if phase.cache is not None else None
        reload_s: float | None = None
        exchange = Exchange(turn.due, None, turn.due, 0, b"", ABANDONED)
        outcome = Outcome()
        request = b""
        try:
            problem = self._connection.open()  # where it is needed, connecting is a part of what the request waits for
            images = self._images.of(slot.model, slot.images)
            request = self._protocol.request(slot.model, images, None if reloading else phase.cache, None)
            with reloading.reloader.exclusive(slot.model) if reloading else nullcontext():
                if reloading:
                    if slot.due_s is None:  # waiting for one's turn to reload is no part of a closed loop
                        turn = Turn(slot, perf_counter())
                    done = reloading.reloader.reload(slot.model)
                    reload_s, problem = done.seconds, done.error or self._connection.open()
                now = perf_counter()
                exchange = Exchange(now, None, now, 0, b"", problem or ABANDONED)
                if not problem:
                    exchange = self._connection.exchange(request)
                    outcome = self._protocol.outcome(exchange.status, exchange.body, len(slot.images))
                if self._keeps_answers and not (exchange.error or outcome.error) and is_kept(slot.index):
                    outcome = replace(outcome, answer=self._protocol.content(exchange.body))
                if reloading:
                    outcome = replace(outcome, cache=RELOAD)
        finally:  # a user that is stopped while it connects or waits leaves a record too
            if exchange.error == ABANDONED:
                exchange = replace(exchange, done=perf_counter())
            record = self._record(phase, turn, exchange, outcome, len(request), reload_s)
            phase.add(record)
        return record

    def _record(
        self, phase: Phase, turn: Turn, exchange: Exchange, outcome: Outcome, bytes_sent: int, reload_s: float | None
    ) -> Record:
        return record_of(
            phase=phase.name,
            started=phase.started,
            slot=turn.slot,
            due=turn.due,
            exchange=exchange,
            outcome=outcome,
            bytes_sent=bytes_sent,
            share=self._share,
            reload_s=reload_s,
            reload_counts=reload_s is not None and self._reloading is not None and self._reloading.counts,
        )
