"""From the samples of a timed part to the figures of a point. Pure."""

from collections.abc import Sequence
from statistics import fmean, median, stdev

import msgspec

from dlclient.bench import compatible
from dlclient.bench.calls import failure_kind
from dlclient.bench.job import Budget
from dlclient.bench.timing import Timed
from dlclient.bench_result import Point, Sample, Setting
from dlclient.errors import PointError
from dlclient.results import Reason
from dlclient.stability import drift
from dlclient.statistics import latency

FAR = 2.0
"""How many times the median an outlier takes to be worth a warning; it is counted in any case."""


def measured(bare: Point, timed: Timed, budget: Budget) -> Point:
    """The point with the figures of its timed part. `bare`: with its setting, scope and all that was known before.

    Where every answer tells the server's own time, `latency_s` is that one, and `client_s` the client's. Raises PointError
    where no iteration was good.
    """
    good = [sample for sample in timed.samples if not sample.error]
    if not good:
        last = timed.samples[-1].error
        raise PointError(
            f"all of {len(timed.samples)} iterations failed, the last one so: {last}", kind=failure_kind(last)
        )
    setting = bare.setting
    by_client = [sample.latency_s for sample in good]
    by_server = [sample.server_s for sample in good if sample.server_s is not None]
    served = len(by_server) == len(good)
    times = by_server if served else by_client
    outliers = _outliers(times)
    transforms = [sample.transform_s for sample in good if sample.transform_s is not None]
    return msgspec.structs.replace(
        bare,
        scope="server" if served else bare.scope,
        iterations=len(good),
        errors=len(timed.samples) - len(good),
        images=len(good) * setting.batch_size,
        wall_s=timed.wall_s,
        images_per_s=len(good) * setting.batch_size / timed.wall_s,
        latency_s=latency(times, intervals=True),
        deviation_s=stdev(times) if len(times) > 1 else None,
        client_s=latency(by_client, intervals=True) if served else None,
        transform_s=fmean(transforms) if transforms else bare.transform_s,
        outliers=len(outliers),
        outlier_largest_s=max(outliers, default=None),
        compatible=_compatible(setting, times, timed.wall_s),
        reasons=(*bare.reasons, *_reasons(timed.samples, len(good))),
        warnings=(*bare.warnings, *_warnings(good, times, outliers, budget)),
    )


def _outliers(times: Sequence[float]) -> list[float]:
    """Those that DLI's filter would drop."""
    kept = compatible.within_three_sigma(times)
    if len(kept) == len(times):
        return []
    low, high = min(kept), max(kept)
    return [time for time in times if not low <= time <= high]


def _compatible(setting: Setting, times: Sequence[float], wall_s: float) -> dict[str, float]:
    if setting.question == "throughput" or setting.in_flight != 1:
        dli = compatible.dli_throughput_mode(len(times), wall_s, setting.batch_size)
    else:
        dli = compatible.dli_latency_mode(times, setting.batch_size)
    return dli | compatible.deepdetect(times, setting.batch_size)


def _reasons(samples: Sequence[Sample], good: int) -> list[Reason]:
    if good == len(samples):
        return []
    errors = [sample.error for sample in samples if sample.error]
    return [
        Reason(
            "errors",
            f"{len(errors)} of {len(samples)} iterations failed, the last one so: {errors[-1]}",
            "repair what failed: figures of what is left are those of another load",
        )
    ]


def _warnings(
    good: Sequence[Sample], times: Sequence[float], outliers: Sequence[float], budget: Budget
) -> list[Reason]:
    found = []
    if len(good) < budget.min_iterations:
        found.append(
            Reason(
                "few-iterations",
                f"there was time for {len(good)} iterations only, of {budget.min_iterations} that were wanted",
                f"raise max_s (now {budget.max_s:g})",
            )
        )
    middle = median(times)
    if outliers and max(outliers) > FAR * middle:
        slowest = times.index(max(outliers))
        found.append(
            Reason(
                "outliers",
                f"{len(outliers)} of {len(times)} iterations are beyond three standard deviations; the slowest, number"
                f" {slowest + 1}, took {times[slowest] * 1e3:.4g} ms, {times[slowest] / middle:.3g} times the median."
                " They are in every figure but DLI's",
                "see what else ran on the machine, and measure again: an outlier that comes back is the engine's own",
            )
        )
    trend = drift([(sample.began_s, time) for sample, time in zip(good, times, strict=True)])
    if trend is not None:
        found.append(
            Reason(
                "drift",
                f"the latency went from about {trend.first_s * 1e3:.4g} to {trend.last_s * 1e3:.4g} ms all through the timed part"
                f" (Kendall's tau {trend.concordance:+.2f}, chance in a steady one {trend.chance:.2g})",
                "warm up longer (warm_up_max_s), or look for what the machine does meanwhile: clocks, heat, other programs",
            )
        )
    return found
