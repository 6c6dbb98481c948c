"""The objectives that a run was judged by, and how they stand. Pure functions."""

from dataclasses import dataclass

from dlclient.results import Objective

from dlreport.stream.view import StreamView
from dlreport.table import Cell, Column, Row, Table, name

OUTCOMES = {"met": "met", "missed": "missed", "cannot-tell": "cannot tell"}
_COLUMNS = (
    Column("phase", "phase", numeric=False),
    Column("objective", "objective", numeric=False),
    Column("outcome", "outcome", numeric=False),
    Column("sure", "sure", numeric=False),
    Column("sentence", "what was measured", numeric=False),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """All objectives in one sentence, and the look of it: valid, invalid or warning, as the page's banners are called."""

    tone: str
    sentence: str


def objectives_table(view: StreamView) -> Table | None:
    """One row for each objective in each phase; None where none was asked for."""
    rows = tuple(
        Row((name(phase.label), *objective_cells(objective)), phase=phase.name)
        for phase in view.phases
        for objective in phase.phase.objectives
    )
    return Table("objectives", "Objectives", _COLUMNS, rows) if rows else None


def objective_cells(objective: Objective) -> tuple[Cell, ...]:
    """What was asked for, how it stands, and by what."""
    outcome = OUTCOMES[objective.outcome]
    return (
        name(objective.text),
        Cell(objective.outcome, outcome, "error" if objective.outcome == "missed" else ""),
        Cell("yes" if objective.sure else "no", "99 %" if objective.sure else "no"),
        name(objective.sentence.removeprefix(f"{objective.text}: ")),
    )


def standing(view: StreamView) -> Standing | None:
    """How all of them stand together; None where none was asked for."""
    found = [objective.outcome for phase in view.phases for objective in phase.phase.objectives]
    if not found:
        return None
    missed, open_ = found.count("missed"), found.count("cannot-tell")
    total = len(found)
    if view.run.verdict == "invalid":
        return Standing("warning", "Objectives: the run is invalid, so do not rely on how they stand.")
    if missed:
        return Standing("invalid", f"Objectives missed: {missed} of {total}.")
    if open_:
        return Standing("warning", f"Objectives not decided: {open_} of {total} need more requests to tell.")
    return Standing("valid", "Objectives met." if total > 1 else "Objective met.")
