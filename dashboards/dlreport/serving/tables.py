"""The tables of a result of `make bench`: ratios and their goals, what was measured, and where a call's time goes."""

import statistics

from dlclient.serving_result import Measured, Ratio, Serving

from dlreport.quantity import milliseconds, significant
from dlreport.table import Cell, Column, Row, Table, missing, name

_PARTS = ("front", "workers", "all")


def ratios_table(result: Serving) -> Table | None:
    """A goal a row; None where there are none."""
    columns = (
        Column("ratio", "what", numeric=False),
        Column("median", "median"),
        Column("least", "least"),
        Column("most", "most"),
        Column("unit", "unit", numeric=False),
        Column("goal", "goal", numeric=False),
        Column("met", "met", numeric=False),
    )
    rows = tuple(Row(_ratio_cells(ratio), strong=ratio.met is not None) for ratio in result.ratios)
    return Table("ratios", "Ratios", columns, rows) if rows else None


def measured_table(result: Serving) -> Table:
    """A target a row: medians over the rounds."""
    columns = (
        Column("part", "part", numeric=False),
        Column("target", "target", numeric=False),
        Column("clients", "clients"),
        Column("body", "body", numeric=False),
        Column("rounds", "rounds"),
        Column("p50_s", "p50", "ms"),
        Column("rate_per_s", "answers", "1/s"),
        *(Column(f"cpu_{part}_s", f"CPU, {part}", "us per request") for part in _PARTS),
        Column("settings", "settings", numeric=False),
        Column("failure", "why there are no figures", numeric=False),
    )
    return Table("measured", "What was measured", columns, tuple(Row(_measured_cells(one)) for one in result.measured))


def stages_table(result: Serving) -> Table | None:
    """A stage a row; None where none was looked at."""
    columns = (
        Column("target", "target", numeric=False),
        Column("stage", "stage", numeric=False),
        Column("seconds", "median", "us"),
    )
    rows = tuple(
        Row((name(one.target), name(one.stage), Cell(one.seconds, f"{one.seconds * 1e6:.1f}"))) for one in result.stages
    )
    return Table("stages", "Where one client's time goes", columns, rows) if rows else None


def _ratio_cells(ratio: Ratio) -> tuple[Cell, ...]:
    found = ratio.median
    met = ratio.met
    figures = (
        [missing()] * 3
        if found is None
        else [Cell(value, significant(value, 3)) for value in (found, min(ratio.values), max(ratio.values))]
    )
    verdict = {True: "yes", False: "no", None: ""}[met]
    return (
        name(ratio.text),
        *figures,
        name(ratio.unit),
        name(ratio.goal),
        Cell(verdict, verdict, "error" if met is False else ""),
    )


def _measured_cells(one: Measured) -> tuple[Cell, ...]:
    head = (
        name(one.part),
        name(one.target),
        Cell(one.clients, str(one.clients) if one.clients else "open loop"),
        name(one.body),
    )
    tail = (name(one.settings), Cell(one.failure, one.failure, "error" if one.failure else ""))
    if not one.rounds:
        return (*head, Cell(0, "0"), *([missing()] * 5), *tail)
    times = [each.p50_s for each in one.rounds if each.p50_s is not None]
    rate = statistics.median(each.rate_per_s for each in one.rounds)
    return (
        *head,
        Cell(len(one.rounds), str(len(one.rounds))),
        Cell(statistics.median(times), milliseconds(statistics.median(times))) if times else missing(),
        Cell(rate, significant(rate, 4)),
        *(_cpu_cell([each.cpu_s[part] for each in one.rounds if part in each.cpu_s]) for part in _PARTS),
        *tail,
    )


def _cpu_cell(values: list[float]) -> Cell:
    if not values:
        return missing()
    found = statistics.median(values)
    return Cell(found, f"{found * 1e6:.0f}")
