"""Which of a server's metrics are kept, and what they say about an interval. Pure: text in, figures out.

Known are dlserve's names, those of DeepDetect's exporter and Triton's `nv_*`, and `process_*` of every Prometheus client.

What it costs (dlserve with 20 services and 8 workers, 6,600 lines, 550 KB, two busy cores of 2026): prometheus_client's
parser on all of it 360 ms, choosing the 240 lines that matter by name 5 to 10 ms, parsing those 15 ms. So lines are chosen
before they are parsed, and both is done in pieces of about a millisecond between which the senders get their turn. A
thread would not help: it holds the interpreter for 5 ms at a time.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from dlclient.timeline import GpuSample, ServerSample
from prometheus_client.parser import text_string_to_metric_families

_GPU_UTILIZATION = ("dlserve_gpu_utilization_ratio", "nv_gpu_utilization")
_GPU_MEMORY = ("dlserve_gpu_memory_used_bytes", "nv_gpu_memory_used_bytes")
_GPU_POWER = ("dlserve_gpu_power_watts", "nv_gpu_power_usage")
_FAILURES = {
    "deepdetect_predict_requests_total": "deepdetect_predict_requests_failure_total",
    "deepdetect_predict_requests": "deepdetect_predict_requests_failure",
}
"""Counters of all calls -> of the failed ones. The second pair: exporters that leave out `_total`."""
_NAMES = (
    "dlserve_worker_in_flight", "dlserve_batch_size_sum", "dlserve_batch_size_count", "dlserve_requests_total",
    "dlserve_cache_requests_total", "dlserve_cache_loads_total", "dlserve_worker_busy_seconds_total",
    "dlserve_worker_restarts_total", *_GPU_UTILIZATION, *_GPU_MEMORY, *_GPU_POWER,
    *_FAILURES.keys(), *_FAILURES.values(), "deepdetect_batch_size_avg",
    "nv_inference_pending_request_count", "nv_inference_count", "nv_inference_exec_count",
    "nv_inference_request_success", "nv_inference_request_failure",
    "process_cpu_seconds_total", "process_start_time_seconds",
)  # fmt: skip
_STARTS = tuple(f"{name}{follows}".encode() for name in _NAMES for follows in "{ ")
QUERY = urlencode([("name[]", name) for name in _NAMES])
"""Asks for these series alone, as the clients of Prometheus for Python and Java understand it; others ignore it."""
SLICE_BYTES = 1 << 16
LINES_AT_ONCE = 20

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """The kept series of one scrape: name -> its values by their labels (pairs in the order of their names)."""

    at: float
    """When it was asked for, on `time.perf_counter`."""
    took_s: float
    series: dict[str, dict[Labels, float]] = field(default_factory=dict)

    def total(self, name: str) -> float | None:
        """Sum over all labels; None where the server does not have it."""
        values = self.series.get(name)
        return None if values is None else sum(values.values())

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums by the values of one label."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in self.series.get(name, {}).items():
            sums[dict(labels).get(label, "")] += value
        return dict(sums)


def slices(text: bytes) -> Iterator[bytes]:
    """An exposition in pieces of whole lines."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + SLICE_BYTES) + 1 or len(text)
        yield text[start:end]
        start = end


def wanted_lines(text: bytes) -> list[bytes]:
    """The lines whose series are kept, in their order."""
    return [line for line in text.split(b"\n") if line.startswith(_STARTS)]


def add_lines(reading: Reading, lines: Sequence[bytes]) -> None:
    """Parse some of the lines into the reading. Raises ValueError where they are not Prometheus's text format."""
    text = b"\n".join(lines).decode("utf-8", "replace") + "\n"
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            reading.series.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value


