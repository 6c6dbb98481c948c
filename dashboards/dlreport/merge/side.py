"""A stream as one of several that stand side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlclient.errors import ResultError
from dlclient.results import Interval, Reason, read_run

from dlreport.compare.difference import rate_interval
from dlreport.compare.discrepancies import plan_discrepancies
from dlreport.compare.streams import timed
from dlreport.errors import NotAResultError
from dlreport.merge.labels import labels
from dlreport.stream import facts
from dlreport.stream.report import stamps
from dlreport.stream.view import PhaseView, StreamView, load_stream


@dataclass(frozen=True, slots=True)
class SideStream:
    """`label`: what it is called beside the others."""

    label: str
    folder: Path
    view: StreamView

    @property
    def stamps(self) -> tuple[str, ...]:
        """Why its figures are none to quote."""
        return stamps(self.view)

    @property
    def stamped_label(self) -> str:
        """The label, with the stamps where there are any."""
        return f"{self.label} ({', '.join(self.stamps)})" if self.stamps else self.label

    @property
    def hardware(self) -> str:
        """What served."""
        return facts.hardware(self.view.run)

    @property
    def workers(self) -> int | None:
        """Worker processes that served; None where the server does not tell."""
        return facts.workers(self.view.run)

    def phase(self, name: str) -> PhaseView | None:
        """Its phase of that name, if it has one."""
        return next((phase for phase in self.view.phases if phase.name == name), None)

    def rate_interval(self, phase: PhaseView) -> Interval | None:
        """95 % interval of the images per second of all its models."""
        return rate_interval(timed(self.view.run, phase, None, phase.total))


def load_sides(folders: Sequence[Path], names: Sequence[str] | None) -> tuple[SideStream, ...]:
    """Raises NotAResultError where one cannot be read, ReportError where the names do not fit."""
    try:
        hosts = [read_run(folder).environment.host for folder in folders]
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    called = labels(folders, hosts, names)
    return tuple(SideStream(label, folder, load_stream(folder)) for label, folder in zip(called, folders, strict=True))


def phase_names(sides: Sequence[SideStream]) -> tuple[str, ...]:
    """Of all of them, in the order in which they first come."""
    return tuple(dict.fromkeys(phase.name for side in sides for phase in side.view.phases))


def unlike(sides: Sequence[SideStream]) -> list[Reason]:
    """What makes the streams hard to set side by side: another plan, images or precision than the first one's."""
    first = sides[0]
    return [
        Reason(reason.code, f"{first.label} (A) and {side.label} (B): {reason.text}", reason.cure)
        for side in sides[1:]
        for reason in plan_discrepancies(first.view.run, side.view.run)
    ]
