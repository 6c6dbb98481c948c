"""This bench's figures beside those of the stream test of 2018 and of DLI, each by the publication's own definition."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dlclient.bench_result import Point

from dlreport.bench.beside import DEEPDETECT, comparability, median_rate, published_rows
from dlreport.bench.cell import figure
from dlreport.bench.network import Namesake
from dlreport.bench.variant import Variant, hardware, variants
from dlreport.bench.view import BenchView, images_per_s
from dlreport.published import Published
from dlreport.quantity import plain, significant
from dlreport.table import Cell, Column, Row, Table, missing, name

_MIB = 1 << 20

_COLUMNS = (
    Column("figure", "figure", numeric=False),
    Column("source", "source", numeric=False),
    Column("value", "value"),
    Column("unit", "unit", numeric=False),
    Column("hardware", "hardware", numeric=False),
    Column("software", "software", numeric=False),
    Column("mode", "mode", numeric=False),
    Column("timed_scope", "timed scope", numeric=False),
    Column("comparability", "class", numeric=False),
    Column("remark", "definition and remark", numeric=False),
)


@dataclass(frozen=True)
class _Definition:
    """A published metric, and how our points tell the same. `of`: None where a point does not tell it."""

    words: str
    unit: str
    of: Callable[[Point], float | None]
    remark: str


def _batch_ms(point: Point) -> float | None:
    mean = point.latency_s.mean if point.latency_s and point.setting.question == "latency" else None
    return None if mean is None else mean * 1e3


def _dli_rate(point: Point) -> float | None:
    """As DLI counts, where the bench did so too (dlclient.bench.compatible); else by the clean figures, which drop no sample."""
    if point.setting.question == "latency":
        return point.compatible.get("dli_batch_fps") or median_rate(point)
    return point.compatible.get("dli_fps") or images_per_s(point)


_DEFINITIONS: Mapping[str, _Definition] = MappingProxyType(
    {
        "latency_per_batch": _Definition("time per batch", "ms", _batch_ms, "mean of a batch"),
        "batch_over_median": _Definition(
            "images per second",
            "images/s",
            _dli_rate,
            "one in flight: batch size / median; several: images / wall time",
        ),
        "weights_file": _Definition(
            "weights",
            "MiB",
            lambda point: point.model_bytes and point.model_bytes / _MIB,
            "the weights as they were loaded",
        ),
    }
)


def published_table(view: BenchView) -> Table | None:
    """Figure by figure: our rows, then the published ones, each with its hardware; None where none was published of them.

    DeepDetect's published times have their place in the table of times.
    """
    groups: dict[tuple[str, str, int | None, str], list[tuple[Namesake, Published]]] = {}
    for model, namesake, row in published_rows(view, view.good):
        if row.metric in _DEFINITIONS and row.system != DEEPDETECT:
            mode = row.mode if row.system == "dli" else ""
            groups.setdefault((row.metric, model, row.batch_size, mode), []).append((namesake, row))
    rows = [
        row
        for (metric, model, size, mode), found in groups.items()
        for row in _group(view, _DEFINITIONS[metric], model, size, mode, found)
    ]
    return Table("published", "Published figures of the same networks", _COLUMNS, tuple(rows)) if rows else None


def _group(
    view: BenchView,
    definition: _Definition,
    model: str,
    size: int | None,
    mode: str,
    published: list[tuple[Namesake, Published]],
) -> list[Row]:
    told = [
        point
        for point in view.good
        if point.setting.model == model
        and size in {None, point.setting.batch_size}
        and mode in {"", point.setting.question}
        and point.setting.precision in {"", *(row.precision for _, row in published)}
        and definition.of(point) is not None
    ]
    if not told:
        return []
    words = f"{model}, {definition.words}" + (f", batch {size}" if size else "") + (f", {mode} mode" if mode else "")
    own = told[:1] if size is None else told
    places = {point.id: variant for variant in variants(told, view.bench) for point in variant.points}
    rows = [_own_row(view, words, definition, point, places[point.id]) for point in own]
    return rows + [_published_row(words, row, namesake, told) for namesake, row in published]


def _own_row(view: BenchView, words: str, definition: _Definition, point: Point, place: Variant) -> Row:
    value = definition.of(point)
    setting = point.setting
    cells = (
        name(words),
        name(f"this bench, {place.label}"),
        figure(point, value, significant(value or 0.0)),
        name(definition.unit),
        name(hardware(point, view.bench)),
        name(", ".join(part for part in (setting.engine, setting.precision) if part)),
        name(setting.question),
        name(point.scope),
        name(""),
        name(definition.remark),
    )
    return Row(cells, words, strong=True)


def _published_row(words: str, row: Published, namesake: Namesake, points: list[Point]) -> Row:
    grade, why = comparability(row, namesake, points)
    remark = "; ".join(part for part in ("other, older hardware", f"as {row.model}", row.remark, why) if part)
    cells = (
        name(words),
        name(f"{row.system} (published)"),
        missing("did not run") if row.value is None else Cell(row.value, plain(row.value)),
        name(row.unit),
        name(row.hardware) if row.hardware else missing(""),
        name(f"{row.software}, {row.precision}"),
        name(row.mode),
        name(row.timed_scope),
        name(grade),
        name(remark),
    )
    return Row(cells, words)
