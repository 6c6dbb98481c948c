"""A point out of its samples: the server's times, the client's beside them, and DeepDetect's own figure. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pstdev, stdev

from dlclient.bench_result import Failure, Load, Point, Sample, Setting, Warming
from dlclient.results import Reason
from dlclient.statistics import latency, mean

DEEPDETECT_FIGURE = "deepdetect_mean_s_per_image"
"""Mean of head.time over the passes / batch size: what DeepDetect's dd_bench calls the mean time per image."""
_OUTLIER_DEVIATIONS = 3
_WHOLE_MS_MATTERS_BELOW = 0.05
"""A time in whole milliseconds is up to 1 ms too short: said where that may be more than this part of it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was noticed in a point's timed calls and around them."""

    colder: int = 0
    """Calls whose model was not in the device's memory."""
    largest_part: int | None = None
    """Of a dlserve: images of the largest forward; None: not told."""
    others: bool = False
    """Whether somebody else used the service meanwhile."""
    elsewhere: bool = False
    """Whether a GPU was asked for, and the service says that it was not created for one."""
    one_by_one: bool = False
    """Whether the server is known to run one image at a time unless told otherwise, and was not."""


def point_of(
    setting: Setting,
    samples: Sequence[Sample],
    *,
    seen: Seen,
    transform_s: float | None,
    load: Load | None,
    warming: Warming,
    client_cost_s: float | None,
) -> Point:
    """All figures of a point that was measured; `started`, `seconds` and what the server tells are filled in by the caller.

    `samples` are all good, in the order in which they began; `transform_s`: seconds of a call, on average.
    """
    server = [sample.server_s for sample in samples if sample.server_s is not None]
    wall_s = max(sample.began_s + sample.latency_s for sample in samples)
    images = setting.batch_size * len(samples)
    average = math.fsum(server) / len(server)
    deviation = stdev(server) if len(server) > 1 else None
    far = [one for one in server if abs(one - average) > _OUTLIER_DEVIATIONS * pstdev(server, average)]
    return Point(
        id=setting.id,
        setting=setting,
        started="",
        seconds=0.0,
        scope="server",
        load=load,
        warming=warming,
        iterations=len(samples),
        images=images,
        wall_s=wall_s,
        images_per_s=images / wall_s,
        latency_s=latency(server, intervals=True),
        deviation_s=deviation,
        client_s=latency((sample.latency_s for sample in samples), intervals=True),
        client_cost_s=client_cost_s,
        transform_s=transform_s,
        outliers=len(far),
        outlier_largest_s=max(far, default=None),
        compatible={DEEPDETECT_FIGURE: average / setting.batch_size},
        reasons=_reasons(len(samples), seen),
        warnings=_warnings(setting, server, seen),
    )


def failed_point(setting: Setting, failure: Failure) -> Point:
    """A row with its reason."""
    return Point(id=setting.id, setting=setting, started="", seconds=0.0, scope="server", failure=failure)


def _reasons(calls: int, seen: Seen) -> tuple[Reason, ...]:
    found = []
    if seen.colder:
        found.append(
            Reason(
                "cold-calls",
                f"{seen.colder} of {calls} timed calls found the model not in the device's memory",
                "give the server room for it (--cache-mb), or more --warm-up",
            )
        )
    if seen.elsewhere:
        found.append(
            Reason(
                "elsewhere",
                "the service was created for the CPU, where DeepDetect's torch then stays, whatever a call says of a GPU",
                "have it created with --create DIR --gpu, or leave --gpu out",
            )
        )
    return tuple(found)


def _warnings(setting: Setting, server: Sequence[float], seen: Seen) -> tuple[Reason, ...]:
    found = []
    average = mean(server) or 0.0
    if all(round(one * 1000, 6).is_integer() for one in server) and average < 0.001 / _WHOLE_MS_MATTERS_BELOW:
        found.append(
            Reason(
                "whole-milliseconds",
                f"the server tells its time in whole milliseconds, cut off: up to 1 ms of {average * 1000:.3g} is missing",
                "read the client's time beside it, or take larger batches",
            )
        )
    if seen.largest_part is not None and seen.largest_part < setting.batch_size:
        found.append(
            Reason(
                "in-parts",
                f"the server ran at most {seen.largest_part} of {setting.batch_size} images at once",
                "see its log; the batch did not fit, or the network takes no more",
            )
        )
    if seen.one_by_one and setting.batch_size > 1:
        found.append(
            Reason(
                "one-by-one",
                "DeepDetect's torch runs the images of a call one by one unless it is told otherwise",
                "send --test-batch-size 0 to have them run as one batch",
            )
        )
    if seen.others:
        found.append(
            Reason(
                "others",
                "the service answered other calls meanwhile, so the transform time is left out and the others may be longer",
                "measure a server that nobody else uses",
            )
        )
    return tuple(found)
