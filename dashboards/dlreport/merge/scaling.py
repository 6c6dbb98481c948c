"""How throughput grows with the number of workers, of streams that differ in nothing else. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlclient.results import Interval, Run

from dlreport.compare.discrepancies import hardware
from dlreport.merge.side import SideStream, phase_names
from dlreport.quantity import count, significant
from dlreport.stream import facts
from dlreport.stream.view import PhaseView
from dlreport.table import Cell, Column, Row, Table, missing, name

_FOLLOWS_FROM_WORKERS = {"workers", "threads per worker", "threads"}
"""Settings that a server sets by its number of workers."""


@dataclass(frozen=True, slots=True)
class Step:
    """A phase of one of the streams. `efficiency`: its images/s per worker over those of the fewest workers."""

    side: SideStream
    phase: PhaseView
    workers: int
    users: int
    images_per_s: float
    interval: Interval | None
    efficiency: float | None


def scaling(sides: Sequence[SideStream]) -> tuple[Step, ...]:
    """Phase after phase, by number of workers; empty where there are not several, or more than that differs."""
    if len({side.workers for side in sides}) < 2 or any(side.workers is None for side in sides):
        return ()
    if any(_conditions(side.view.run) != _conditions(sides[0].view.run) for side in sides[1:]):
        return ()
    steps = []
    for phase_name in phase_names(sides):
        told = [
            (side.workers, phase, side)
            for side in sides
            if side.workers is not None and (phase := side.phase(phase_name)) and phase.total.images_per_s
        ]
        told.sort(key=lambda one: one[0])
        for workers, phase, side in told:
            first_workers, first, _ = told[0]
            rate, base = phase.total.images_per_s or 0.0, (first.total.images_per_s or 0.0) / first_workers
            efficiency = rate / workers / base if base else None
            interval = side.rate_interval(phase)
            steps.append(Step(side, phase, workers, side.view.run.plan.users, rate, interval, efficiency))
    return tuple(steps)


def scaling_table(steps: Sequence[Step]) -> Table | None:
    """None where nothing scales."""
    columns = (
        Column("phase", "phase", numeric=False),
        Column("workers", "workers"),
        Column("users", "users"),
        Column("images_per_s", "images/s"),
        Column("images_per_s_low", "low end", printed=False),
        Column("images_per_s_high", "high end", printed=False),
        Column("efficiency", "per worker, beside the fewest", "%"),
        Column("result", "result", numeric=False),
        Column("stamps", "not to quote", numeric=False),
    )
    rows = tuple(Row(_cells(step), step.phase.label, step.phase.name) for step in steps)
    return Table("scaling", "Scaling with workers", columns, rows) if rows else None


def _conditions(run: Run) -> Mapping[str, object]:
    """All that must be alike: everything that compare warns of, but for the workers, and the users that keep them busy."""
    settings = {key: text for key, text in facts.server_settings(run).items() if key not in _FOLLOWS_FROM_WORKERS}
    served = {
        service: {key: text for key, text in own.items() if key not in _FOLLOWS_FROM_WORKERS}
        for service, own in facts.served_settings(run).items()
    }
    machine = run.environment
    return {
        "machine": hardware(machine),
        "versions": (machine.versions, machine.python, machine.commit),
        "devices": facts.device_names(run),
        "software": facts.software(run),
        "settings": settings,
        "served": served,
        "plan": (run.plan.sha256, run.plan.image_sha256, run.plan.load, run.plan.phases),
        "sent": (run.target.protocol, run.target.cold),
        "simulated": run.simulated,
    }


def _cells(step: Step) -> tuple[Cell, ...]:
    low, high = step.interval or (None, None)
    note = "" if step.interval is None else f"[{significant(step.interval[0])}, {significant(step.interval[1])}]"
    stamped = ", ".join(step.side.stamps)
    return (
        name(step.phase.label),
        Cell(step.workers, count(step.workers)),
        Cell(step.users, count(step.users)),
        Cell(step.images_per_s, significant(step.images_per_s), note=note),
        Cell(low, ""),
        Cell(high, ""),
        missing() if step.efficiency is None else Cell(step.efficiency, f"{100 * step.efficiency:.0f}"),
        name(step.side.label),
        Cell(stamped, stamped, "error" if stamped else ""),
    )
