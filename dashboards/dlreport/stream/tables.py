"""The tables of a stream run."""

from collections.abc import Callable, Iterator

from dlclient.results import Summary

from dlreport.quantity import count, gigabytes, latency_text, megabytes, milliseconds, ratio, significant
from dlreport.stream.breakdown import STAGES, break_down
from dlreport.stream.comparison import latency_ratio
from dlreport.stream.estimates import HEADINGS, estimate_cells, estimate_columns
from dlreport.stream.view import PhaseView, StreamView
from dlreport.table import Cell, Column, Row, Table, missing, name

ALL = "all models"
_PRINTED = {"mean", "p50", "p90", "p99"}
"""Of each model; the table of clocks has more of all of them."""
_SCHEDULED = (
    Column("offered_per_s", "offered", "1/s"),
    Column("delivered_per_s", "sent", "1/s"),
    Column("dropped", "dropped"),
)
"""What a phase of an open loop has besides."""


def comparison(view: StreamView) -> Table:
    """Every figure of every model and of all together, warm beside cold."""
    columns = (
        Column("model", "model", numeric=False),
        Column("phase", "phase", numeric=False),
        Column("requests", "requests"),
        Column("errors", "errors"),
        *(column for figure in HEADINGS for column in estimate_columns(figure, printed=figure in _PRINTED)),
        *((Column("cold_over_warm", "cold / warm"),) if view.compared else ()),
        Column("images_per_s", "images/s"),
        Column("wall_s_per_image", "wall / image", "ms"),
        Column("weights_bytes", "weights", "MB"),
        Column("load_bytes_per_s", "load", "GB/s"),
    )
    rows = tuple(
        Row(_comparison_cells(view, phase, group, summary), group, phase.name, strong=group == ALL)
        for group, phase, summary in _summaries(view)
    )
    return Table("comparison", "Warm and cold compared" if view.compared else "The figures", columns, rows)


def stages(view: StreamView) -> Table | None:
    """The mean of each of the server's stages; None where no server told any."""
    told = dict.fromkeys(stage for _, _, summary in _summaries(view) for stage in summary.stages_s or {})
    if not told:
        return None
    order = [*(stage for stage in STAGES if stage in told), *(stage for stage in told if stage not in STAGES)]
    columns = (
        Column("model", "model", numeric=False),
        Column("phase", "phase", numeric=False),
        *(Column(f"{stage}_s", stage, "ms") for stage in order),
        Column("rest_s", "rest", "ms"),
        Column("mean_s", "mean latency", "ms"),
    )
    rows = []
    for group, phase, summary in _summaries(view):
        means = summary.stages_s or {}
        breakdown = break_down(summary)
        cells = (
            name(group),
            name(phase.label),
            *(_cell(means.get(stage), milliseconds) for stage in order),
            _cell(breakdown.rest_s if breakdown else None, milliseconds),
            _latency(summary.latency_s.mean, summary.latency_n),
        )
        rows.append(Row(cells, group, phase.name, strong=group == ALL))
    return Table("stages", "Where the time goes: means of the server's stages", columns, tuple(rows))


def phases(view: StreamView) -> Table:
    """Whether each phase was what it should be."""
    columns = (
        Column("phase", "phase", numeric=False),
        Column("verdict", "verdict", numeric=False),
        Column("requests", "requests"),
        Column("errors", "errors"),
        Column("wall_s", "duration", "s"),
        *(_SCHEDULED if view.is_open else ()),
        Column("new_connections", "connected anew"),
        Column("warm_up_requests", "sent before the clock"),
        Column("left_out", "sent, not counted"),
        Column("found", "temperatures that the server found", numeric=False),
    )
    rows = tuple(
        Row(
            (
                name(phase.label),
                Cell(phase.phase.verdict, phase.phase.verdict, "" if phase.phase.verdict == "valid" else "error"),
                _number(phase.total.requests),
                _errors(phase.total.errors),
                _cell(phase.total.wall_s, significant),
                *(_scheduled_cells(phase) if view.is_open else ()),
                _number(phase.total.new_connections),
                _number(phase.phase.clock.warm_up_requests),
                _number(phase.phase.clock.left_out),
                _found(phase),
            ),
            phase=phase.name,
        )
        for phase in view.phases
    )
    return Table("phases", "Phases", columns, rows)


