"""Figures as other benchmarks define them, computed from our samples and named after them. Pure.

They stand beside the clean figures, never in their place: what they leave out or mix is said with each.
"""

import math
from collections.abc import Sequence
from statistics import fmean, median, pstdev

SIGMAS = 3.0
"""How far from the mean DLI keeps a time, in standard deviations (of the population); both ends are kept."""


def within_three_sigma(times_s: Sequence[float]) -> list[float]:
    """The times that DLI keeps: one pass, mean and deviation of all, both ends included. In their order."""
    if not times_s:
        return []
    mean, deviation = fmean(times_s), pstdev(times_s)
    low, high = mean - SIGMAS * deviation, mean + SIGMAS * deviation
    kept = [time_s for time_s in times_s if low <= time_s <= high]
    return kept or list(times_s)  # all alike: rounding may put each just outside


def dli_latency_mode(times_s: Sequence[float], batch_size: int) -> dict[str, float]:
    """What DLI (Deep Learning Inference benchmark, itlab-vision/dl-benchmark) reports of synchronous iterations.

    As its src/inference/postprocessing_data.py has it: of the times within three sigma, `dli_average_s` is the mean (its
    "average time of a single pass"), `dli_latency_s` the median, `dli_batch_fps` batch size / median. `dli_fps` is batch size x all
    iterations / the sum of the kept times only, so it is too high where times were dropped. Empty without samples.
    """
    kept = within_three_sigma(times_s)
    total = math.fsum(kept)
    if not kept or total <= 0:
        return {}
    return {
        "dli_average_s": total / len(kept),
        "dli_latency_s": median(kept),
        "dli_batch_fps": batch_size / median(kept),
        "dli_fps": batch_size * len(times_s) / total,
    }


def dli_throughput_mode(iterations: int, wall_s: float, batch_size: int) -> dict[str, float]:
    """The same of asynchronous iterations: nothing is filtered, and there is no latency.

    `dli_average_s` is wall time / iterations (not what any of them took), `dli_fps` batch size x iterations / wall time.
    """
    if iterations < 1 or wall_s <= 0:
        return {}
    return {"dli_average_s": wall_s / iterations, "dli_fps": batch_size * iterations / wall_s}


def deepdetect(times_s: Sequence[float], batch_size: int) -> dict[str, float]:
    """What DeepDetect's dd_bench calls the mean time per image: the mean over the passes / batch size, nothing left out.

    Its passes are a server's own times (`head.time`), decoding and resizing included; of an engine in this process they
    are its calls. Empty without samples.
    """
    return {"deepdetect_mean_s_per_image": fmean(times_s) / batch_size} if times_s else {}
