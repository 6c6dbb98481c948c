"""A stream result as its report sees it: phases with their names and samples, services in one order, what failed."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from dlclient.errors import ResultError
from dlclient.limits import Limits, kept_limits
from dlclient.results import Clock, Phase, Reason, Record, Run, Summary, read_records, read_run
from dlclient.statistics import forward_alone_s
from dlclient.timeline import Note, Sample, read_samples
from numpy.typing import NDArray

from dlreport.errors import NotAResultError

_MOST = 1e18
"""No count, no size and no time of a result is larger; what is would only make the drawing fail."""
_LABELS = {"warm": "warm", "host": "cold from host memory", "disk": "cold from disk"}


@dataclass(frozen=True, slots=True)
class PhaseView:
    """One phase, with the samples that its pictures are drawn from. Times are seconds since the phase began."""

    phase: Phase
    good_due_s: NDArray[np.float64]
    good_latency_s: NDArray[np.float64]
    """Response times."""
    good_service_s: NDArray[np.float64]
    good_send_lag_s: NDArray[np.float64]
    good_done_s: NDArray[np.float64]
    good_images: NDArray[np.float64]
    """How many images each good answer is about."""
    failed_due_s: NDArray[np.float64]
    forward_alone_s: Mapping[str, tuple[float, int]]
    """By service: mean forward of single images in a batch of their own, and how many those were."""

    ended_s: float
    """When its last request ended."""
    records: tuple[Record, ...] = ()
    """All that the figures are of, in file order."""

    @property
    def started_s(self) -> float | None:
        """When it began, on the clock of the samples; None where the run does not tell."""
        return self.phase.started_s

    @property
    def name(self) -> str:
        """As the run calls it: warm, host, disk."""
        return self.phase.name

    @property
    def label(self) -> str:
        """As a person says it."""
        return _LABELS.get(self.name, self.name)

    @property
    def total(self) -> Summary:
        """Figures over all services."""
        return self.phase.total


@dataclass(frozen=True, slots=True)
class Failure:
    """Requests that failed in the same way."""

    phase: str
    status: int
    error: str
    requests: int
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StreamView:
    """All that a report of one stream run is made from."""

    run: Run
    phases: tuple[PhaseView, ...]
    services: tuple[str, ...]
    failures: tuple[Failure, ...]
    remarks: tuple[Reason, ...]
    """What is odd about the folder itself, found while it was read."""
    limits: Limits | None = None
    """What the machine can move; None where the run was given no such file."""
    samples: tuple[Sample, ...] = ()
    """What else happened meanwhile; empty for a run of an earlier version."""
    notes: tuple[Note, ...] = ()
    """About the sampling itself."""

    @property
    def is_open(self) -> bool:
        """Whether requests were due by a schedule, whatever became of the ones before."""
        return self.run.plan.load != "closed"

    @property
    def baseline(self) -> PhaseView | None:
        """What the other phases are compared with: the warm one; None where none was warm."""
        return next((phase for phase in self.phases if phase.name == "warm"), None)

    @property
    def compared(self) -> tuple[PhaseView, ...]:
        """The phases that are compared with the baseline; none without one."""
        baseline = self.baseline
        return tuple(phase for phase in self.phases if phase is not baseline) if baseline else ()

    @property
    def cold(self) -> tuple[PhaseView, ...]:
        """The phases in which weights were loaded."""
        return tuple(phase for phase in self.phases if phase.name != "warm")

    @property
    def answered(self) -> bool:
        """Whether there is any good answer to draw."""
        return any(phase.good_latency_s.size for phase in self.phases)


def load_stream(folder: Path) -> StreamView:
    """Read a stream result folder. Raises NotAResultError naming the file, the place in it and what to do."""
    try:
        run, records, limits = read_run(folder), read_records(folder), kept_limits(folder)
        samples, notes = read_samples(folder)
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    for place, part in (("run.json", (run.plan, run.phases)), ("requests.jsonl", records), ("samples.jsonl", samples)):
        absurd = next((number for number in _numbers(msgspec.to_builtins(part)) if abs(number) > _MOST), None)
        if absurd is not None:
            raise NotAResultError(
                f"{folder / place} holds {absurd:g}, which nothing measures; restore the file or run the stream again"
            )
    return replace(view_of(run, records, limits), samples=tuple(samples), notes=tuple(notes))


def _numbers(value: object) -> Iterator[float]:
    """All numbers in nested lists and objects, except seeds, which may be any."""
    if isinstance(value, dict):
        for name, one in value.items():
            if name != "seeds":
                yield from _numbers(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float):
        yield value


def view_of(run: Run, records: Sequence[Record], limits: Limits | None = None) -> StreamView:
    """Sort the records into the run's phases."""
    clocks = {phase.name: phase.clock for phase in run.phases}
    by_phase: dict[str, list[Record]] = {phase.name: [] for phase in run.phases}
    counted = [record for record in records if _within(record, clocks.get(record.phase))]
    for record in counted:
        by_phase.setdefault(record.phase, []).append(record)
    return StreamView(
        run=run,
        phases=tuple(_phase_view(phase, by_phase[phase.name]) for phase in run.phases),
        services=_services(run),
        failures=_failures(counted),
        remarks=_remarks(run, by_phase),
        limits=limits,
    )


