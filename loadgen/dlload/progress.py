"""How far each phase of a share is, for whoever looks while it goes on."""

from collections.abc import Sequence
from time import perf_counter

from dlload.live import Progress
from dlload.phase import Phase
from dlload.share import Share


def phase_progress(share: Share, names: Sequence[str], temperatures: Sequence[str]) -> list[Progress]:
    """Of each phase that the run will have: those that have not begun are there too."""
    begun: dict[str, Phase] = {phase.name: phase for phase in share.phases}
    return [_of(share, name, warmth, begun.get(name)) for name, warmth in zip(names, temperatures, strict=True)]


def _of(share: Share, name: str, temperature: str, phase: Phase | None) -> Progress:
    offered = share.planned / share.period_s if share.period_s else None
    if phase is None:
        return Progress(
            phase=name,
            temperature=temperature,
            planned=share.planned,
            taken=0,
            answered=0,
            elapsed_s=0.0,
            offered_per_s=offered,
        )
    return Progress(
        phase=name,
        temperature=temperature,
        planned=share.planned,
        taken=phase.taken,
        answered=len(phase.records),
        elapsed_s=max(0.0, ended_at(phase) - phase.started),
        ended=phase.ended.is_set(),
        offered_per_s=offered,
        dropped=phase.tally.dropped,
    )


def ended_at(phase: Phase) -> float:
    """When its last request ended; now, while it goes on. On `time.perf_counter`."""
    if not phase.ended.is_set():
        return perf_counter()
    return phase.started + (phase.records[-1].done_s if phase.records else 0.0)
