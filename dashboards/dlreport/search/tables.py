"""The tables of a search: its curve, its runs, and how the objective stood in the one that confirmed it."""

from dlclient.results import Objective
from dlclient.search_result import Point

from dlreport.quantity import count, milliseconds, significant
from dlreport.search.view import Probe, SearchView
from dlreport.stream.estimates import estimate_cells, estimate_columns
from dlreport.stream.objectives import OUTCOMES, objective_cells
from dlreport.table import Cell, Column, Row, Table, missing, name

_FIGURES = ("mean", "p50", "p90", "p99")
MEETS = {True: "meets", False: "misses", None: "undecided"}
"""What was decided of a rate, in words."""


def curve_table(view: SearchView) -> Table:
    """Rate by rate, all its runs together (the confirmation is in none of them)."""
    columns = (
        Column("rate_per_s", "offered", "1/s"),
        Column("requests", "requests"),
        Column("answers_per_s", "good answers", "1/s"),
        Column("mean_s", "mean", "ms"),
        Column("p50_s", "p50", "ms"),
        Column("meets", "objective", numeric=False),
    )
    rows = tuple(Row(_curve_cells(point)) for point in view.result.curve)
    return Table("curve", "The latency/throughput curve", columns, rows)


def probes_table(view: SearchView) -> Table:
    """Every run, in the order in which they were made."""
    columns = (
        Column("run", "run", numeric=False),
        Column("offered_per_s", "asked", "1/s"),
        Column("delivered_per_s", "sent", "1/s"),
        Column("requests", "requests"),
        Column("errors", "errors"),
        *(column for figure in _FIGURES for column in estimate_columns(figure)),
        Column("objectives", "objective", numeric=False),
        Column("verdict", "verdict", numeric=False),
    )
    rows = tuple(Row(_probe_cells(probe), strong=probe.confirms) for probe in view.probes)
    return Table("probes", "The runs", columns, rows)


def confirmation_table(view: SearchView) -> Table | None:
    """How each condition stood in the confirmation; None where none was made."""
    if not view.result.objectives:
        return None
    columns = (
        Column("objective", "objective", numeric=False),
        Column("outcome", "outcome", numeric=False),
        Column("sure", "sure", numeric=False),
        Column("sentence", "what was measured", numeric=False),
    )
    rows = tuple(Row(objective_cells(objective)) for objective in view.result.objectives)
    return Table("confirmation", "The confirmation", columns, rows)


def _curve_cells(point: Point) -> tuple[Cell, ...]:
    meets = MEETS[point.meets]
    return (
        Cell(point.rate_per_s, significant(point.rate_per_s, 4)),
        Cell(point.requests, count(point.requests)),
        Cell(point.delivered_per_s, significant(point.delivered_per_s, 4)),
        *(missing("no answer") if one is None else Cell(one, milliseconds(one)) for one in (point.mean_s, point.p50_s)),
        Cell(meets, meets, {True: "", False: "error", None: "missing"}[point.meets]),  # type: ignore[arg-type]
    )


def _probe_cells(probe: Probe) -> tuple[Cell, ...]:
    label = name(f"{probe.name} (confirmation)" if probe.confirms else probe.name)
    run, total = probe.run, probe.total
    if run is None or total is None:
        return (label, *([missing("")] * (4 + 3 * len(_FIGURES))), missing("its folder is gone"), missing(""))
    phase = run.phases[0]
    rate, sent = probe.rate_per_s, phase.delivered_per_s
    return (
        label,
        missing() if rate is None else Cell(rate, significant(rate, 4)),
        missing() if sent is None else Cell(sent, significant(sent, 4)),
        Cell(total.requests, count(total.requests)),
        Cell(total.errors, count(total.errors), "error" if total.errors else ""),
        *(cell for figure in _FIGURES for cell in estimate_cells(total.latency_s, figure, total.latency_n)),
        _outcomes(phase.objectives),
        _verdict(probe),
    )


def _outcomes(objectives: tuple[Objective, ...]) -> Cell:
    """The outcome of a single condition; of several, each by name."""
    if not objectives:
        return missing()
    said = [
        OUTCOMES[one.outcome] if len(objectives) == 1 else f"{one.text} {OUTCOMES[one.outcome]}" for one in objectives
    ]
    text = ", ".join(said)
    return Cell(text, text, "error" if any(one.outcome == "missed" for one in objectives) else "")


def _verdict(probe: Probe) -> Cell:
    """With the codes of its reasons: a rate that is too much for the server makes a run invalid, and that is what was asked."""
    run = probe.run
    assert run is not None
    codes = ", ".join(dict.fromkeys(reason.code for reason in run.reasons))
    text = f"{run.verdict}: {codes}" if codes else run.verdict
    return Cell(text, text)
