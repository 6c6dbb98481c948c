"""What happened while the run went on, as series over one time axis: seconds since its first phase began. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from dlclient.timeline import ClientSample, Sample, ServerSample
from numpy.typing import NDArray

from dlreport.stream.view import PhaseView, StreamView

Array = NDArray[np.float64]
_BINS = 150
"""The throughput is counted in at most so many steps."""
_GAP = 2.5
"""A line is broken where no sample came for so many of its usual intervals."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line. `low` and `high`: the range of what it is the mean of (workers, GPUs), where there are several."""

    label: str
    at_s: Array
    values: Array
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines that share an axis."""

    title: str
    unit: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase on the common axis."""

    phase: PhaseView
    start_s: float
    end_s: float


def stretches(view: StreamView) -> tuple[Stretch, ...]:
    """The phases that began, in order; none where the run does not tell when."""
    begun = [(phase, phase.started_s) for phase in view.phases if phase.started_s is not None and phase.ended_s > 0]
    if not begun:
        return ()
    zero = min(started for _, started in begun)
    return tuple(Stretch(phase, started - zero, started - zero + phase.ended_s) for phase, started in begun)


def panels(view: StreamView) -> tuple[Panel, ...]:
    """Those that there is anything to show in; none of a run without samples."""
    shown = stretches(view)
    if not shown or not view.samples:
        return ()
    zero = shown[0].phase.started_s or 0.0
    end_s = max(one.end_s for one in shown)
    samples = [sample for sample in view.samples if zero <= sample.t_s <= zero + end_s + sample.interval_s]
    client, server = _client(samples, zero), _server(samples, zero)
    made = (
        Panel("throughput", "images/s", _throughput(shown, end_s)),
        Panel("in flight at the server", "requests", server("", lambda one: _alone(one.in_flight))),
        Panel("images per forward", "mean", server("", lambda one: _alone(one.batch_size))),
        Panel("weights loaded", "times/s", _loads(samples, zero)),
        Panel("workers busy", "%", _spread("mean and range of the workers", server("", _percent_busy))),
        Panel(
            "CPU",
            "cores",
            (
                *client("load generator", lambda one: one.cpu_cores),
                *server("server's front end", lambda one: _alone(one.cpu_cores)),
            ),
        ),
        Panel("event loop of the load generator", "ms late, p99", client("", _milliseconds_late)),
        Panel("GPU utilization", "%", _spread("mean and range of the GPUs", server("", _percent_gpu))),
        Panel("GPU memory in use", "GB", server("", _gigabytes)),
        Panel("GPU power", "W", server("", lambda one: _sum([gpu.power_w for gpu in one.gpus.values()]))),
    )
    kept = tuple(panel for panel in made if any(series.values.size > 1 for series in panel.series))
    return kept if len(kept) > 1 else ()


def _throughput(shown: Sequence[Stretch], end_s: float) -> tuple[Series, ...]:
    """Good answers by when they came, over all phases; nothing is sent between them."""
    width_s = max(end_s / _BINS, 1.0) if end_s > 20 else max(end_s / 20, 1e-3)
    edges = np.arange(0.0, end_s + width_s, width_s)
    counts = np.zeros(edges.size - 1)
    for one in shown:
        counts += np.histogram(one.phase.good_done_s + one.start_s, edges, weights=one.phase.good_images)[0]
    widths = np.minimum(edges[1:], end_s) - edges[:-1]
    keep = widths > width_s / 2  # the last step may be too short to say anything
    return (Series("", (edges[:-1] + widths / 2)[keep], (counts / np.maximum(widths, 1e-9))[keep]),)


def _client(
    samples: Sequence[Sample], zero: float
) -> Callable[[str, Callable[[ClientSample], float | None]], tuple[Series, ...]]:
    """Of several processes the highest value at each moment of the first one's samples."""

    def series(label: str, value_of: Callable[[ClientSample], float | None]) -> tuple[Series, ...]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for sample in samples:
            if sample.client is not None and (value := value_of(sample.client)) is not None:
                lines.setdefault(sample.source, []).append((sample.t_s - sample.interval_s / 2 - zero, value))
        if not lines:
            return ()
        (first, *others) = [np.array(points) for points in lines.values()]
        highest = first[:, 1]
        for other in others:
            highest = np.maximum(highest, np.interp(first[:, 0], other[:, 0], other[:, 1]))
        text = f"{label}, highest of {len(lines)} processes".lstrip(", ") if others else label
        return (_unbroken(Series(text, first[:, 0], highest)),)

    return series


def _server(
    samples: Sequence[Sample], zero: float
) -> Callable[[str, Callable[[ServerSample], Sequence[float]]], tuple[Series, ...]]:
    """The mean of the values, with their range where there are several."""

    def series(label: str, values_of: Callable[[ServerSample], Sequence[float]]) -> tuple[Series, ...]:
        rows = [
            (sample.t_s - sample.interval_s / 2 - zero, values)
            for sample in samples
            if sample.server is not None and (values := values_of(sample.server))
        ]
        if not rows:
            return ()
        several = any(len(values) > 1 for _, values in rows)
        at_s = np.array([at for at, _ in rows])
        mean = np.array([np.mean(values) for _, values in rows])
        low = np.array([min(values) for _, values in rows]) if several else None
        high = np.array([max(values) for _, values in rows]) if several else None
        return (_unbroken(Series(label, at_s, mean, low, high)),)

    return series


def _spread(label: str, series: tuple[Series, ...]) -> tuple[Series, ...]:
    """Say that a line is a mean, where it is one of several."""
    return tuple(one if one.low is None else replace(one, label=label) for one in series)


def _loads(samples: Sequence[Sample], zero: float) -> tuple[Series, ...]:
    """Times per second; nothing where no weights moved at all."""
    told = [
        (sample.t_s - sample.interval_s / 2 - zero, sample.server.loads / sample.interval_s)
        for sample in samples
        if sample.server is not None and sample.server.loads is not None and sample.interval_s > 0
    ]
    if not any(rate for _, rate in told):
        return ()
    points = np.array(told)
    return (_unbroken(Series("", points[:, 0], points[:, 1])),)


def _unbroken(series: Series) -> Series:
    """With a hole (not a number) wherever samples are missing, so that no line is drawn across it."""
    gaps = np.diff(series.at_s)
    if not gaps.size:
        return series
    holes = np.flatnonzero(gaps > _GAP * np.median(gaps)) + 1

    def broken(values: Array | None) -> Array | None:
        return None if values is None else np.insert(values, holes, np.nan)

    at_s = np.insert(series.at_s, holes, series.at_s[holes - 1])
    return Series(series.label, at_s, np.insert(series.values, holes, np.nan), broken(series.low), broken(series.high))


def _alone(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _sum(values: Sequence[float | None]) -> list[float]:
    told = [value for value in values if value is not None]
    return [sum(told)] if told else []


def _percent_busy(server: ServerSample) -> list[float]:
    return [100 * share for share in server.busy_by_worker.values()]


def _percent_gpu(server: ServerSample) -> list[float]:
    return [100 * gpu.utilization for gpu in server.gpus.values() if gpu.utilization is not None]


def _gigabytes(server: ServerSample) -> list[float]:
    return [size / 1e9 for size in _sum([gpu.memory_bytes for gpu in server.gpus.values()])]


def _milliseconds_late(client: ClientSample) -> float | None:
    return None if client.loop_delay_p99_s is None else 1e3 * client.loop_delay_p99_s
