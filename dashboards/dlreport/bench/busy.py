"""How busy the machine was while a network ran, by batch size. Pure functions."""

import re
from collections.abc import Callable

from dlclient.bench_result import Point, Utilization

from dlreport.bench.cell import failed, figure
from dlreport.bench.variant import Variant, variants
from dlreport.bench.view import BenchView, images_per_s, models
from dlreport.quantity import megabytes, significant
from dlreport.table import Cell, Column, Row, Table, missing, name

_Figure = tuple[Column, Callable[[Utilization], float | None], Callable[[float], str]]


def percent(share: float) -> str:
    """A fraction of 1 as a percentage, without the unit."""
    return significant(share * 100)


_FIGURES: tuple[_Figure, ...] = (
    (Column("cpu", "CPU, all cores", "%"), lambda used: used.cpu, percent),
    (Column("process_cpu_cores", "its processes", "cores"), lambda used: used.process_cpu, significant),
    (Column("process_bytes", "resident", "MB"), lambda used: used.process_bytes, megabytes),
    (Column("gpu", "GPU", "%"), lambda used: used.gpu, percent),
    (Column("gpu_memory_traffic", "GPU memory traffic", "%"), lambda used: used.gpu_memory, percent),
    (Column("gpu_memory_bytes", "GPU memory in use", "MB"), lambda used: used.gpu_memory_bytes, megabytes),
    (Column("sm_activity", "SM activity", "%"), lambda used: used.sm_activity, percent),
    (Column("kernel_busy", "kernels, profiled", "%"), lambda used: used.kernel_busy, percent),
    (Column("energy_j", "energy", "J", printed=False), lambda used: used.energy_j, significant),
)


def watched(view: BenchView) -> tuple[Point, ...]:
    """The points that asked for it, and others of which more than memory is known."""
    return tuple(
        point for point in view.points if point.setting.question == "utilization" or _shares(point.utilization)
    )


def watched_variants(view: BenchView) -> tuple[Variant, ...]:
    """What sets those apart, but for network and batch."""
    return variants(watched(view), view.bench)


def busy_table(view: BenchView) -> Table | None:
    """A row a place, network and batch; only the columns that some counter told. None where nothing was watched."""
    points = watched(view)
    if not points:
        return None
    told = [
        one for one in _FIGURES if any(point.utilization and one[1](point.utilization) is not None for point in points)
    ]
    meters = list(
        dict.fromkeys(meter for point in points if point.utilization for meter in _energies(point.utilization))
    )
    columns = (
        Column("measured_on", "measured on", numeric=False),
        Column("model", "network", numeric=False),
        Column("batch_size", "batch"),
        Column("images_per_s", "images", "1/s"),
        *(column for column, _, _ in told),
        *(Column(_key(meter), f"energy, {meter}", "J per image") for meter in meters),
        Column("samples", "samples"),
        Column("energy_source", "energy by", numeric=False, printed=False),
        Column("top_operators", "busiest operators, profiled", numeric=False, printed=_profiled(points)),
    )
    rows = tuple(
        Row(
            (name(variant.label), name(model), *_cells(point, told, meters)),
            variant.label,
        )
        for variant in watched_variants(view)
        for model in models(variant.points)
        for point in variant.of(model)
    )
    return Table("utilization", "How busy the machine was", columns, rows)


def _cells(point: Point, told: list[_Figure], meters: list[str]) -> tuple[Cell, ...]:
    used = point.utilization
    batch = Cell(point.setting.batch_size, str(point.setting.batch_size))
    rate = images_per_s(point)
    if used is None:
        empty = [missing("")] * (len(told) + len(meters) + 3)
        return (batch, failed(point) if point.failure else missing("not watched"), *empty)
    cells = [figure(point, value(used), say(value(used) or 0.0), lacking="no counter") for _, value, say in told]
    for meter in meters:
        energy_j = _energies(used).get(meter)
        per_image_j = energy_j / point.images if energy_j is not None and point.images else None
        cells.append(figure(point, per_image_j, significant(per_image_j or 0.0), lacking="no counter"))
    operators = ", ".join(f"{operator} {percent(share)} %" for operator, share in used.top_operators)
    return (
        batch,
        figure(point, rate, significant(rate or 0.0)),
        *cells,
        Cell(used.samples, str(used.samples)),
        name(used.energy_source),
        name(operators),
    )


def _energies(used: Utilization) -> dict[str, float]:
    """Joules by what counted them; of older results there is one counter's alone."""
    one = {} if used.energy_j is None else {used.energy_source: used.energy_j}
    return used.energies_j or one


def _key(meter: str) -> str:
    """Of the column for a counter."""
    return f"energy_{re.sub('[^a-z0-9]+', '_', meter.lower()).strip('_')}_j_per_image"


def _profiled(points: tuple[Point, ...]) -> bool:
    return any(point.utilization and point.utilization.top_operators for point in points)


def _shares(used: Utilization | None) -> bool:
    return used is not None and any(share is not None for share in (used.cpu, used.gpu, used.process_cpu))
