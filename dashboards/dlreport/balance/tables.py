"""The tables of a comparison: every cell, predicted against the others, model against processes, and the profiles."""

from dlclient.balance_result import Agreement, Cell, Figures, Profile

from dlreport.balance.view import BalanceView, Contest, interval, p99_s
from dlreport.quantity import count, megabytes, milliseconds, ratio, significant
from dlreport.stream.estimates import estimate_cells, estimate_columns, interval_text
from dlreport.table import Cell as Shown
from dlreport.table import Column, Row, Table, missing, name

_SOURCES = {"model": "model", "real": "processes"}
_FIGURES = ("mean", "p50", "p99")
_SCENARIO = (
    Column("source", "run as", numeric=False),
    Column("workers", "workers"),
    Column("residency", "weights", numeric=False),
    Column("mix", "mix", numeric=False),
    Column("load", "load"),
)


def cells_table(view: BalanceView) -> Table:
    """Every cell that has figures, the policies of a scenario one below the other."""
    columns = (
        *_SCENARIO,
        Column("policy", "policy", numeric=False),
        Column("requests", "requests"),
        *(column for figure in _FIGURES for column in estimate_columns(figure)),
        Column("wait_s", "mean wait", "ms"),
        Column("wait_low_s", "mean wait, low end", "ms", printed=False),
        Column("wait_high_s", "mean wait, high end", "ms", printed=False),
        Column("hit_rate", "found warm", "%"),
        Column("loads", "loads"),
        Column("growth", "queue", numeric=False),
    )
    rows = [Row(_cells(cell), strong=cell.where.policy == "predicted") for cell in view.good]
    return Table("cells", "Every cell", columns, tuple(rows))


def _cells(cell: Cell) -> tuple[Shown, ...]:
    found = cell.figures
    assert found is not None
    low, high = found.wait_interval_s or (None, None)
    note = interval_text(found.wait_interval_s) if found.wait_interval_s else ""
    return (
        *_scenario(cell),
        name(cell.where.policy),
        Shown(found.requests, count(found.requests)),
        *(shown for figure in _FIGURES for shown in estimate_cells(found.latency_s, figure, found.requests)),
        Shown(found.wait_s, milliseconds(found.wait_s), note=note),
        Shown(low, ""),
        Shown(high, ""),
        Shown(found.hit_rate, significant(found.hit_rate * 100)),
        Shown(found.loads, count(found.loads)) if found.loads is not None else missing(""),
        Shown(found.growth, f"grew {found.growth:.1f} x", "doubt") if found.growth else missing(""),
    )


def _scenario(cell: Cell) -> tuple[Shown, ...]:
    where = cell.where
    return (
        name(_SOURCES.get(where.source, where.source)),
        Shown(where.workers, count(where.workers)),
        Shown(
            where.residency, {"all": "all resident", "third": "room for a third"}.get(where.residency, where.residency)
        ),
        name(where.mix),
        Shown(where.load, f"{where.load:.0%}"),
    )


def contests_table(view: BalanceView) -> Table | None:
    """`predicted` against the best of the others, scenario by scenario; None where there is nothing to set beside it."""
    if not view.contests:
        return None
    columns = (
        *_SCENARIO,
        Column("predicted_p99_s", "predicted, p99", "ms"),
        Column("best_policy", "best other", numeric=False),
        Column("best_p99_s", "its p99", "ms"),
        Column("ratio", "other / predicted"),
        Column("outcome", "outcome", numeric=False),
    )
    return Table("contests", "predicted against the best of the others", columns, tuple(map(_contest, view.contests)))


def _contest(contest: Contest) -> Row:
    return Row(
        (
            *_scenario(contest.predicted),
            _tail(contest.predicted),
            name(contest.best.where.policy),
            _tail(contest.best),
            Shown(contest.ratio, ratio(contest.ratio)),
            Shown(contest.outcome, contest.outcome, "error" if contest.outcome == "worse" else ""),
        )
    )


def _tail(cell: Cell) -> Shown:
    found, value = interval(cell, "p99"), p99_s(cell)
    assert value is not None
    return Shown(value, milliseconds(value), note=interval_text(found) if found else "")


