"""What others published of the networks that a bench measured, to stand beside its figures. Pure functions.

A published figure is never beaten: it is of other, older hardware. It keeps its class of comparability only where it is of the
same network and its clock was around the same; else it is of class B: compare the shape, not the value.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dlclient.bench_result import Point

from dlreport.bench.network import NAMESAKES, Namesake
from dlreport.bench.view import BenchView, models
from dlreport.published import Published, load_published

DEEPDETECT = "dd_performances"
_OLDER = "other, older hardware"


@dataclass(frozen=True)
class Beside:
    """A network's times per image on one piece of hardware, as DeepDetect's report has them."""

    place: str
    hardware: str
    model: str
    """Our name."""
    values_s: dict[int, float | None]
    """By batch size; None: it did not run."""
    notes: dict[int, str]
    timed_scope: str
    comparability: str
    definition: str
    remark: str
    """All that there is to say of it."""
    why: str
    """Why its class is lower than in the publication's list; "" where it is not."""


def systems(view: BenchView) -> tuple[str, ...]:
    """Whose published figures stand beside these: those of the benchmark that is reproduced, else everybody's."""
    return (view.bench.reproduces,) if view.bench.reproduces in NAMESAKES else tuple(NAMESAKES)


def published_rows(view: BenchView, points: Iterable[Point]) -> list[tuple[str, Namesake, Published]]:
    """(our network, what it is called there, row), of the networks of these points, in the order of the publication."""
    ours = models(points)
    found = []
    for row in load_published():
        if row.system in systems(view):
            called = NAMESAKES[row.system]
            found += [
                (model, called[model], row) for model in ours if model in called and called[model].name == row.model
            ]
    return found


def comparability(row: Published, namesake: Namesake, points: Iterable[Point]) -> tuple[str, str]:
    """The class of a published row beside these points, and why it is lower than that of the row itself; "" where not."""
    if row.comparability != "A":
        return row.comparability, ""
    if not namesake.same:
        return "B", "a network of the same design, not the same one"
    alike = [point for point in points if point.failure is None and same_mode(point, row)]
    if not alike:
        return "B", "another mode than here"
    scopes = {point.scope for point in alike} - {row.timed_scope}
    if row.timed_scope and scopes:
        return "B", f"another timed scope than here ({', '.join(sorted(scopes))})"
    precisions = {point.setting.precision for point in alike} - {"", row.precision}
    if precisions:
        return "B", f"another precision than here ({', '.join(sorted(precisions))})"
    return "A", ""


def same_mode(point: Point, row: Published) -> bool:
    """Whether the point ran as the published row did: one after another, or several in flight."""
    return (point.setting.question == "throughput") == (row.mode == "throughput")


def deepdetect_rows(view: BenchView) -> list[Beside]:
    """A row a piece of hardware and network, at the batch sizes that were published."""
    if DEEPDETECT not in systems(view):
        return []
    rows: dict[tuple[str, str], list[Published]] = {}
    names: dict[tuple[str, str], Namesake] = {}
    for model, namesake, row in published_rows(view, view.speed):
        if row.system == DEEPDETECT and row.metric == "latency_per_image" and row.batch_size is not None:
            rows.setdefault((row.hardware, model), []).append(row)
            names[row.hardware, model] = namesake
    return [_beside(view, model, names[hardware, model], found) for (hardware, model), found in rows.items()]


def _beside(view: BenchView, model: str, namesake: Namesake, rows: list[Published]) -> Beside:
    first = rows[0]
    grade, why = comparability(first, namesake, (point for point in view.speed if point.setting.model == model))
    runs = f"mean of {first.samples} passes / batch size" if first.samples else "mean of passes / batch size"
    said = (
        f"{runs}, {first.precision}, {first.software}, as {namesake.name}; {replace(first, note='').remark}; {_OLDER}"
    )
    return Beside(
        place=f"{first.hardware} (published; {_OLDER})",
        hardware=first.hardware,
        model=model,
        values_s={row.batch_size: None if row.value is None else row.value / 1e3 for row in rows if row.batch_size},
        notes={row.batch_size: row.note for row in rows if row.batch_size and row.note},
        timed_scope=first.timed_scope,
        comparability=grade,
        definition=f"{runs}, {first.precision}",
        remark=said,
        why=why,
    )


def median_rate(point: Point) -> float | None:
    """Images per second as DLI defines them in latency mode: batch size / median. None: too few iterations for a median."""
    median = point.latency_s.p50 if point.latency_s else None
    return point.setting.batch_size / median if median and math.isfinite(median) else None
