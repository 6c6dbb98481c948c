"""This run's figures beside what others published for a stream of single images."""

from collections.abc import Mapping

from dlclient.results import Run

from dlreport.published import Published, stream_figures
from dlreport.quantity import milliseconds, plain, ratio, significant
from dlreport.stream.comparison import times
from dlreport.stream.facts import hardware, software
from dlreport.stream.view import StreamView
from dlreport.table import Cell, Column, Row, Table, missing, name

_METRICS = {"wall_time_per_image": "wall time per image", "images_per_second": "images per second"}
_UNITS = {"1/s": "/s"}
_COLUMNS = (
    Column("figure", "figure", numeric=False),
    Column("source", "source", numeric=False),
    Column("temperature", "temperature", numeric=False),
    Column("value", "value"),
    Column("unit", "unit", numeric=False, printed=False),
    Column("hardware", "hardware", numeric=False),
    Column("software", "software", numeric=False),
    Column("models", "models", numeric=False),
    Column("batch_size", "batch"),
    Column("timed_scope", "timed scope", numeric=False),
    Column("comparability", "class", numeric=False),
    Column("remark", "remark", numeric=False),
)


def context(view: StreamView) -> Table:
    """Rows of this run, then the published ones, figure by figure. Each row names the hardware it is from."""
    published = stream_figures()
    rows = []
    for metric, figure in _METRICS.items():
        rows += _own_rows(view, metric, figure)
        rows += [_published_row(row, figure) for row in published if row.metric == metric]
    figure = "cold / warm, wall time per image"
    if view.compared:
        rows += [*_own_ratios(view, figure), *_published_ratios(published, figure)]
    return Table("published", "Published stream figures", _COLUMNS, tuple(rows))


def _own_rows(view: StreamView, metric: str, figure: str) -> list[Row]:
    rows = []
    for phase in view.phases:
        if metric == "wall_time_per_image":
            seconds = phase.total.wall_s_per_image
            value = missing() if seconds is None else Cell(seconds * 1e3, f"{milliseconds(seconds)} ms")
            unit = "ms"
        else:
            rate = phase.total.images_per_s
            value = missing() if rate is None else Cell(rate, f"{significant(rate)} /s")
            unit = "1/s"
        rows.append(_own_row(view.run, figure, phase.label, value, unit, phase.name))
    return rows


def _own_row(run: Run, figure: str, temperature: str, value: Cell, unit: str, phase: str) -> Row:
    served_by = hardware(run)
    remark = "the device was simulated" if run.simulated else ""
    services = run.plan.services
    return Row(
        (
            name(figure),
            name("this run"),
            name(temperature),
            value,
            name(unit),
            name(served_by) if served_by else missing(),
            name(software(run)),
            name(", ".join(services) if len(services) <= 3 else f"mix of {len(services)}"),
            Cell(run.plan.batch_size, str(run.plan.batch_size)),
            name(run.timed_scope),
            name(""),
            name(remark if run.verdict == "valid" else "; ".join(part for part in ("invalid run", remark) if part)),
        ),
        figure,
        phase,
    )


def _published_row(row: Published, figure: str) -> Row:
    value = (
        missing("did not run")
        if row.value is None
        else Cell(row.value, f"{plain(row.value)} {_UNITS.get(row.unit, row.unit)}")
    )
    return Row(
        (
            name(figure),
            name(f"{row.system} (published)"),
            name(row.mode.removeprefix("stream, ")),
            value,
            name(row.unit),
            name(row.hardware),
            name(row.software),
            name(row.model),
            missing("") if row.batch_size is None else Cell(row.batch_size, str(row.batch_size)),
            name(row.timed_scope),
            name(row.comparability),
            name(f"other, older hardware; {row.remark}"),
        ),
        figure,
    )


def _own_ratios(view: StreamView, figure: str) -> list[Row]:
    rows = []
    for phase in view.compared:
        warm = view.baseline.total.wall_s_per_image if view.baseline else None
        value = times(phase.total.wall_s_per_image, warm)
        cell = missing("n/a") if value is None else Cell(value, ratio(value))
        rows.append(_own_row(view.run, figure, phase.label, cell, "", phase.name))
    return rows


def _published_ratios(published: tuple[Published, ...], figure: str) -> list[Row]:
    """Ratios are what class B compares: the published cold over the published warm figure of the same system."""
    walls = [row for row in published if row.metric == "wall_time_per_image"]
    warm: Mapping[str, Published] = {row.system: row for row in walls if "resident" in row.mode}
    rows = []
    for cold in walls:
        value = times(cold.value, warm[cold.system].value) if cold.system in warm else None
        if value is not None and cold is not warm[cold.system]:
            row = _published_row(cold, figure)
            cells = list(row.cells)
            cells[3], cells[4] = Cell(value, ratio(value)), name("")
            cells[-1] = name(f"other, older hardware; computed here from the two published figures; {cold.note}")
            rows.append(Row(tuple(cells), figure))
    return rows
