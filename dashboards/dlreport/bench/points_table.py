"""Every point in one table, as DLI has it: network, engine, precision, mode and what came of it; and those that failed."""

from collections.abc import Callable
from dataclasses import dataclass

from dlclient.bench_result import Point
from dlclient.results import Latency

from dlreport.bench.cell import FAILURES, figure, outcome
from dlreport.bench.variant import describe
from dlreport.bench.view import BenchView, images_per_s, memory_bytes
from dlreport.quantity import count, latency_text, megabytes, milliseconds, moment, significant
from dlreport.table import Cell, Column, Row, Table, missing, name


@dataclass(frozen=True)
class _Part:
    """A column and its cell of a point; a column whose cells are all empty is left out."""

    column: Column
    cell: Callable[[Point], Cell]


def points_table(view: BenchView) -> Table | None:
    """A row a point, in the order of the bench; None without any."""
    if not view.points:
        return None
    parts = [*_SETTING, *_options(view), *_FIGURES, *_compatible(view), *_END]
    rows = [[part.cell(point) for part in parts] for point in view.points]
    kept = [number for number, part in enumerate(parts) if part in _END or any(_told(row[number]) for row in rows)]
    return Table(
        "points",
        "All points",
        tuple(parts[number].column for number in kept),
        tuple(Row(tuple(row[number] for number in kept)) for row in rows),
    )


def failures_table(view: BenchView) -> Table | None:
    """A row a point without figures: what it was, why, and where its log is; None without any."""
    if not view.failed:
        return None
    columns = (
        Column("model", "network", numeric=False),
        Column("batch_size", "batch"),
        Column("question", "question", numeric=False),
        Column("place", "where", numeric=False),
        Column("kind", "kind", numeric=False),
        Column("stage", "stage", numeric=False),
        Column("log", "log", numeric=False),
        Column("reason", "reason", numeric=False),
    )
    settings = [point.setting for point in view.points]
    rows = []
    for point in view.failed:
        failure, setting = point.failure, point.setting
        assert failure is not None
        rows.append(
            Row(
                (
                    name(setting.model),
                    Cell(setting.batch_size, str(setting.batch_size)),
                    name(setting.question),
                    name(describe(setting, besides=settings)),
                    Cell(failure.kind, FAILURES[failure.kind], "error"),
                    name(failure.stage),
                    name(failure.log) if failure.log else missing("none"),
                    name(failure.text),
                )
            )
        )
    return Table("failures", "What failed", columns, tuple(rows))


def doubts_table(view: BenchView) -> Table | None:
    """A row a reason why a point's figures cannot be trusted, or a warning about them; None without any."""
    columns = (
        Column("model", "network", numeric=False),
        Column("batch_size", "batch"),
        Column("place", "where", numeric=False),
        Column("standing", "its figures", numeric=False),
        Column("code", "code", numeric=False),
        Column("reason", "why", numeric=False),
        Column("cure", "what to do", numeric=False),
    )
    settings = [point.setting for point in view.points]
    rows = tuple(
        Row(
            (
                name(point.setting.model),
                Cell(point.setting.batch_size, str(point.setting.batch_size)),
                name(describe(point.setting, besides=settings)),
                Cell(standing, standing, "error" if standing == "not to quote" else ""),
                name(reason.code),
                name(reason.text),
                name(reason.cure),
            )
        )
        for point in view.points
        for standing, reasons in (("not to quote", point.reasons), ("with a warning", point.warnings))
        for reason in reasons
    )
    return Table("doubts", "What cannot be trusted, or only with care", columns, rows) if rows else None


def _told(cell: Cell) -> bool:
    return cell.value not in {None, ""}


def _target(point: Point) -> Cell:
    return missing("") if point.setting.target == "inproc" else name(point.setting.target)


def _in_flight(point: Point) -> Cell:
    """How many really were; where that was left to the engine and it did not tell, so."""
    if point.setting.question != "throughput":
        return missing("")
    number = point.setting.in_flight or point.read_back.get("in_flight")
    return Cell(number, str(number)) if number else missing("engine's own")


def _text(value: str | int | None) -> Cell:
    return missing("") if value is None or value == "" else Cell(value, str(value))


def _number(key: str, heading: str, of: Callable[[Point], int]) -> _Part:
    """A count; none is left out of people's sight."""

    def cell(point: Point) -> Cell:
        value = of(point)
        return Cell(value, count(value)) if value else missing("")

    return _Part(Column(key, heading), cell)


