"""One process's part of a run: its slots of the plan, its senders, its records."""

import sys
from collections.abc import Callable, Sequence

import msgspec
from dlclient.results import Record, Slot
from gevent.event import Event

from dlload.bell import Bell
from dlload.connection import Connection
from dlload.encoded_images import EncodedImages
from dlload.options import Temperature
from dlload.phase import Phase
from dlload.protocols.base import Protocol
from dlload.reloading import Reloading
from dlload.sender import Sender


class Step(msgspec.Struct, frozen=True):
    """One phase to be opened: the measured one, or what is sent before it so that it begins in a steady state."""

    name: Temperature
    measured: bool
    at: float
    """When its clock starts, on `time.perf_counter`."""
    most_requests: int | None = None
    """Of a warm-up, over all shares; None: until it is closed."""


class Cycled(Sequence[Slot]):
    """The slots over and over, without an end: what a warm-up sends. Due times go on from round to round."""

    def __init__(self, slots: Sequence[Slot], *, period_s: float = 0.0, most: int | None = None) -> None:
        """`period_s`: how long the whole plan takes, all shares together."""
        self._slots = slots
        self._period_s = period_s
        self._count = (sys.maxsize if most is None else most) if slots else 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # only ever asked for one
        rounds, place = divmod(index, len(self._slots))
        slot = self._slots[place]
        due_s = None if slot.due_s is None else slot.due_s + rounds * self._period_s
        return msgspec.structs.replace(slot, index=index, due_s=due_s)


class Share:
    """Share `number` of `of` sends the slots `number`, `number + of`, ... Phases are opened one after the other."""

    def __init__(
        self,
        slots: Sequence[Slot],
        protocol: Protocol,
        images: EncodedImages,
        connect: Callable[[], Connection],
        write: Callable[[Record], None],
        *,
        drop_after_s: float | None = None,
        number: int = 0,
        of: int = 1,
        reloading: Reloading | None = None,
        keeps_answers: bool = False,
    ) -> None:
        """`write` gets the records of measured phases."""
        self.number = number
        self.phases: list[Phase] = []
        """The measured ones, in order."""
        self._own = tuple(slots[number::of])
        self._of = of
        self._period_s = _period_s(slots)
        self._protocol = protocol
        self._images = images
        self._connect = connect
        self._write = write
        self._drop_after_s = drop_after_s
        self._reloading = reloading
        self._keeps_answers = keeps_answers
        self._opened: list[Phase] = []
        self._changed = Bell()
        self._over = False
        self._at_work = self._senders = 0
        self.failure = ""
        """Why it sends no more, if that is its own fault."""
        self.left = Event()
        """Set when there will be no other phase and no sender is at work."""

    @property
    def current(self) -> Phase | None:
        """The phase that was opened last."""
        return self._opened[-1] if self._opened else None

    @property
    def period_s(self) -> float:
        """How long an open plan takes, all shares together; 0 in a closed loop."""
        return self._period_s

    @property
    def planned(self) -> int:
        """Slots of this share, in each phase."""
        return len(self._own)

    @property
    def exhausted(self) -> bool:
        """Whether in the phase that was opened last every sender was busy at some time."""
        phase = self.current
        return phase is not None and self._senders > 0 and phase.most_in_flight >= self._senders

    @property
    def is_measuring(self) -> bool:
        """Whether the current phase is one that records are kept of."""
        return bool(self.phases) and self.phases[-1] is self.current

    def begin(self, step: Step) -> Phase:
        """Open a phase; the senders go over to it by themselves."""
        most = None if step.most_requests is None else -(-step.most_requests // self._of)
        slots = self._own if step.measured else Cycled(self._own, period_s=self._period_s, most=most)
        write = self._write if step.measured else _nowhere
        phase = Phase(step.name, slots, write, drop_after_s=self._drop_after_s, share=self.number)
        if step.measured:
            self.phases.append(phase)
        if self._over:
            phase.close()
        phase.open(step.at)
        self._opened.append(phase)
        self._changed.ring()
        return phase

    def sender(self, observe: Callable[[Record], None]) -> Sender:
        """A new one, with a connection of its own."""
        return Sender(
            self._protocol,
            self._images,
            self._connect(),
            observe,
            self.number,
            self._reloading,
            keeps_answers=self._keeps_answers,
        )

    def work(self, sender: Sender) -> None:
        """Send whatever there is, phase after phase, until there will be no more. Raises RecordError."""
        seen = 0
        self._at_work += 1
        self._senders = max(self._senders, self._at_work)
        try:
            while True:
                while seen < len(self._opened):
                    seen = len(self._opened)
                    sender.empty(self._opened[-1])
                if self._over:
                    return
                self._changed.wait()
        finally:
            self._at_work -= 1
            self._look_whether_all_left()

    def close(self) -> None:
        """Hand out nothing more in the phase that is open."""
        if self.current is not None:
            self.current.close()

    def end(self) -> None:
        """There will be no other phase: close the last one and let the senders go."""
        self._over = True
        self.close()
        self._changed.ring()
        self._look_whether_all_left()

    def fail(self, why: str) -> None:
        """End: what is still to be sent could not be recorded."""
        self.failure = self.failure or why
        self.end()

    def dispose(self) -> None:
        """Once no sender is left."""
        for phase in self._opened:
            phase.dispose()

    def _look_whether_all_left(self) -> None:
        if self._over and not self._at_work:
            self.left.set()


def _period_s(slots: Sequence[Slot]) -> float:
    """How long an open plan takes when it is repeated: to its last due time and a mean gap more."""
    last_s = slots[-1].due_s if slots else None
    return last_s + last_s / len(slots) if last_s else 0.0


def _nowhere(_: Record) -> None:
    """What a warm-up sends is recorded nowhere."""