def failures(view: StreamView) -> Table | None:
    """Requests that failed, by what was wrong, most frequent first; None where none did."""
    if not view.failures:
        return None
    columns = (
        Column("phase", "phase", numeric=False),
        Column("http_status", "HTTP status"),
        Column("error", "what was wrong", numeric=False),
        Column("requests", "requests"),
        Column("models", "models", numeric=False),
    )
    rows = tuple(
        Row(
            (
                name(failure.phase),
                Cell(failure.status, str(failure.status) if failure.status else "no answer"),
                name(failure.error),
                _errors(failure.requests),
                name(", ".join(failure.services)),
            ),
            phase=failure.phase,
        )
        for failure in view.failures
    )
    return Table("failures", "Requests that failed", columns, rows)


def _summaries(view: StreamView) -> Iterator[tuple[str, PhaseView, Summary]]:
    """All models first, then each model; within each the phases in the order in which they ran."""
    for phase in view.phases:
        yield ALL, phase, phase.total
    for service in view.services:
        for phase in view.phases:
            summary = phase.phase.services.get(service)
            if summary is not None:
                yield service, phase, summary


def _comparison_cells(view: StreamView, phase: PhaseView, group: str, summary: Summary) -> tuple[Cell, ...]:
    latency, samples = summary.latency_s, summary.latency_n
    return (
        name(group),
        name(phase.label),
        _number(summary.requests),
        _errors(summary.errors),
        *(cell for figure in HEADINGS for cell in estimate_cells(latency, figure, samples)),
        *((_times_slower(view, phase, group, summary),) if view.compared else ()),
        _of_answers(summary.images_per_s, samples, significant),
        _of_answers(summary.wall_s_per_image, samples, milliseconds),
        _cell(summary.weights_bytes, megabytes),
        _load(phase, summary),
    )


def _scheduled_cells(phase: PhaseView) -> tuple[Cell, ...]:
    return (
        _cell(phase.phase.offered_per_s, significant),
        _cell(phase.phase.delivered_per_s, significant),
        _errors(phase.total.dropped),
    )


def _times_slower(view: StreamView, phase: PhaseView, group: str, summary: Summary) -> Cell:
    baseline = view.baseline
    if baseline is None or phase is baseline:
        return Cell(None, "")
    warm = baseline.total if group == ALL else baseline.phase.services.get(group)
    value = latency_ratio(summary, warm)
    return missing("n/a") if value is None else Cell(value, ratio(value))


def _load(phase: PhaseView, summary: Summary) -> Cell:
    if summary.load_bytes_per_s is None and phase.name == "warm":
        return Cell(None, "")  # nothing is loaded in a warm phase, so there is no figure that could be missing
    return _of_answers(summary.load_bytes_per_s, summary.latency_n, gigabytes)


def _latency(seconds: float | None, samples: int) -> Cell:
    return Cell(seconds, latency_text(seconds, samples), "missing" if seconds is None else "")


def _cell(value: float | None, text: Callable[[float], str]) -> Cell:
    return missing() if value is None else Cell(value, text(value))


def _of_answers(value: float | None, answers: int, text: Callable[[float], str]) -> Cell:
    return missing("n/a") if value is None and not answers else _cell(value, text)


def _number(value: int) -> Cell:
    return Cell(value, count(value))


def _errors(value: int) -> Cell:
    return Cell(value, count(value), "error" if value else "")


def _found(phase: PhaseView) -> Cell:
    found = phase.phase.temperatures
    if not found:
        return missing("no good answer")
    if set(found) == {"unknown"}:
        return missing("missing: the server does not tell")
    text = ", ".join(f"{temperature} {count(number)}" for temperature, number in found.items())
    return Cell(text, text)