def agreement_table(view: BalanceView) -> Table | None:
    """Model against processes, on the same requests; None where nothing ran in processes."""
    if not view.judged:
        return None
    columns = (
        *_SCENARIO[1:],
        Column("policy", "policy", numeric=False),
        Column("rounds", "runs"),
        *(column for figure in _FIGURES for column in _agreement_columns(figure)),
        Column("hit_rate", "found warm", "%"),
        Column("model_hit_rate", "model", "%"),
        Column("overhead_s", "on the way", "ms"),
        Column("verdict", "verdict", numeric=False),
    )
    return Table("agreement", "The model against processes", columns, tuple(map(_agreement, view.judged)))


def _agreement_columns(figure: str) -> tuple[Column, ...]:
    return (
        Column(f"{figure}_s", f"{figure}, processes", "ms"),
        Column(f"{figure}_ratio", "model / real"),
        Column(f"{figure}_ratio_low", "low end", printed=False),
        Column(f"{figure}_ratio_high", "high end", printed=False),
    )


def _agreement(cell: Cell) -> Row:
    found, model, judged = cell.figures, cell.model, cell.agreement
    assert found is not None
    assert model is not None
    assert judged is not None
    doubts = ", ".join(reason.code for reason in cell.reasons)
    parts = (judged.text, growing(found), f"doubtful: {doubts}" if doubts else "")
    verdict = "; ".join(part for part in parts if part)
    return Row(
        (
            *_scenario(cell)[1:],
            name(cell.where.policy),
            Shown(judged.rounds, count(judged.rounds)),
            *(shown for figure in _FIGURES for shown in _compared(figure, judged)),
            Shown(found.hit_rate, significant(found.hit_rate * 100)),
            Shown(model.hit_rate, significant(model.hit_rate * 100)),
            _time(model.overhead_s),
            Shown(verdict, verdict, "" if judged.within and not doubts else "doubt" if judged.within else "error"),
        )
    )


def _compared(figure: str, judged: Agreement) -> tuple[Shown, ...]:
    own = _time(judged.real_s.get(figure))
    if figure not in judged.ratios:
        return (own, missing(), missing(), missing())
    low, middle, high = judged.ratios[figure]
    note = f"[{low:.2f}, {high:.2f}]"
    return (own, Shown(middle, f"{middle:.2f}", note=note), Shown(low, ""), Shown(high, ""))


def growing(found: Figures) -> str:
    """That a cell has no steady state, in words; "" where it has."""
    return f"no steady state: latency grew {found.growth:.1f} x" if found.growth else ""


def _time(seconds: float | None) -> Shown:
    return missing() if seconds is None else Shown(seconds, milliseconds(seconds))


def profiles_table(view: BalanceView) -> Table:
    """The models, as they were simulated: published times x scale."""
    columns = (
        Column("model", "model", numeric=False),
        Column("bytes", "weights", "MB"),
        Column("load_s", "load", "ms"),
        Column("forward_s", "forward of 1", "ms"),
        Column("forward_64_s", "of 64", "ms"),
        Column("source", "rows of published.csv", numeric=False),
    )
    return Table("profiles", "The models", columns, tuple(_profile(one, view) for one in view.balance.profiles))


def _profile(one: Profile, view: BalanceView) -> Row:
    scale = view.balance.scale
    return Row(
        (
            name(one.name),
            Shown(one.bytes, megabytes(one.bytes)),
            _time(scale * one.bytes / view.balance.bandwidth),
            _time(scale * one.forward_s),
            _time(scale * one.forward_64_s),
            name(one.source),
        )
    )


def failures_table(view: BalanceView) -> Table | None:
    """Cells that have no figures, and why; None where there is none."""
    if not view.failed:
        return None
    columns = (*_SCENARIO, Column("policy", "policy", numeric=False), Column("failure", "why", numeric=False))
    rows = tuple(Row((*_scenario(cell), name(cell.where.policy), name(cell.failure))) for cell in view.failed)
    return Table("failures", "Cells without figures", columns, rows)
