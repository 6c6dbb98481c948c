"""Whoever sends a run: this process alone, or Locust's workers. The run conducts, the crew sends."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec
from dlclient.results import Record

from dlload.share import Share, Step


class State(msgspec.Struct, frozen=True):
    """How far the phase that was opened last has come, over all shares."""

    taken: int = 0
    ended: int = 0
    images: int = 0
    """Of good answers."""
    errors: int = 0
    over: bool = False
    """Every share has sent all of it, or is missing."""
    gave_up: str = ""
    """Why a share stopped before the end: the server no longer answers, a record could not be written; "" if none did."""
    steady: bool = False
    """Whether the last windows of every share agree; only of what is sent before a clock starts."""
    exhausted: bool = False
    """Whether a share had no sender free at some time."""


class Crew(ABC):
    """Phases are opened one after the other; each ends when every share has sent its slots, or after `close`."""

    @property
    @abstractmethod
    def shares(self) -> int:
        """How many processes send."""

    @property
    def missing(self) -> Sequence[str]:
        """Shares that were lost on the way, in words."""
        return ()

    lead_s = 0.1
    """How long before it starts a phase has to be opened, so that all senders are there."""

    def ready(self) -> None:
        """Wait until every share can begin. Raises TargetError if one cannot."""
        return

    @property
    def samples(self) -> Sequence[bytes]:
        """What the shares have seen of themselves: lines of samples.jsonl."""
        return ()

    @abstractmethod
    def open(self, step: Step) -> None:
        """Start a phase in every share."""

    @abstractmethod
    def state(self) -> State:
        """Of the phase that was opened last."""

    @abstractmethod
    def wait(self, timeout_s: float) -> bool:
        """Wait until it is over, at most that long; whether it is."""

    @abstractmethod
    def close(self) -> None:
        """Hand out nothing more in it."""

    @abstractmethod
    def end(self) -> None:
        """There will be no other phase."""

    @abstractmethod
    def collect(self) -> list[list[Record]]:
        """The records of each measured phase, in the order in which they ended; once nobody sends any more."""


class LocalCrew(Crew):
    """This process alone."""

    shares = 1

    def __init__(self, share: Share) -> None:
        self._share = share

    def open(self, step: Step) -> None:
        """Start a phase."""
        self._share.begin(step)

    def state(self) -> State:
        """Of the phase that was opened last."""
        return share_state(self._share)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is over, at most that long; whether it is."""
        phase = self._share.current
        return phase is None or phase.ended.wait(timeout_s)

    def close(self) -> None:
        """Hand out nothing more in it."""
        self._share.close()

    def end(self) -> None:
        """There will be no other phase."""
        self._share.end()

    def collect(self) -> list[list[Record]]:
        """The records of each measured phase."""
        self._share.dispose()
        return [phase.records for phase in self._share.phases]


def share_state(share: Share) -> State:
    """Of the phase that a share opened last."""
    phase = share.current
    if phase is None:
        return State()
    records, tally = phase.records, phase.tally
    gave_up = f"the server stopped answering ({records[-1].error})" if phase.gave_up else ""
    return State(
        taken=phase.taken,
        ended=len(records),
        images=tally.images,
        errors=tally.errors,
        over=phase.ended.is_set(),
        gave_up=share.failure or gave_up,
        steady=tally.steady,
        exhausted=share.exhausted,
    )
