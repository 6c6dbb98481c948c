"""What was waited for where: response, service, first byte and send lag, of all models together. Pure functions."""

from collections.abc import Callable, Mapping

from dlclient.results import Latency, SendLag, Summary

from dlreport.quantity import count
from dlreport.stream.estimates import HEADINGS, estimate_cells, estimate_columns
from dlreport.stream.view import StreamView
from dlreport.table import Cell, Column, Row, Table, name

_Times = Callable[[Summary], Latency | SendLag | None]
_AFTER_SEND: Mapping[str, _Times] = {
    "first byte": lambda total: total.first_byte_s,
    "send lag": lambda total: total.send_lag_s,
}
_CLOSED: Mapping[str, _Times] = {"latency": lambda total: total.latency_s, **_AFTER_SEND}
_OPEN: Mapping[str, _Times] = {
    "response": lambda total: total.latency_s,
    "service": lambda total: total.service_s,
    **_AFTER_SEND,
}
"""In a closed loop a request is due when it can be sent: its service time is its latency, but for connecting."""


def clocks(view: StreamView) -> Table | None:
    """Clock by clock, the phases beside each other; None where nothing was answered."""
    columns = [
        Column("time", "time", numeric=False),
        Column("phase", "phase", numeric=False),
        Column("answers", "answers", printed=False),
    ]
    for figure in HEADINGS:
        columns += estimate_columns(figure)
    rows = []
    for clock, of in (_OPEN if view.is_open else _CLOSED).items():
        for phase in view.phases:
            samples = phase.total.latency_n
            times = of(phase.total)
            if samples and times is not None:
                cells = [name(clock), name(phase.label), Cell(samples, count(samples))]
                for figure in HEADINGS:
                    cells += estimate_cells(times, figure, samples)
                rows.append(Row(tuple(cells), clock, phase.name))
    title = "Response and service time" if view.is_open else "Latency in detail"
    return Table("clocks", title, tuple(columns), tuple(rows)) if rows else None
