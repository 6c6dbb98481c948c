"""Whether a phase was steady: windows of its samples, agreement of the last ones, and drift. Pure functions.

A queue that is offered more than it can serve grows for as long as it is asked: its latencies have no mean or percentile, only
a length of run at which somebody stopped looking. Such a phase must not give a figure, and neither must one that still warms up.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from dlclient.results import Reason

AGREEING = 3
"""How many windows must agree: as in Triton's perf_analyzer."""

DRIFT_WINDOWS = 20
"""How many windows `drift` divides a phase into."""

FEWEST_IN_WINDOW = 5
"""Fewer samples than this have no median worth comparing."""

CHANCE = 0.001
"""Of a trend test: how often pure noise may show as strong a trend (both directions together)."""

SMALLEST_CHANGE = 0.10
"""A drift by a smaller part of the median, over the whole phase, is not worth a word."""


@dataclass(frozen=True, slots=True)
class Window:
    """The samples that were due in [start_s, end_s)."""

    start_s: float
    end_s: float
    count: int
    mean_s: float | None
    """None: no sample was due in it."""
    median_s: float | None

    @property
    def rate_per_s(self) -> float:
        """Samples per second."""
        return self.count / (self.end_s - self.start_s)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far apart the last windows are. Spreads: the largest distance from their mean, as a part of it."""

    agree: bool
    latency_spread: float
    """Of the windows' means; infinite where they cannot be compared."""
    rate_spread: float


@dataclass(frozen=True, slots=True)
class Drift:
    """A latency that rose or fell all through a phase."""

    first_s: float
    """Where the line through the windows' medians begins, and where it ends."""
    last_s: float
    median_s: float
    """Of the windows' medians."""
    concordance: float
    """Kendall's tau: 1 where each window was slower than all before it, -1 where each was faster."""
    chance: float
    """That a steady phase shows as strong a trend."""

    @property
    def grows(self) -> bool:
        """Whether it got slower."""
        return self.last_s > self.first_s

    def reason(self, phase: str) -> Reason:
        """The finding as a reason of the verdict."""
        way, cure = (
            ("rose", "the server is offered more than it can serve: lower --rate, or look for what gets slower")
            if self.grows
            else ("fell", "the phase began before the server was warm: give it more --warmup")
        )
        text = (
            f"{phase}: latency {way} all through the phase, from about {self.first_s * 1e3:.1f} to {self.last_s * 1e3:.1f} ms"
            f" (Kendall's tau {self.concordance:+.2f}, chance in a steady phase {self.chance:.2g})"
        )
        return Reason("unstable-windows", text, cure)


def windows(samples: Iterable[tuple[float, float]], count: int, start_s: float, end_s: float) -> tuple[Window, ...]:
    """`count` equal windows of (due time, latency) pairs between start_s and end_s; what was due elsewhere is left out."""
    if count < 1 or not end_s > start_s:
        raise ValueError(f"no {count} windows fit between {start_s} and {end_s} s")
    width_s = (end_s - start_s) / count
    latencies: list[list[float]] = [[] for _ in range(count)]
    for due_s, latency_s in samples:
        if start_s <= due_s < end_s:
            latencies[min(int((due_s - start_s) / width_s), count - 1)].append(latency_s)
    return tuple(
        Window(
            start_s=start_s + index * width_s,
            end_s=start_s + (index + 1) * width_s,
            count=len(own),
            mean_s=fmean(own) if own else None,
            median_s=median(own) if own else None,
        )
        for index, own in enumerate(latencies)
    )


def agree(windows: Sequence[Window], tolerance: float = 0.10, *, latest: int = AGREEING) -> Agreement:
    """Whether the latest windows' mean latencies, and their rates, are each within the tolerance of their own mean.

    perf_analyzer's rule. Means, because a mix of fast and slow models has a median that jumps from one to the other with the
    smallest change of the mix. The rate counts too, since in a closed loop a server that speeds up shows there first. Under
    Poisson arrivals a window of n requests has a rate that is 1 / sqrt(n) off: 10 % is asked of windows of several hundred.
    """
    if len(windows) < latest:
        return Agreement(agree=False, latency_spread=math.inf, rate_spread=math.inf)
    last = windows[-latest:]
    means = [window.mean_s for window in last]
    latency = _spread([mean for mean in means if mean is not None]) if None not in means else math.inf
    rate = _spread([window.rate_per_s for window in last])
    return Agreement(latency <= tolerance and rate <= tolerance, latency, rate)


def drift(
    samples: Sequence[tuple[float, float]], *, windows_of_phase: int = DRIFT_WINDOWS, least_s: float = 0.0
) -> Drift | None:
    """The trend of a phase's (due time, latency) pairs; None where it is steady, or too short to tell.

    The Mann-Kendall test (Mann 1945; Kendall 1975) on the medians of windows of equal numbers of requests, in the order of due
    time: it asks only whether later windows tend to be slower, whatever the shape of the latencies, and windows rather
    than single requests because neighbours in a queue are slow together. The change is Theil and Sen's line (Sen
    1968). Both must speak: a trend that noise shows once in a thousand phases, and a change of at least a tenth of the median
    and of `least_s`, what the clock itself may be wrong by.
    """
    ordered = [latency_s for _, latency_s in sorted(samples)]
    count = min(windows_of_phase, len(ordered) // FEWEST_IN_WINDOW)
    if count < 8:  # a perfect order of fewer is not rare enough
        return None
    bounds = [index * len(ordered) // count for index in range(count + 1)]
    medians = [median(ordered[start:end]) for start, end in pairwise(bounds)]
    concordance, chance = _mann_kendall(medians)
    slope = median((medians[j] - medians[i]) / (j - i) for j in range(count) for i in range(j))
    middle = median(medians)
    change = slope * (count - 1)
    if chance > CHANCE or abs(change) < max(SMALLEST_CHANGE * middle, least_s):
        return None
    return Drift(max(0.0, middle - change / 2), max(0.0, middle + change / 2), middle, concordance, chance)


def _spread(values: Sequence[float]) -> float:
    """Largest distance from the mean, as a part of it; infinite where the mean is 0."""
    mean = fmean(values)
    return max(abs(value - mean) for value in values) / mean if mean > 0 else math.inf


def _mann_kendall(values: Sequence[float]) -> tuple[float, float]:
    """Kendall's tau against time, and the two-sided chance of it without a trend (normal, corrected for continuity and ties)."""
    count = len(values)
    score = sum((values[j] > values[i]) - (values[j] < values[i]) for j in range(count) for i in range(j))
    ties = [values.count(value) for value in set(values)]
    variance = (count * (count - 1) * (2 * count + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    if variance <= 0:
        return 0.0, 1.0
    distance = max(abs(score) - 1, 0) / math.sqrt(variance)
    return score / (count * (count - 1) / 2), math.erfc(distance / math.sqrt(2))
