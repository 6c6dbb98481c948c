"""The tables of streams side by side."""

from collections.abc import Iterator, Sequence

from dlclient.results import Summary

from dlreport.merge.side import SideStream, phase_names
from dlreport.quantity import MISSING, count, moment, ratio, significant
from dlreport.stream import facts
from dlreport.stream.comparison import latency_ratio
from dlreport.stream.estimates import estimate_cells, estimate_columns
from dlreport.stream.tables import ALL
from dlreport.stream.view import PhaseView
from dlreport.table import Cell, Column, Row, Table, missing, name

_FIGURES = ("mean", "p50", "p90", "p99")


def side_by_side(sides: Sequence[SideStream]) -> Table:
    """Every figure of all models and of each, phase by phase, the results beneath each other."""
    columns = (
        Column("model", "model", numeric=False),
        Column("phase", "phase", numeric=False),
        Column("result", "result", numeric=False),
        Column("requests", "requests"),
        Column("errors", "errors"),
        *(column for figure in _FIGURES for column in estimate_columns(figure)),
        Column("images_per_s", "images/s"),
        Column("cold_over_warm", "cold / warm"),
        Column("stamps", "not to quote", numeric=False),
    )
    rows = tuple(
        Row(_cells(side, phase, group, summary), group, phase.name, strong=group == ALL)
        for group, side, phase, summary in _summaries(sides)
    )
    return Table("side_by_side", "Side by side", columns, rows)


def setups(sides: Sequence[SideStream]) -> Table:
    """What each result was measured on and with."""
    columns = tuple(
        Column(key, heading, numeric=False)
        for key, heading in (
            ("result", "result"),
            ("folder", "folder"),
            ("started", "started"),
            ("verdict", "verdict"),
            ("served_by", "served by"),
            ("workers", "workers"),
            ("software", "software"),
            ("load_tester", "load tester's machine"),
            ("load", "load"),
            ("plan_sha256", "plan"),
            ("images_sha256", "images"),
        )
    )
    return Table("setups", "What was measured", columns, tuple(Row(_setup(side)) for side in sides))


def _setup(side: SideStream) -> tuple[Cell, ...]:
    run, machine = side.view.run, side.view.run.environment
    verdict = ", ".join((run.verdict, *(stamp.lower() for stamp in side.stamps if stamp != "INVALID")))
    load = f"{run.plan.users} users" if run.plan.load == "closed" else run.plan.load
    return (
        name(side.label),
        name(str(side.folder)),
        Cell(run.started, moment(run.started)),
        Cell(verdict, verdict, "error" if side.stamps else ""),
        name(side.hardware or MISSING),
        name(str(side.workers or MISSING)),
        name(facts.software(run)),
        name(f"{machine.host}: {machine.cpu_model}, {machine.cpu_cores} cores"),
        name(load),
        Cell(run.plan.sha256, run.plan.sha256[:10]),
        Cell(run.plan.image_sha256, run.plan.image_sha256[:10]),
    )


def _summaries(sides: Sequence[SideStream]) -> Iterator[tuple[str, SideStream, PhaseView, Summary]]:
    """All models first, then each; within each phase after phase, and in it result after result."""
    services = dict.fromkeys(service for side in sides for service in side.view.services)
    for service in (None, *services):
        for phase_name in phase_names(sides):
            for side in sides:
                phase = side.phase(phase_name)
                summary = (
                    None if phase is None else phase.total if service is None else phase.phase.services.get(service)
                )
                if phase is not None and summary is not None:
                    yield service or ALL, side, phase, summary


def _cells(side: SideStream, phase: PhaseView, group: str, summary: Summary) -> tuple[Cell, ...]:
    stamped = ", ".join(side.stamps)
    return (
        name(group),
        name(phase.label),
        name(side.label),
        Cell(summary.requests, count(summary.requests)),
        Cell(summary.errors, count(summary.errors), "error" if summary.errors else ""),
        *(cell for figure in _FIGURES for cell in estimate_cells(summary.latency_s, figure, summary.latency_n)),
        missing() if summary.images_per_s is None else Cell(summary.images_per_s, significant(summary.images_per_s)),
        _times_slower(side, phase, group, summary),
        Cell(stamped, stamped, "error" if stamped else ""),
    )


def _times_slower(side: SideStream, phase: PhaseView, group: str, summary: Summary) -> Cell:
    baseline = side.view.baseline
    if baseline is None or phase is baseline:
        return Cell(None, "")
    value = latency_ratio(summary, baseline.total if group == ALL else baseline.phase.services.get(group))
    return missing("n/a") if value is None else Cell(value, ratio(value))
