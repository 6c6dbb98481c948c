"""The latency/throughput curve of a target, and its knee. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlload.standing import Figures


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One rate of the latency/throughput curve: all the search's figures at it."""

    rate_per_s: float
    requests: int
    delivered_per_s: float
    mean_s: float
    p50_s: float
    meets: bool | None
    """None: it was not decided."""

    @property
    def kept_up(self) -> bool:
        """Whether the target answered about as many as were offered."""
        return self.delivered_per_s >= 0.95 * self.rate_per_s and math.isfinite(self.mean_s)


def curve_point(rate_per_s: float, figures: Figures, *, meets: bool | None) -> CurvePoint:
    """The point that all figures at one rate make."""
    latencies = figures.latencies("response")
    return CurvePoint(
        rate_per_s=rate_per_s,
        requests=figures.requests,
        delivered_per_s=figures.delivered_per_s,
        mean_s=float(latencies.mean()) if latencies.size else math.nan,
        p50_s=float(np.quantile(latencies, 0.5, method="inverted_cdf")) if latencies.size else math.nan,
        meets=meets,
    )


def knee(points: Sequence[tuple[float, float]], sensitivity: float = 1.0) -> float | None:
    """The rate at the knee of a latency/throughput curve of (rate, latency) points; None where there is none.

    Where the latency turns from level to steep: Kneedle (Satopaa, Albrecht, Irwin and Raghavan, Finding a "Kneedle" in a
    Haystack, ICDCSW 2011), for a rising convex curve, on the points as they are. With both axes scaled to 0..1 it is the
    highest hump of (rate - latency), taken as one if the curve afterwards falls by `sensitivity` mean steps of the rate.
    Scaled to the largest latency, a curve that goes on into overload has its knee later: leave such points out.
    """
    curve = sorted(points)
    if len(curve) < 5:
        return None
    rates, latencies = (np.asarray(axis, dtype=np.float64) for axis in zip(*curve, strict=True))
    if not (np.ptp(rates) > 0 and latencies[-1] > latencies[0] and np.isfinite(latencies).all()):
        return None
    across = (rates - rates[0]) / np.ptp(rates)
    difference = across - (latencies - latencies.min()) / np.ptp(latencies)
    top = int(np.argmax(difference))
    if not 0 < top < len(curve) - 1:
        return None
    # Kneedle's threshold; a hump must also stand out from the straight line itself
    threshold = difference[top] - sensitivity / (len(curve) - 1)
    if difference[top] < 0.1 or difference[top:].min() >= threshold:
        return None
    return float(rates[top])
