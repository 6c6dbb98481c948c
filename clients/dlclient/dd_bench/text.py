"""What dd_bench prints: DeepDetect's lines with what ours adds, and the table of several models. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dlclient.bench_result import Point, Sample
from dlclient.dd_bench.rows import (
    first_call_s,
    frames_per_s,
    mean_s,
    per_image_s,
    reason,
    transform_per_image_s,
)
from dlclient.results import Latency

WIDTH = 120
_FAILED = "x"
_DOUBTFUL = "!"


def number(value: float | None, samples: int | None = None) -> str:
    """Four digits; "n/a" for None, with the number of samples that is too few."""
    if value is None:
        return "n/a" if samples is None else f"n/a (n={samples})"
    for digits in (4, 3, 2, 1):
        if round(abs(value), digits) < 10 ** (4 - digits):
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def passes(point: Point, samples: Iterable[Sample]) -> list[str]:
    """A line for each timed call."""
    size = point.setting.batch_size
    return [
        f"pass {count} / batch size = {size} / processing time = {_ms(sample.server_s)}"
        f" / client time = {_ms(sample.latency_s)}"
        for count, sample in enumerate(samples)
    ]


def row(point: Point, *, with_model: bool) -> list[str]:
    """The line of a batch size, in milliseconds, then one for each thing that is to be known of it."""
    lines = [f">>> {_named(point, with_model)}{' / '.join(f'{name} = {value}' for name, value in _fields(point))}"]
    if point.failure is None:
        told = [*point.reasons, *point.warnings]
        lines += [f"    {one.text}: {one.cure}" for one in told]
    else:
        lines.append(f"    {reason(point)}")
    return lines


def table(points: Sequence[Point]) -> str:
    """Model x batch size: mean milliseconds of the server for an image; x where a batch failed, with the reasons below."""
    models = list(dict.fromkeys(point.setting.model for point in points))
    sizes = sorted({point.setting.batch_size for point in points})
    cells = {(point.setting.model, point.setting.batch_size): _cell(point) for point in points}
    first = max(len(name) for name in (*models, "ms per image"))
    wide = max(8, *(len(cell) for cell in cells.values()))
    per_block = max(1, (WIDTH - first) // (wide + 2))
    blocks = [
        _block(models, sizes[start : start + per_block], cells, first, wide)
        for start in range(0, len(sizes), per_block)
    ]
    return "\n".join(["\n\n".join(blocks), *_reasons(points)])


def _reasons(points: Iterable[Point]) -> Iterator[str]:
    """Of each x and !, equal ones of a model together."""
    batches: dict[tuple[str, str, str], list[int]] = {}
    for point in points:
        if said := reason(point):
            mark = _FAILED if point.failure else _DOUBTFUL
            batches.setdefault((mark, point.setting.model, said), []).append(point.setting.batch_size)
    for (mark, model, said), sizes in batches.items():
        yield f"{mark}  {model}, batch {', '.join(map(str, sizes))}: {said}"


def _block(
    models: Sequence[str], sizes: Sequence[int], cells: Mapping[tuple[str, int], str], first: int, wide: int
) -> str:
    lines = ["  ".join(["ms per image".ljust(first), *(f"batch {size}".rjust(wide) for size in sizes)])]
    lines.append("-" * len(lines[0]))
    lines += [
        "  ".join([model.ljust(first), *(cells.get((model, size), "").rjust(wide) for size in sizes)])
        for model in models
    ]
    return "\n".join(lines)


def _cell(point: Point) -> str:
    if point.failure is not None:
        return _FAILED
    return _ms(per_image_s(point)) + (_DOUBTFUL if point.reasons else "")


def _named(point: Point, with_model: bool) -> str:
    return f"{point.setting.model} / " if with_model else ""


def _fields(point: Point) -> list[tuple[str, str]]:
    """DeepDetect's seven, then ours."""
    calls = point.iterations
    said = [("batch size", str(point.setting.batch_size))]
    if point.failure is not None:
        return [*said, ("fail", "True")]
    said += [
        ("mean processing time", _ms(mean_s(point))),
        ("mean time per image", _ms(per_image_s(point))),
        ("mean transform time", _ms(point.transform_s)),
        ("mean transform time per image", _ms(transform_per_image_s(point))),
        ("fps", number(frames_per_s(point))),
        ("fail", "False"),
        *_percentiles("", point.latency_s, calls),
        ("std", _ms(point.deviation_s)),
        ("mean client time", _ms(point.client_s.mean if point.client_s else None)),
        *_percentiles("client ", point.client_s, calls),
        ("client cost", _ms(point.client_cost_s)),
    ]
    if point.setting.in_flight > 1:
        said += [("in flight", str(point.setting.in_flight)), ("images per s", number(point.images_per_s))]
    first = first_call_s(point)
    if first is not None:
        said.append((f"first call ({point.read_back.get('first_call_found')})", _ms(first)))
    return said


def _percentiles(of: str, figures: Latency | None, samples: int) -> list[tuple[str, str]]:
    """Those that the samples suffice for; the median in any case."""
    if figures is None:
        return []
    median = number(None if figures.p50 is None else figures.p50 * 1000, samples)
    more = ((name, getattr(figures, name)) for name in ("p90", "p99"))
    return [(f"{of}median", median), *((f"{of}{name}", _ms(value)) for name, value in more if value is not None)]


def _ms(seconds: float | None) -> str:
    return number(None if seconds is None else seconds * 1000)