def _within(record: Record, clock: Clock | None) -> bool:
    """Whether the figures are of this request too."""
    return clock is None or clock.from_s <= record.due_s <= (math.inf if clock.to_s is None else clock.to_s)


def _phase_view(phase: Phase, records: Sequence[Record]) -> PhaseView:
    good = [record for record in records if record.ok]
    return PhaseView(
        phase=phase,
        good_due_s=np.array([record.due_s for record in good], dtype=np.float64),
        good_latency_s=np.array([record.latency_s for record in good], dtype=np.float64),
        good_done_s=np.array([record.done_s for record in good], dtype=np.float64),
        good_images=np.array([record.images for record in good], dtype=np.float64),
        good_service_s=np.array([record.service_s for record in good], dtype=np.float64),
        good_send_lag_s=np.array([record.send_lag_s for record in good], dtype=np.float64),
        failed_due_s=np.array([record.due_s for record in records if not record.ok], dtype=np.float64),
        forward_alone_s=forward_alone_s(records),
        ended_s=max((record.done_s for record in records), default=0.0),
        records=tuple(records),
    )


def _services(run: Run) -> tuple[str, ...]:
    """In the plan's order, then any that only the answers know."""
    seen = dict.fromkeys(run.plan.services)
    for phase in run.phases:
        seen.update(dict.fromkeys(phase.services))
    return tuple(seen)


def _failures(records: Sequence[Record]) -> tuple[Failure, ...]:
    """Most frequent first."""
    counts: Counter[tuple[str, int, str]] = Counter()
    services: dict[tuple[str, int, str], dict[str, None]] = {}
    for record in records:
        if not record.ok:
            key = (record.phase, record.status, record.error)
            counts[key] += 1
            services.setdefault(key, {})[record.model] = None
    return tuple(Failure(*key, requests=number, services=tuple(services[key])) for key, number in counts.most_common())


def _remarks(run: Run, by_phase: dict[str, list[Record]]) -> tuple[Reason, ...]:
    remarks = []
    summed = {phase.name: phase.total.requests for phase in run.phases}
    for name, records in by_phase.items():
        if len(records) != summed.get(name, 0):
            remarks.append(
                Reason(
                    "records-differ",
                    f"run.json counts {summed.get(name, 0)} requests in phase {name}, requests.jsonl holds {len(records)}:"
                    " tables come from the first, pictures from the second",
                    "restore the missing file or run the stream again",
                )
            )
    return tuple(remarks)
