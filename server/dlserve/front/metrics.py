"""The one owner of Prometheus metrics: plain counts while serving, turned into metric families when scraped.

One thread owns them, so there are no locks on the way of a request; prometheus-client does the exposition.
"""

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import reduce
from itertools import accumulate

import psutil
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from dlserve import hardware
from dlserve.front.dispatch import Counts
from dlserve.front.pool import Worker
from dlserve.front.prefetching import OUTCOMES, Hints
from dlserve.front.services import Registry, Service
from dlserve.front.statistics import Histogram, Served
from dlserve.front.tally import Tally, joined, statistics_of
from dlserve.messages import Evicted, Loaded


class Metrics(Collector):
    """Counts what happens; `expose` renders it for Prometheus."""

    def __init__(
        self,
        workers: Sequence[Worker],
        registry: Registry,
        counts: Counts,
        hints: Hints,
        gpus: Callable[[], tuple[hardware.Gpu, ...]],
        front_deaths: Callable[[], Sequence[int]],
    ) -> None:
        """`front_deaths`: of each front end, how many of its processes have died."""
        self._workers = workers
        self._services = registry
        self._counts = counts
        self._hints = hints
        self._gpus = gpus
        self._front_deaths = front_deaths
        self._served = registry.served
        self._loads: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0, 0.0, 0])
        self._stagings: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0, 0.0, 0])
        self._evictions: dict[tuple[str, ...], int] = defaultdict(int)
        self._rejected: Counter[str] = Counter()
        self._exposition = CollectorRegistry()
        self._exposition.register(self)
        self._process = ProcessCollector(registry=self._exposition)
        self._others: Sequence[Tally] = ()

    # ---- counting

    def rejected(self, reason: str) -> None:
        """A call was turned away before it reached a worker."""
        self._rejected[reason] += 1

    def moved(self, worker: int, service: Service | None, event: Loaded | Evicted) -> None:
        """Weights came into a worker's tier or left it."""
        name = service.name if service else "(deleted)"
        if isinstance(event, Evicted):
            self._evictions[str(worker), name, event.reason, event.tier] += 1
            return
        if event.tier == "host":
            loads = self._stagings[str(worker), name]
        else:
            loads = self._loads[str(worker), name, event.source]
        loads[0] += 1
        loads[1] += event.seconds
        loads[2] += event.bytes

    # ---- several front ends

    def tally(self) -> Tally:
        """All that this front end has counted, for the others."""
        services = (*self._services, *self._services.unloaded)
        return Tally(
            served={name: served.plain() for name, served in self._served.items() if served.settled().codes},
            counts=[
                self._loads,
                self._stagings,
                {key: [times] for key, times in self._evictions.items()},
                {(reason,): [times] for reason, times in self._rejected.items()},
                {(name,): [times] for name, times in asdict(self._counts).items()},
                {key: [times] for key, times in self._hints.outcomes.items()},
                {(name,): [times] for name, times in self._hints.used.items()},
            ],
            statistics={service.lineage: service.settled() for service in services},
            process={sample.name: sample.value for family in self._process.collect() for sample in family.samples},
        )

    def become_sum_of(self, tallies: Sequence[Tally], others: Sequence[Tally]) -> None:
        """Forget what was counted here, and tell the sums of `tallies`; `others`: those of other front ends."""
        total = reduce(joined, tallies)
        self._loads, self._stagings, *counts = total.counts
        evictions, rejected, calls, outcomes, used = (
            {key: int(times) for key, (times,) in each.items()} for each in counts
        )
        self._served = {name: Served.of(plain) for name, plain in total.served.items()}
        self._evictions = evictions
        self._rejected = Counter({reason: times for (reason,), times in rejected.items()})
        self._counts = Counts(**{name: times for (name,), times in calls.items()})
        self._hints = Hints(
            Counter({(name, outcome): times for (name, outcome), times in outcomes.items()}),
            Counter({name: times for (name,), times in used.items()}),
        )
        self._others = others

    # ---- exposing

    def expose(self, names: frozenset[str] = frozenset(), others: Sequence[Tally] = ()) -> bytes:
        """The metrics in Prometheus's text format; of `names`, if there are any, the samples of these names alone.

        With many services most of the work is in the histograms of the stages: whoever scrapes often leaves them out.
        `others`: what other front ends have counted; sums are told then.
        """
        if not names and not others:
            return generate_latest(self._exposition)
        told = self
        if others:
            told = copy.copy(self)
            told.become_sum_of((self.tally(), *others), others)
        chosen = CollectorRegistry()
        chosen.register(_Chosen(told, names))
        return generate_latest(chosen)

    def choose(self, names: frozenset[str]) -> Iterator[Metric]:
        """Families with samples of these names, and no others in them; all, where there are no names."""
        families = (
            *self._collect_calls(names),
            *self._collect_cache(),
            *self._collect_workers(),
            *self._collect_gpus(),
            *self._collect_deepdetect(),
            *self._collect_process(),
        )
        for family in families:
            if names:
                family.samples = [sample for sample in family.samples if sample.name in names]
            if family.samples or not names:
                yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All families, made afresh."""
        yield from self._collect_calls()
        yield from self._collect_cache()
        yield from self._collect_workers()
        yield from self._collect_gpus()
        yield from self._collect_deepdetect()

    def _collect_calls(self, names: frozenset[str] = frozenset()) -> Iterator[Metric]:
        """`names`: histograms of which none is among them stay empty; without any, all are filled."""
        wants_call, wants_stages = (
            not names or any(name.startswith(start) for name in names)
            for start in ("dlserve_request_seconds", "dlserve_stage_seconds")
        )
        codes = _counter("dlserve_requests", "Predict calls answered, by HTTP status", "service", "code")
        images = _counter("dlserve_images", "Images classified", "service")
        call = HistogramMetricFamily(
            "dlserve_request_seconds", "From the first byte read of a predict call to its answer", labels=["service"]
        )
        stage = HistogramMetricFamily(
            "dlserve_stage_seconds", "Where the time of answered calls went", labels=["service", "stage"]
        )
        batch = HistogramMetricFamily(
            "dlserve_batch_size", "Images in the forward that answered a call", labels=["service"]
        )
        prediction = HistogramMetricFamily(
            "dlserve_prediction_error_ratio",
            "How far the balancer was off: |predicted - actual| / actual of a call's time in its worker",
            labels=["service"],
        )
        cache = _counter("dlserve_cache_requests", "Calls by where they found the weights", "service", "temperature")
        for name, served in self._served.items():
            if not served.settled().codes:
                continue  # none of that name was ever asked
            for code, count in served.codes.items():
                codes.add_metric([name, str(code)], count)
            images.add_metric([name], served.images)
            if wants_call:
                _fill(call, [name], served.call_s)
            _fill(batch, [name], served.batch_size)
            _fill(prediction, [name], served.prediction)
            for key, histogram in served.stages.items() if wants_stages else ():
                _fill(stage, [name, key], histogram)
            for temperature, count in served.cache.items():
                cache.add_metric([name, temperature], count)
        retries = _counter("dlserve_retries", "Calls sent to a second worker because the first died")
        retries.add_metric([], self._counts.retries)
        cancelled = _counter("dlserve_cancelled", "Calls dropped because their client had left")
        cancelled.add_metric([], self._counts.cancelled)
        expired = _counter("dlserve_expired", "Calls dropped because their deadline passed before they ran")
        expired.add_metric([], self._counts.expired)
        late = _counter("dlserve_late", "Calls answered after their deadline")
        late.add_metric([], self._counts.late)
        rejected = _counter("dlserve_rejected", "Calls turned away before they reached a worker", "reason")
        for reason in sorted({"queue_full", "body_bytes", "deadline", *self._rejected}):
            rejected.add_metric([reason], self._rejected[reason])
        services = GaugeMetricFamily("dlserve_services", "Services that exist", value=len(self._services))
        yield from (codes, images, call, stage, batch, prediction, cache)
        yield from (retries, cancelled, expired, late, rejected, services)

    def _collect_cache(self) -> Iterator[Metric]:
        labels = ("worker", "service", "source")
        loads = _counter("dlserve_cache_loads", "Times a model's weights were brought onto a device", *labels)
        seconds = _counter("dlserve_cache_load_seconds", "Time that took", *labels)
        read = _counter("dlserve_cache_load_bytes", "Bytes of weights brought", *labels)
        for key, (count, load_s, size) in self._loads.items():
            loads.add_metric(key, count)
            seconds.add_metric(key, load_s)
            read.add_metric(key, size)
        evictions = _counter(
            "dlserve_cache_evictions", "Times a model's weights left a tier", "worker", "service", "reason", "tier"
        )
        for moved, times in self._evictions.items():
            evictions.add_metric(moved, times)
        yield from (loads, seconds, read, evictions, *self._collect_stagings(), *self._collect_prefetches())

    def _collect_stagings(self) -> Iterator[Metric]:
        labels = ("worker", "service")
        stagings = _counter("dlserve_cache_stagings", "Times a model's weights were read into the host tier", *labels)
        seconds = _counter("dlserve_cache_staging_seconds", "Time that took", *labels)
        read = _counter("dlserve_cache_staging_bytes", "Bytes of weights read", *labels)
        for key, (count, stage_s, size) in self._stagings.items():
            stagings.add_metric(key, count)
            seconds.add_metric(key, stage_s)
            read.add_metric(key, size)
        yield from (stagings, seconds, read)

    def _collect_prefetches(self) -> Iterator[Metric]:
        hints = _counter("dlserve_prefetches", "Hints to load a hot model on an idle worker", "service", "outcome")
        used = _counter("dlserve_prefetches_used", "Prefetched models that a call has used since", "service")
        for service in self._services:
            for outcome in OUTCOMES:
                hints.add_metric([service.name, outcome], self._hints.outcomes[service.name, outcome])
            used.add_metric([service.name], self._hints.used[service.name])
        yield from (hints, used)

    def _collect_workers(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("dlserve_worker_up", "1 if the worker takes requests", labels=["worker"])
        flying = GaugeMetricFamily(
            "dlserve_worker_in_flight", "Calls sent to the worker and not answered", labels=["worker"]
        )
        restarts = _counter("dlserve_worker_restarts", "Times the worker's process was replaced", "worker")
        busy = _counter("dlserve_worker_busy_seconds", "Time spent loading and running models", "worker")
        used = GaugeMetricFamily("dlserve_cache_used_bytes", "Weights on the worker's device", labels=["worker"])
        budget = GaugeMetricFamily("dlserve_cache_budget_bytes", "Weights that it may hold", labels=["worker"])
        host_used = GaugeMetricFamily(
            "dlserve_cache_host_used_bytes", "Weights in the worker's pinned host memory", labels=["worker"]
        )
        host_budget = GaugeMetricFamily(
            "dlserve_cache_host_budget_bytes", "Weights that it may hold", labels=["worker"]
        )
        resident = GaugeMetricFamily(
            "dlserve_worker_resident_memory_bytes", "Memory of the worker's process", labels=["worker"]
        )
        served = [one.settled() for one in self._served.values()]
        for worker in self._workers:
            label = [str(worker.view.index)]
            up.add_metric(label, int(worker.ready))
            flying.add_metric(label, worker.view.in_flight)
            restarts.add_metric(label, worker.restarts)
            parts = (one.busy_s.get(worker.view.index, 0.0) for one in served)
            busy.add_metric(label, math.fsum(parts))  # so that it never falls, whatever their order
            if worker.hello is not None and worker.link is not None:
                used.add_metric(label, worker.used_bytes)
                budget.add_metric(label, worker.hello.budget_bytes)
                host_used.add_metric(label, worker.host_used_bytes)
                host_budget.add_metric(label, worker.hello.host_bytes)
                resident.add_metric(label, _resident_bytes(worker.hello.pid))
        fronts = _counter("dlserve_front_end_restarts", "Times the front end's process was replaced", "front_end")
        for place, deaths in enumerate(self._front_deaths()):
            fronts.add_metric([str(place)], deaths)
        yield from (up, flying, restarts, busy, used, budget, host_used, host_budget, resident, fronts)

    def _collect_gpus(self) -> Iterator[Metric]:
        used = GaugeMetricFamily("dlserve_gpu_memory_used_bytes", "Memory in use on the GPU, by NVML", labels=["gpu"])
        total = GaugeMetricFamily("dlserve_gpu_memory_total_bytes", "Memory of the GPU, by NVML", labels=["gpu"])
        busy = GaugeMetricFamily(
            "dlserve_gpu_utilization_ratio", "Share of time in which a kernel ran, by NVML", labels=["gpu"]
        )
        power = GaugeMetricFamily("dlserve_gpu_power_watts", "Power drawn by the GPU, by NVML", labels=["gpu"])
        for gpu in self._gpus():
            label = [str(gpu.index)]
            used.add_metric(label, gpu.used_bytes)
            total.add_metric(label, gpu.total_bytes)
            if gpu.utilization is not None:
                busy.add_metric(label, gpu.utilization)
            if gpu.power_w is not None:
                power.add_metric(label, gpu.power_w)
        yield from (used, total, busy, power)

    def _collect_deepdetect(self) -> Iterator[Metric]:
        """The names of DeepDetect's exporter dashboard."""
        labels = ("service_name", "ml_type")
        calls = _counter("deepdetect_predict_requests", "Predict calls", *labels)
        failures = _counter("deepdetect_predict_requests_failure", "Predict calls that failed", *labels)
        predict = _counter("deepdetect_predict_duration_seconds", "Time in predict calls", *labels)
        transform = _counter("deepdetect_transform_duration_seconds", "Time decoding and resizing", *labels)
        batch = GaugeMetricFamily("deepdetect_batch_size_avg", "Images per predict call", labels=list(labels))
        for service in self._services:
            label, totals = [service.name, "classification"], statistics_of(service, self._others)
            count = totals.success + totals.failure
            calls.add_metric(label, count)
            failures.add_metric(label, totals.failure)
            predict.add_metric(label, totals.predict_s)
            transform.add_metric(label, totals.transform_s)
            batch.add_metric(label, totals.images / count if count else 0)
        yield from (calls, failures, predict, transform, batch)

    def _collect_process(self) -> Iterator[Metric]:
        """Of the front ends' processes together; they began when the first of them did."""
        for family in self._process.collect():
            told = family.samples[0]
            values = [told.value, *(tally.process[told.name] for tally in self._others if told.name in tally.process)]
            if told.name == "process_start_time_seconds":
                family.samples = [told._replace(value=min(values))]
            elif told.name != "process_max_fds":
                family.samples = [told._replace(value=sum(values))]
            yield family


class _Chosen(Collector):
    """Some of the metrics, for one scrape."""

    def __init__(self, metrics: Metrics, names: frozenset[str]) -> None:
        self._metrics = metrics
        self._names = names

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Them."""
        yield from self._metrics.choose(self._names)


def _fill(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    """Add it in Prometheus's form: how many were at most each bound."""
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    family.add_metric(labels, list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True)), histogram.total)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=labels)


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