def _latency(name_of: str, heading: str) -> tuple[_Part, ...]:
    """A figure of the latencies; the ends of its interval are for programs."""

    def cell(point: Point) -> Cell:
        times: Latency | None = point.latency_s
        value = getattr(times, name_of) if times else None
        return figure(point, value, milliseconds(value or 0.0), lacking=latency_text(None, point.iterations))

    def end(number: int) -> Callable[[Point], Cell]:
        def of(point: Point) -> Cell:
            found = (point.latency_s.intervals or {}).get(name_of) if point.latency_s else None
            return Cell(None, "") if found is None else Cell(found[number], milliseconds(found[number]))

        return of

    return (
        _Part(Column(f"{name_of}_s", heading, "ms"), cell),
        _Part(Column(f"{name_of}_low_s", f"{heading}, low end", "ms", printed=False), end(0)),
        _Part(Column(f"{name_of}_high_s", f"{heading}, high end", "ms", printed=False), end(1)),
    )


def _value(
    key: str, heading: str, unit: str, of: Callable[[Point], float | None], say: Callable[[float], str]
) -> _Part:
    def cell(point: Point) -> Cell:
        value = of(point) if point.failure is None else None
        return missing("") if value is None else Cell(value, say(value))

    return _Part(Column(key, heading, unit), cell)


def _rate(point: Point) -> Cell:
    rate = images_per_s(point)
    return figure(point, rate, significant(rate or 0.0), lacking="")


_SETTING = (
    _Part(Column("model", "network", numeric=False), lambda point: name(point.setting.model)),
    _Part(Column("engine", "engine", numeric=False), lambda point: _text(point.setting.engine)),
    _Part(Column("precision", "precision", numeric=False), lambda point: _text(point.setting.precision)),
    _Part(Column("mode", "mode", numeric=False), lambda point: name(point.setting.question)),
    _Part(Column("target", "target", numeric=False), _target),
    _Part(Column("device", "device", numeric=False), lambda point: _text(point.setting.device)),
    _Part(Column("batch_size", "batch"), lambda point: Cell(point.setting.batch_size, str(point.setting.batch_size))),
    _Part(
        Column("in_flight", "in flight"),
        _in_flight,
    ),
    _Part(Column("threads", "threads"), lambda point: _text(point.setting.threads)),
    _Part(Column("affinity", "CPUs", numeric=False), lambda point: _text(point.setting.affinity)),
    _Part(Column("input", "input", numeric=False), lambda point: _text(point.setting.input)),
)
_FIGURES = (
    _Part(Column("images_per_s", "images", "1/s"), _rate),
    *_latency("mean", "mean"),
    *_latency("p50", "p50"),
    *_latency("p90", "p90"),
    *_latency("p99", "p99"),
    _value("deviation_s", "standard deviation", "ms", lambda point: point.deviation_s, milliseconds),
    _value(
        "largest_s", "largest", "ms", lambda point: point.latency_s.largest if point.latency_s else None, milliseconds
    ),
    _number("outliers", "outliers", lambda point: point.outliers),
    _value(
        "client_p50_s", "client, p50", "ms", lambda point: point.client_s.p50 if point.client_s else None, milliseconds
    ),
    _value("client_cost_s", "client's own cost", "ms", lambda point: point.client_cost_s, milliseconds),
    _value("transform_s", "decoding", "ms", lambda point: point.transform_s, milliseconds),
    _value("model_bytes", "weights", "MB", lambda point: point.model_bytes, megabytes),
    _value("memory_bytes", "memory", "MB", memory_bytes, megabytes),
    _number("iterations", "iterations", lambda point: point.iterations),
    _number("errors", "errors", lambda point: point.errors),
    _Part(
        Column("timed_scope", "timed scope", numeric=False), lambda point: _text("" if point.failure else point.scope)
    ),
)
_END = (
    _Part(Column("outcome", "outcome", numeric=False), outcome),
    _Part(
        Column("started", "started", numeric=False, printed=False),
        lambda point: Cell(point.started, moment(point.started)),
    ),
    _Part(Column("id", "id", numeric=False, printed=False), lambda point: name(point.id)),
)


def _options(view: BenchView) -> list[_Part]:
    keys = dict.fromkeys(key for point in view.points for key in point.setting.options)
    return [_Part(Column(f"option_{key}", key, numeric=False), _option(key)) for key in keys]


def _option(key: str) -> Callable[[Point], Cell]:
    def cell(point: Point) -> Cell:
        value = point.setting.options.get(key)
        return missing("") if value is None else Cell(value, str(value))

    return cell


def _compatible(view: BenchView) -> list[_Part]:
    """Figures as other benchmarks define them: in seconds by their names' end, like all times, else as they are."""
    keys = dict.fromkeys(key for point in view.good for key in point.compatible)
    return [_compatible_part(key) for key in keys]


def _compatible_part(key: str) -> _Part:
    words = key.replace("_", " ")
    if key.endswith(("_s", "_s_per_image")):
        said = words.replace(" s per image", " per image").removesuffix(" s")
        return _value(key, said, "ms", lambda point: point.compatible.get(key), milliseconds)
    return _value(key, words, "", lambda point: point.compatible.get(key), significant)