def difference(before: Reading, after: Reading) -> ServerSample:
    """What two readings say about the time between them. Counters that went back (a restart) count from 0."""
    change = _Change(before, after)
    return ServerSample(
        scrape_s=round(after.took_s, 6),
        in_flight=_either(after.total("dlserve_worker_in_flight"), after.total("nv_inference_pending_request_count")),
        in_flight_by_worker=after.by("dlserve_worker_in_flight", "worker"),
        batch_size=change.batch_size(),
        requests_by_code=change.codes(),
        requests_by_temperature=change.by("dlserve_cache_requests_total", "temperature"),
        loads=change.total("dlserve_cache_loads_total"),
        busy_by_worker=change.shares("dlserve_worker_busy_seconds_total", "worker"),
        cpu_cores=change.per_second("process_cpu_seconds_total"),
        gpus=_gpus(after),
        process_started=after.total("process_start_time_seconds"),
        restarts_by_worker=after.by("dlserve_worker_restarts_total", "worker"),
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """How much counters have grown."""

    before: Reading
    after: Reading

    def total(self, name: str) -> float | None:
        """Over all labels; None where the server does not have the counter."""
        return None if name not in self.after.series else sum(self._grown(name).values())

    def by(self, name: str, label: str) -> dict[str, float]:
        """By the values of one label; what has not grown is left out."""
        sums: dict[str, float] = defaultdict(float)
        for labels, grown in self._grown(name).items():
            sums[dict(labels).get(label, "")] += grown
        return {key: value for key, value in sums.items() if value}

    def _grown(self, name: str) -> dict[Labels, float]:
        old = self.before.series.get(name, {})
        return {
            labels: _growth(old.get(labels, 0.0), value) for labels, value in self.after.series.get(name, {}).items()
        }

    def per_second(self, name: str) -> float | None:
        grown = self.total(name)
        return None if grown is None else round(grown / self._interval_s, 4)

    def shares(self, name: str, label: str) -> dict[str, float]:
        """Seconds per second, the idle ones too."""
        grown = dict.fromkeys(self.after.by(name, label), 0.0) | self.by(name, label)
        return {key: round(seconds / self._interval_s, 4) for key, seconds in grown.items()}

    def batch_size(self) -> float | None:
        for images, forwards in (
            ("dlserve_batch_size_sum", "dlserve_batch_size_count"),
            ("nv_inference_count", "nv_inference_exec_count"),
        ):
            if count := self.total(forwards):
                return round((self.total(images) or 0.0) / count, 4)
        if self.total("dlserve_batch_size_count") is not None:  # DeepDetect's name, beside it, is over all time
            return None
        told = [value for value in self.after.series.get("deepdetect_batch_size_avg", {}).values() if value > 0]
        return sum(told) / len(told) if told else None

    def codes(self) -> dict[str, float]:
        if codes := self.by("dlserve_requests_total", "code"):
            return codes
        if (good := self.total("nv_inference_request_success")) is not None:
            return _without_zeros(ok=good, failed=self.total("nv_inference_request_failure") or 0.0)
        if "dlserve_requests_total" in self.after.series:
            return {}
        for calls, failures in _FAILURES.items():
            if (every := self.total(calls)) is not None:
                failed = self.total(failures) or 0.0
                return _without_zeros(ok=max(every - failed, 0.0), failed=failed)
        return {}

    @property
    def _interval_s(self) -> float:
        return max(self.after.at - self.before.at, 1e-9)


def _gpus(reading: Reading) -> dict[str, GpuSample]:
    """dlserve's are labelled gpu (a number), Triton's gpu_uuid."""
    columns = [_per_gpu(reading, names) for names in (_GPU_UTILIZATION, _GPU_MEMORY, _GPU_POWER)]
    names = sorted(set().union(*columns))
    return {
        name: GpuSample(
            utilization=columns[0].get(name), memory_bytes=columns[1].get(name), power_w=columns[2].get(name)
        )
        for name in names
    }


def _per_gpu(reading: Reading, names: Iterable[str]) -> dict[str, float]:
    return {
        dict(labels).get("gpu") or dict(labels).get("gpu_uuid", ""): value
        for name in names
        for labels, value in reading.series.get(name, {}).items()
    }


def _growth(before: float, after: float) -> float:
    return after - before if after >= before else after


def _either(one: float | None, other: float | None) -> float | None:
    return other if one is None else one


def _without_zeros(**values: float) -> dict[str, float]:
    return {name: value for name, value in values.items() if value}
