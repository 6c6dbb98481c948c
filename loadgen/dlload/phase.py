"""One pass through a share of the plan: hands its slots to whoever is free, keeps what came of them, knows when it is over.

In a closed loop a slot is due when a user is free for it. In an open loop it is due by the schedule: of the senders that are
free one waits for the next due time and, when it has come, first lets another one wait for the next, then sends at once. With
no sender free the slot waits; the first one that comes free sends it late or, past `drop_after_s`, notes that it was dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from dlclient.results import Record, Slot
from gevent.event import Event

from dlload.errors import RecordError
from dlload.options import Temperature
from dlload.tally import Tally
from dlload.timer import Timer

GIVE_UP_ROUNDS = 2
"""A server is gone when so many requests in a row as there were in flight, this many times over, got no answer at all."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A slot that its taker has to send, and when it was due, on `time.perf_counter`."""

    slot: Slot
    due: float


class Phase:
    """Opened by the run, emptied by the senders."""

    def __init__(
        self,
        name: Temperature,
        slots: Sequence[Slot],
        write: Callable[[Record], None],
        *,
        drop_after_s: float | None = None,
        share: int = 0,
    ) -> None:
        """`slots`: all with a due time (open loop) or none (closed). `write` gets each record as it is made."""
        self.name = name
        self.slots = slots
        self.records: list[Record] = []
        self.tally = Tally()
        """Of them."""
        self.opened = Event()
        self.ended = Event()
        self.started = 0.0
        """On `time.perf_counter`."""
        self.gave_up = False
        self.most_in_flight = 0
        self._is_open_loop = bool(len(slots)) and slots[0].due_s is not None
        self._timer = Timer()
        self._write = write
        self._drop_after_s = drop_after_s
        self._share = share
        self._next = 0
        self._done = 0
        """Slots that were taken and need no more: recorded, given back, or lost because their record could not be written."""
        self._closed = Event()
        self._led = False
        """Whether a sender waits for the next due time."""
        self._idle: list[Event] = []
        """Senders that wait to be the next to do so; the last to come is the first to go, so that few connections are busy."""
        self._unanswered_in_a_row = 0
        if not len(slots):
            self.ended.set()

    @property
    def cache(self) -> str | None:
        """What requests ask for: nothing in a warm phase."""
        return None if self.name == "warm" else self.name

    @property
    def has_slots(self) -> bool:
        """Whether there is anything left to send."""
        return not self._closed.is_set() and self._next < len(self.slots)

    @property
    def taken(self) -> int:
        """Slots that were handed out so far."""
        return self._next

    @property
    def in_flight(self) -> int:
        """Requests that were taken and have not ended."""
        return self._next - self._done

    def open(self, at: float | None = None) -> None:
        """Let the senders in; the clock starts now, or `at` that time on `time.perf_counter`."""
        self.started = perf_counter() if at is None else at
        self.opened.set()

    def take(self, get_ready: Callable[[], object] = lambda: None) -> Turn | None:
        """The next slot, once it is due; whoever takes it must `add` a record of it. None: nothing is left.

        `get_ready` is called before the wait for a due time, so that what it takes is not part of any latency.
        """
        return self._scheduled(get_ready) if self._is_open_loop else self._following()

    def _following(self) -> Turn | None:
        """Closed loop."""
        while (early_s := self.started - perf_counter()) > 0:
            if self._closed.wait(early_s):  # not by the timer: all users wait here at once
                break
        if not self.has_slots:
            return None
        slot = self._claim()
        try:
            stopped = bool(slot.think_s) and self._closed.wait(slot.think_s)
        except BaseException:  # this user is being ended while it thinks
            self._finish_one()
            raise
        if stopped:
            self._finish_one()
            return None
        return Turn(slot, perf_counter())

    def _scheduled(self, get_ready: Callable[[], object]) -> Turn | None:
        """Open loop."""
        if self._led:
            promoted = Event()
            self._idle.append(promoted)
            try:
                promoted.wait()
            except BaseException:  # this sender is being ended; what it may have been handed goes to another one
                if promoted in self._idle:
                    self._idle.remove(promoted)
                else:
                    self._pass_on()
                raise
        self._led = True
        try:
            get_ready()
            while self.has_slots:
                due = self.started + (self.slots[self._next].due_s or 0.0)
                self._timer.wait_until(due)
                if not self.has_slots:
                    break
                slot = self._claim()
                late_s = perf_counter() - due
                if self._drop_after_s is None or late_s <= self._drop_after_s:
                    return Turn(slot, due)
                self._drop(slot, late_s)
            return None
        finally:
            self._pass_on()

    def _claim(self) -> Slot:
        slot = self.slots[self._next]
        self._next += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return slot

    def _pass_on(self) -> None:
        """Let another idle sender wait for the next due time."""
        self._led = False
        if self._idle:
            self._led = True
            self._idle.pop().set()

    def _drop(self, slot: Slot, late_s: float) -> None:
        due_s = slot.due_s or 0.0
        now_s = round(due_s + late_s, 6)
        self.add(
            Record(
                phase=self.name,
                index=slot.index,
                due_s=due_s,
                sent_s=now_s,
                first_byte_s=None,
                done_s=now_s,
                status=0,
                error=f"dropped: no sender was free within {self._drop_after_s:g} s of its due time",
                model=slot.model,
                image=slot.images[0],
                bytes_sent=0,
                images=len(slot.images),
                dropped=True,
                share=self._share,
            )
        )

    def add(self, record: Record) -> None:
        """What came of a slot. Raises RecordError if it cannot be written."""
        try:
            self._write(record)
        except RecordError:
            self._finish_one()
            raise
        self.records.append(record)
        self.tally.add(record)
        if not record.dropped:
            self._unanswered_in_a_row = 0 if record.status else self._unanswered_in_a_row + 1
        if self._unanswered_in_a_row > GIVE_UP_ROUNDS * self.most_in_flight:
            self.gave_up = True
            self.close()
        self._finish_one()

    def close(self) -> None:
        """Hand out nothing more; the phase ends when what is in flight has ended."""
        self._closed.set()
        self._timer.wake()
        self.opened.set()
        self._end_if_done()

    def dispose(self) -> None:
        """Give its timer back; once no sender is in it any more."""
        self._timer.close()

    def _finish_one(self) -> None:
        self._done += 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self.has_slots and not self.in_flight:
            self.ended.set()
