"""The points of a bench as text: one row each, its figures or why it has none."""

import textwrap
from collections.abc import Iterator, Sequence

from dlclient.bench_result import Point

_HEADS = ("ms/image", "p50 ms", "p99 ms", "images/s")
_WIDTH = 100
_SETTINGS = (
    "model",
    "engine",
    "device",
    "precision",
    "threads",
    "affinity",
    "input",
    "question",
    "batch_size",
    "in_flight",
)
_TITLES = {"batch_size": "batch", "in_flight": "in flight"}
_ALWAYS = frozenset({"model", "engine", "question", "batch_size"})
_NOTE = (
    "ms/image: mean time of a batch / its images; of several in flight, wall time / images. p50, p99: of a batch's time. "
    "n/a: too few samples for that percentile."
)


def results_table(points: Sequence[Point]) -> str:
    """A row for each point; columns of settings only where they tell points apart; below, in full, what rows only hint at."""
    names = [name for name in _SETTINGS if name in _ALWAYS or len({_told(point, name) for point in points}) > 1]
    options = list(dict.fromkeys(name for point in points for name in point.setting.options))
    heads = (*(_TITLES.get(name, name) for name in names), *options, *_HEADS, "")
    notes: dict[str, int] = {}
    rows = [
        (
            *(_told(point, name) for name in names),
            *(str(point.setting.options.get(name, "")) for name in options),
            *figures(point),
            "; ".join(_hints(point, notes)),
        )
        for point in points
    ]
    told = [textwrap.fill(f"[{number}] {text}", _WIDTH, subsequent_indent="    ") for text, number in notes.items()]
    if any(point.latency_s is not None for point in points):
        told.append(textwrap.fill(_NOTE, _WIDTH))
    return "\n".join((_aligned(heads, rows, left=len(names) + len(options)), *(("", *told) if told else ()), ""))


def figures(point: Point) -> tuple[str, str, str, str]:
    """Milliseconds per image, p50 and p99 in milliseconds, images per second; "" for what there is not."""
    latency = point.latency_s
    if point.failure is not None or latency is None:
        return ("", "", "", "" if point.images_per_s is None else _digits(point.images_per_s))
    per_image = None if latency.mean is None else latency.mean / point.setting.batch_size
    if point.setting.question == "throughput" and point.images_per_s:
        per_image = 1 / point.images_per_s
    return (
        _milliseconds(per_image),
        _percentile(latency.p50, point.iterations),
        _percentile(latency.p99, point.iterations),
        "" if point.images_per_s is None else _digits(point.images_per_s),
    )


def remark(point: Point) -> str:
    """What else there is to say of a point: why it has no figures, what other questions found, that it is not to be trusted."""
    return "; ".join(f"{text}: {more}" if more else text for text, more in _remarks(point))


def brief(point: Point) -> str:
    """The same for a line of progress: at length only why there are no figures, as the table tells the rest."""
    told = _remarks(point)
    return "; ".join(dict.fromkeys(f"{text}: {more}" if point.failure is not None else text for text, more in told))


def _hints(point: Point, notes: dict[str, int]) -> Iterator[str]:
    """A row's remarks, those that need a sentence by the number of a note."""
    for text, more in _remarks(point):
        yield f"{text} [{notes.setdefault(more, len(notes) + 1)}]" if more else text


def _remarks(point: Point) -> Iterator[tuple[str, str]]:
    """In short, and what there is to say at length."""
    failure = point.failure
    if failure is not None:
        yield f"{failure.kind.upper()} in {failure.stage}", failure.text
        return
    if point.simulated:
        yield "SIMULATED", ""
    yield from ((answer, "") for answer in _answers(point) if answer)
    if point.errors:
        yield f"{point.errors} ERRORS", ""
    yield from (("NOT TO BE TRUSTED", f"{reason.text}: {reason.cure}") for reason in point.reasons)
    yield from (("warning", f"{reason.text}: {reason.cure}") for reason in point.warnings)


def _answers(point: Point) -> Iterator[str]:
    if point.max_batch is not None:
        yield f"largest batch {point.max_batch.largest}"
    if point.accuracy is not None:
        yield f"top-1 {point.accuracy.top1:.1%}, top-5 {point.accuracy.top5:.1%} of {point.accuracy.images}"
    if point.utilization is not None:
        used = {"CPU": point.utilization.cpu, "GPU": point.utilization.gpu}
        yield ", ".join(f"{name} {share:.0%} busy" for name, share in used.items() if share is not None)
    if point.setting.question == "load" and point.load is not None:
        load = point.load
        times = {"prepared in": load.prepare_s, "loaded in": load.load_s, "first inference": load.first_run_s}
        yield ", ".join(f"{name} {_milliseconds(seconds)} ms" for name, seconds in times.items() if seconds is not None)


def _told(point: Point, name: str) -> str:
    setting = point.setting
    if name == "batch_size" and setting.question in ("max-batch", "load"):
        return ""
    if name == "in_flight":
        return _in_flight(point)
    value = getattr(setting, name)
    return "" if value is None else str(value)


def _in_flight(point: Point) -> str:
    """Of throughput; where the engine chose, what it chose."""
    if point.setting.question != "throughput":
        return ""
    return str(point.setting.in_flight or point.read_back.get("in_flight", "best"))


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else _digits(seconds * 1000)


def _percentile(seconds: float | None, samples: int) -> str:
    return f"n/a (n={samples})" if seconds is None else _milliseconds(seconds)


def _digits(value: float) -> str:
    """Four digits, more only before the point."""
    for digits in (3, 2, 1):
        if round(value, digits) < 10 ** (4 - digits):
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Texts to the left, figures to the right; the last column as long as it is."""
    widths = [max(map(len, column)) for column in zip(heads, *(row for row in rows), strict=True)]
    lines = []
    for row in (heads, *rows):
        cells = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))
        ]
        lines.append("  ".join((*cells, row[-1])).rstrip())
    lines.insert(1, "-" * min(max(map(len, lines)), 120))
    return "\n".join(lines)
