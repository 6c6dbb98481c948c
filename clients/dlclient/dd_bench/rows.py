"""The CSV and JSON files of dd_bench: DeepDetect's columns first, under its names, ours after them. Times are milliseconds."""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from dlclient.bench_result import Point
from dlclient.dd_bench.figures import DEEPDETECT_FIGURE
from dlclient.errors import ResultError
from dlclient.results import Latency

Cell = str | int | float | bool | None


def _times(name: str, of: Callable[[Point], Latency | None]) -> dict[str, Callable[[Point], Cell]]:
    def figure(field: str) -> Callable[[Point], Cell]:
        return lambda point: milliseconds(getattr(of(point), field, None))

    return {f"{word} {name}": figure(field) for word, field in (("median", "p50"), ("p90", "p90"), ("p99", "p99"))}


def milliseconds(seconds: float | None) -> float | None:
    """To the nanosecond: what is beyond is no measurement."""
    return None if seconds is None else round(seconds * 1000, 6)


def mean_s(point: Point) -> float | None:
    """Mean seconds of the server for a call."""
    return None if point.latency_s is None else point.latency_s.mean


def per_image_s(point: Point) -> float | None:
    """Mean seconds of the server for an image, as DeepDetect counts it."""
    return point.compatible.get(DEEPDETECT_FIGURE)


def transform_per_image_s(point: Point) -> float | None:
    """Of that, reading, decoding and resizing."""
    return None if point.transform_s is None else point.transform_s / point.setting.batch_size


def frames_per_s(point: Point) -> float | None:
    """DeepDetect's: 1 / mean time per image. None where a server of whole milliseconds told 0 each time."""
    seconds = per_image_s(point)
    return round(1 / seconds, 6) if seconds else None


def first_call_s(point: Point) -> float | None:
    """Of the call that found the model cold, or that came first: the client's time, load included."""
    load = point.load
    if load is None or load.first_run_s is None:
        return None
    return (load.load_s or 0.0) + load.first_run_s


def reason(point: Point) -> str:
    """Why there are no figures, or why they are not to be trusted; "" they are."""
    if point.failure is not None:
        return f"{point.failure.kind}: {point.failure.text}"
    return "; ".join(f"{one.text}: {one.cure}" for one in point.reasons)


COLUMNS: dict[str, Callable[[Point], Cell]] = {
    "batch_size": lambda point: point.setting.batch_size,
    "mean processing time": lambda point: milliseconds(mean_s(point)),
    "mean time per img": lambda point: milliseconds(per_image_s(point)),
    "model": lambda point: point.setting.model,
    "device": lambda point: point.setting.device,
    "input": lambda point: point.setting.input,
    "in flight": lambda point: point.setting.in_flight,
    "timed calls": lambda point: point.iterations,
    **_times("processing time", lambda point: point.latency_s),
    "std processing time": lambda point: milliseconds(point.deviation_s),
    "mean transform time": lambda point: milliseconds(point.transform_s),
    "mean transform time per img": lambda point: milliseconds(transform_per_image_s(point)),
    "fps": frames_per_s,
    "mean client time": lambda point: milliseconds(point.client_s.mean if point.client_s else None),
    **_times("client time", lambda point: point.client_s),
    "client cost": lambda point: milliseconds(point.client_cost_s),
    "images per s": lambda point: None if point.images_per_s is None else round(point.images_per_s, 6),
    "first call time": lambda point: milliseconds(first_call_s(point)),
    "first call found": lambda point: point.read_back.get("first_call_found"),
    "creation time": lambda point: milliseconds(point.load.prepare_s if point.load else None),
    "fail": lambda point: point.failure is not None,
    "reason": reason,
}
"""Name in the CSV file's header -> its cell. In JSON the names have _ for spaces. None is an empty cell, or null."""


def write_csv(path: Path, points: Iterable[Point]) -> None:
    """The whole file anew. Raises ResultError."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    rows.writerows([cell(point) for cell in COLUMNS.values()] for point in points)
    _replace(path, text.getvalue().encode())


def write_json(path: Path, points: Iterable[Point]) -> None:
    """The whole file anew. Raises ResultError."""
    rows = [{name.replace(" ", "_"): cell(point) for name, cell in COLUMNS.items()} for point in points]
    _replace(path, msgspec.json.format(msgspec.json.encode(rows)) + b"\n")


def _replace(path: Path, content: bytes) -> None:
    """At once: whoever reads meanwhile, or kills us, has the old file or the new one."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as exc:
        raise ResultError(f"cannot write {path}: {exc.strerror}; name another file") from exc
