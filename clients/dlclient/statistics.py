"""What the figures of a run mean: percentiles, the sample rule, and summaries of records. Pure functions.

A percentile is the nearest rank of all samples: the smallest sample that at least that fraction of them do not exceed
(numpy calls it "inverted_cdf"). It is always a value that was measured, never one between two. It is given only where
there are enough samples for it to mean something; the floors are in PERCENTILE_FLOORS.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import variance

import msgspec
import numpy as np

from dlclient.intervals import block_length, effective_samples, mean_interval, percentile_interval
from dlclient.results import Interval, Latency, Record, SendLag, Summary

PERCENTILE_FLOORS: Mapping[float, int] = {0.5: 12, 0.9: 64, 0.99: 662, 0.999: 6636}
"""Fraction -> the fewest samples it may be computed from. From p90 on: the fewest for which MLPerf's early stopping can
confirm the percentile with 99 % confidence after dropping one sample (0.9**64 + 64 * 0.1 * 0.9**63 < 0.01)."""


PERCENTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
"""As the fields of a Latency are called."""

BASELINE_FLOOR = 12
"""The fewest warm requests that tell what a cold one took on top of them."""


def nearest_rank(ordered: Sequence[float], fraction: float) -> float:
    """The percentile of samples in ascending order, by nearest rank. `fraction` in (0, 1]."""
    if not ordered:
        raise ValueError("no samples")
    if not 0 < fraction <= 1:
        raise ValueError(f"a fraction above 0 and up to 1 is needed, not {fraction}")
    # 0.99 * 700 is 693.0000000000001 in floating point: without the allowance the rank would be one too high
    return ordered[math.ceil(fraction * len(ordered) - 1e-9) - 1]


def percentile(ordered: Sequence[float], fraction: float) -> float | None:
    """Like nearest_rank, but None where the sample rule forbids it."""
    if len(ordered) < PERCENTILE_FLOORS[fraction]:
        return None
    return nearest_rank(ordered, fraction)


def latency(in_time_order_s: Iterable[float], *, intervals: bool = False) -> Latency:
    """Mean and percentiles of latencies in seconds, and the 95 % confidence intervals of those.

    The intervals allow for requests that were slow together, so the samples must be in the order of their due times.
    """
    samples = list(in_time_order_s)
    ordered = sorted(samples)
    figures = Latency(
        mean=mean(ordered),
        p50=percentile(ordered, 0.5),
        p90=percentile(ordered, 0.9),
        p99=percentile(ordered, 0.99),
        p999=percentile(ordered, 0.999),
        largest=ordered[-1] if ordered else None,
    )
    return msgspec.structs.replace(figures, intervals=_intervals(samples, ordered, figures)) if intervals else figures


def _intervals(samples: Sequence[float], ordered: Sequence[float], figures: Latency) -> dict[str, Interval]:
    """Of every figure that is given, where the samples suffice for an interval too."""
    in_time_order = np.asarray(samples)
    found = {"mean": mean_interval(in_time_order, block=block_length(in_time_order)) if samples else None}
    for name, fraction in PERCENTILES.items():
        value = getattr(figures, name)
        if value is not None:
            worth = effective_samples(in_time_order <= value)
            found[name] = percentile_interval(ordered, fraction, effective=worth)
    return {name: (interval.low, interval.high) for name, interval in found.items() if interval is not None}


def mean(samples: Sequence[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    return math.fsum(samples) / len(samples) if samples else None


def temperatures(records: Iterable[Record]) -> dict[str, int]:
    """Good answers by the temperature that the server found; "unknown" where it does not tell."""
    counts: dict[str, int] = {}
    for record in records:
        if record.ok:
            found = record.cache or "unknown"
            counts[found] = counts.get(found, 0) + 1
    return dict(sorted(counts.items()))


def summarize(
    records: Sequence[Record],
    services: Sequence[str],
    weights_bytes: Mapping[str, int],
    warm: Sequence[Record] = (),
) -> tuple[Summary, dict[str, Summary]]:
    """Total and per-service figures of one phase.

    Latencies leave out the stage `demote` (Record.latency_s), wall times do not.

    `wall_s` of the phase runs from its start to the end of its last request. A service's `wall_s` is its share of that,
    in proportion to the time that users waited for it: the shares add up to the total, and with one user the share is
    just the time spent on that service. `images_per_s` and `wall_s_per_image` (the 2018 figures' definition) follow.

    `warm`: the records of the same run's warm phase, for `load_bytes_per_s`: bytes of weights / (load + forward here -
    load + forward there), by the server's stages. The forward counts because weights that are mapped rather than read
    arrive while it runs; the load stage alone would not be the time. Only requests that ran in a batch of their own are
    compared: a forward that others shared takes longer. With fewer than BASELINE_FLOOR warm ones there is no rate.
    """
    wall_s = max((record.done_s for record in records), default=0.0)
    waited_s = math.fsum(record.waited_s for record in records)
    by_service: dict[str, list[Record]] = {service: [] for service in services}
    for record in records:
        by_service.setdefault(record.model, []).append(record)
    summaries: dict[str, Summary] = {}
    loaded_bytes = extra_s = 0.0
    for service, own in by_service.items():
        share = math.fsum(record.waited_s for record in own) / waited_s if waited_s > 0 else 0.0
        weights = weights_bytes.get(service)
        extra = _extra_s(own, [record for record in warm if record.model == service])
        rate = None
        if weights and extra is not None and extra > 0:
            rate = weights / extra
            loads = sum(_is_cold(record) for record in own)
            loaded_bytes += loads * weights
            extra_s += loads * extra
        summaries[service] = _summary(own, wall_s * share, weights, rate)
    known = [weights_bytes[service] for service in by_service if service in weights_bytes]
    total = _summary(records, wall_s, sum(known) if known else None, loaded_bytes / extra_s if extra_s > 0 else None)
    return total, summaries


def mean_stages(records: Iterable[Record]) -> dict[str, float] | None:
    """Mean seconds of each stage over the answers that tell it; None where none does."""
    times: dict[str, list[float]] = {}
    for record in records:
        for stage, seconds in (record.stages or {}).items():
            times.setdefault(stage, []).append(seconds)
    return {stage: math.fsum(values) / len(values) for stage, values in times.items()} or None


def forward_alone_s(records: Iterable[Record]) -> dict[str, tuple[float, int]]:
    """By service: mean seconds of the stage `forward` over single images that no other shared a batch with, and how many."""
    times: dict[str, list[float]] = {}
    for record in records:
        if _ran_alone(record) and record.images == 1 and record.stages and "forward" in record.stages:
            times.setdefault(record.model, []).append(record.stages["forward"])
    return {service: (math.fsum(values) / len(values), len(values)) for service, values in times.items()}


def _is_cold(record: Record) -> bool:
    return _ran_alone(record) and record.cache is not None and record.cache != "warm"


def _ran_alone(record: Record) -> bool:
    return record.ok and record.batch_size == record.images


def _extra_s(records: Iterable[Record], warm: Iterable[Record]) -> float | None:
    """Mean seconds that a cold request took on top of a warm one; None where too few of either tell.

    Also None where that is less than half of the load stage alone, or than its own standard error: the forwards then differ
    by more than what is sought.
    """
    cold = [record for record in records if _is_cold(record)]
    cold_s = _load_and_forward(cold)
    warm_s = _load_and_forward(record for record in warm if _ran_alone(record) and record.cache == "warm")
    if not cold_s or len(warm_s) < BASELINE_FLOOR:
        return None
    extra_s = math.fsum(cold_s) / len(cold_s) - math.fsum(warm_s) / len(warm_s)
    load_s = math.fsum((record.stages or {}).get("load", 0.0) for record in cold) / len(cold)
    return extra_s if extra_s >= max(load_s / 2, _error_s(cold_s, warm_s)) else None


def _error_s(one: Sequence[float], other: Sequence[float]) -> float:
    """Standard error of the difference of two means; 0 for a mean of fewer than 2, which has none."""
    return math.sqrt(sum(variance(times) / len(times) for times in (one, other) if len(times) > 1))


def _load_and_forward(records: Iterable[Record]) -> list[float]:
    told = [record.stages or {} for record in records]
    return [stages["load"] + stages["forward"] for stages in told if {"load", "forward"} <= stages.keys()]


def _summary(
    records: Sequence[Record], wall_s: float, weights_bytes: int | None, load_bytes_per_s: float | None
) -> Summary:
    good = sorted((record for record in records if record.ok), key=lambda record: record.due_s)
    images = sum(record.images for record in good)
    return Summary(
        requests=len(records),
        errors=len(records) - len(good),
        images=images,
        wall_s=wall_s,
        images_per_s=images / wall_s if images and wall_s > 0 else None,
        wall_s_per_image=wall_s / images if images else None,
        latency_s=latency((record.latency_s for record in good), intervals=True),
        latency_n=len(good),
        service_s=latency((record.service_s for record in good), intervals=True) if good else None,
        first_byte_s=_first_byte(good),
        dropped=sum(record.dropped for record in records),
        new_connections=sum(not record.reused for record in records),
        stages_s=mean_stages(good),
        weights_bytes=weights_bytes,
        load_bytes_per_s=load_bytes_per_s,
        send_lag_s=_send_lag([record.send_lag_s for record in good]),
    )


def _send_lag(samples_s: Sequence[float]) -> SendLag | None:
    if not samples_s:
        return None
    ordered = sorted(samples_s)
    return SendLag(mean=mean(ordered), p99=percentile(ordered, 0.99), p50=percentile(ordered, 0.5), largest=ordered[-1])


def _first_byte(records: Iterable[Record]) -> Latency | None:
    """From the actual send, less the stage `demote`, which comes before anything of an answer."""
    waits = [
        record.first_byte_s - record.sent_s - (record.stages or {}).get("demote", 0.0)
        for record in records
        if record.first_byte_s is not None
    ]
    return latency(waits) if waits else None
