"""One pass through the plan: hands its slots to whoever is free, keeps what came of them, knows when it is over."""

from collections.abc import Callable, Sequence
from time import perf_counter

from dlclient.results import Record, Slot
from gevent.event import Event

from dlload.errors import RecordError
from dlload.options import Temperature

GIVE_UP_ROUNDS = 2
"""A server is gone when so many requests in a row as there were in flight, this many times over, got no answer at all."""


class Phase:
    """Opened by the run, emptied by the senders."""

    def __init__(self, name: Temperature, slots: Sequence[Slot], write: Callable[[Record], None]) -> None:
        self.name = name
        self.slots = slots
        self.records: list[Record] = []
        self.opened = Event()
        self.ended = Event()
        self.started = 0.0
        """On `time.perf_counter`."""
        self.gave_up = False
        self._write = write
        self._next = 0
        self._lost = 0
        """Records that could not be written, and are therefore not counted."""
        self._closed = False
        self._most_in_flight = 0
        self._unanswered_in_a_row = 0

    @property
    def cache(self) -> str | None:
        """What requests ask for: nothing in a warm phase."""
        return None if self.name == "warm" else self.name

    @property
    def has_slots(self) -> bool:
        """Whether there is anything left to send."""
        return not self._closed and self._next < len(self.slots)

    def open(self) -> None:
        """Start the clock and let the senders in."""
        self.started = perf_counter()
        self.opened.set()

    def take(self) -> Slot | None:
        """The next slot; whoever takes it must `add` a record of it. None: nothing is left."""
        if not self.has_slots:
            return None
        slot = self.slots[self._next]
        self._next += 1
        self._most_in_flight = max(self._most_in_flight, self._next - self._lost - len(self.records))
        return slot

    def add(self, record: Record) -> None:
        """What came of a slot. Raises RecordError if it cannot be written."""
        try:
            self._write(record)
        except RecordError:
            self._lost += 1
            self._end_if_done()
            raise
        self.records.append(record)
        self._unanswered_in_a_row = 0 if record.status else self._unanswered_in_a_row + 1
        if self._unanswered_in_a_row > GIVE_UP_ROUNDS * self._most_in_flight:
            self.gave_up = True
            self._closed = True
        self._end_if_done()

    def close(self) -> None:
        """Hand out nothing more; the phase ends when what is in flight has ended."""
        self._closed = True
        self.opened.set()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self.has_slots and len(self.records) + self._lost == self._next:
            self.ended.set()
