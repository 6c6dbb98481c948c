"""How a figure of B stands to the same figure of A, with a 95 % interval of their ratio. Pure; equal samples give equal answers.

**Two runs that have nothing in common** (every percentile, and the mean of runs by different plans). Each side's own interval
is computed from its raw samples: of a percentile between two of its order statistics, of the mean by the bootstrap-t over
stretches of `block_length` samples; both allow for requests that were slow together (dlclient.intervals). The interval of the
ratio follows from those two by MOVER, the method of variance estimates recovery (Zou and Donner, Construction of confidence limits
about effect measures, Statistics in Medicine 27, 2008; Newcombe, Interval estimation for the difference between independent
proportions, Statistics in Medicine 17, 1998), taken over logarithms, where a ratio is a difference:

    low  = log b - log a - sqrt((log b - log b_low)^2 + (log a_high - log a)^2)
    high = log b - log a + sqrt((log b_high - log b)^2 + (log a - log a_low)^2)

It needs no shape of the samples, leans where the intervals lean, and is there only where both sides have one.

**The mean of two runs by the same plan.** Request i of one is request i of the other: same model, same image. What the mix does to
the mean is in both alike and is no error of their ratio r. By the linearization of a ratio of means (Cochran, Sampling Techniques,
1977, section 6.4) r errs as the mean of b_i - r * a_i does, over the mean of a; the interval of that mean is again the bootstrap-t's
over stretches. Percentiles are not paired, so that their intervals are rather too wide there than too narrow.

**Images per second.** In a closed loop a fixed number of requests is in flight, so the rate is that number over the mean wait for an
image: the ratio of rates is the reverse of a ratio of means, and has its interval. Elsewhere it is the reverse of the mean time from one
completion to the next, over at most 30 stretches of them (Schmeiser, Batch size effects in the analysis of simulation output,
Operations Research 30, 1982), since completions come in bursts.

A simulation in the tests checks how often these intervals hold the true ratio. What differs from one run to the next for another reason
than chance within a run (another day, another placing of processes) is in none of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from dlclient.intervals import block_length, mean_interval
from dlclient.results import Interval, Latency
from dlclient.statistics import latency
from numpy.typing import NDArray

Outcome = Literal["slower", "faster", "no difference", "cannot tell"]

LATENCIES = ("mean", "p50", "p90", "p99")
RATE = "images/s"
FIGURES = (*LATENCIES, RATE)
"""What is compared, as people call it."""

_STRETCHES = 30

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of A and of B (seconds; images per second). None: that side has none."""

    figure: str
    a: float | None
    b: float | None
    ratio: Interval | None = None
    """95 % interval of b / a; None: the samples cannot tell."""
    paired: bool = False
    """Whether the interval is of request against the same request."""

    @property
    def change(self) -> float | None:
        """b / a - 1: 0.1 is 10 % more."""
        return self.b / self.a - 1 if self.a and self.b is not None else None

    @property
    def interval(self) -> Interval | None:
        """Of `change`."""
        return (self.ratio[0] - 1, self.ratio[1] - 1) if self.ratio else None

    @property
    def outcome(self) -> Outcome:
        """What B is beside A: no difference where the interval includes none."""
        if self.change is None or self.interval is None:
            return "cannot tell"
        low, high = self.interval
        if low <= 0 <= high:
            return "no difference"
        more = low > 0
        return "faster" if more == (self.figure == RATE) else "slower"


@dataclass(frozen=True, slots=True)
class Timed:
    """What one side of a point was measured by: latencies and waits in the order of due time, completions in theirs.

    `key_of`: what each latency is of, so that the same requests of two runs find each other; () where nothing is the same.
    """

    latency_s: Sequence[float]
    images_per_s: float | None = None
    waited_s: Sequence[float] = ()
    """For a rate in a closed loop: what its users waited for each good answer."""
    done_s: Sequence[float] = ()
    """For any other rate: when each good answer was complete, since the clock began."""
    key_of: tuple[tuple[object, ...], ...] = ()
    summary: Latency | None = None
    """The figures, for where the raw samples are lost: they then have no interval."""


def changes(a: Timed, b: Timed) -> tuple[Change, ...]:
    """Each of FIGURES."""
    paired = bool(a.key_of) and a.key_of == b.key_of
    first, second = (
        side.summary if side.summary and not len(side.latency_s) else latency(side.latency_s, intervals=True)
        for side in (a, b)
    )
    lost = not len(a.latency_s) or not len(b.latency_s)
    found = []
    for figure in LATENCIES:
        values: tuple[float | None, float | None] = getattr(first, figure), getattr(second, figure)
        if figure == "mean" and paired:
            found.append(Change(figure, *values, paired_ratio(a.latency_s, b.latency_s), paired=True))
        else:
            own = [None if lost else (side.intervals or {}).get(figure) for side in (first, second)]
            found.append(Change(figure, *values, mover(*values, *own)))
    return (*found, _rate(a, b, paired=paired))


def mover(
    a: float | None, b: float | None, a_interval: Interval | None, b_interval: Interval | None
) -> Interval | None:
    """95 % interval of b / a from the intervals of independent a and b; None where one is missing or reaches 0."""
    if a is None or b is None or a_interval is None or b_interval is None:
        return None
    if min(a, b, *a_interval, *b_interval) <= 0:
        return None
    log_a, log_b = math.log(a), math.log(b)
    a_low, a_high, b_low, b_high = (math.log(end) for end in (*a_interval, *b_interval))
    low = log_b - log_a - math.hypot(log_b - b_low, a_high - log_a)
    high = log_b - log_a + math.hypot(b_high - log_b, log_a - a_low)
    return math.exp(low), math.exp(high)


def rate_interval(side: Timed) -> Interval | None:
    """95 % interval of its images per second; None where its samples cannot tell."""
    if not side.images_per_s:
        return None
    times = side.waited_s if len(side.waited_s) else _gaps(side)
    found = _mean_interval(times, None if len(side.waited_s) else _STRETCHES)
    mean = float(np.mean(times)) if len(times) else 0.0
    if found is None or found[0] <= 0:
        return None
    return side.images_per_s * mean / found[1], side.images_per_s * mean / found[0]


def paired_ratio(a_s: Sequence[float], b_s: Sequence[float]) -> Interval | None:
    """95 % interval of mean(b) / mean(a) where a[i] and b[i] are of the same request; None where they cannot tell."""
    a, b = np.asarray(a_s, dtype=np.float64), np.asarray(b_s, dtype=np.float64)
    if not a.size or a.mean() <= 0:
        return None
    ratio = float(b.mean() / a.mean())
    errors = (b - ratio * a) / a.mean()
    errors[np.abs(errors) < 1e-12 * ratio] = 0.0  # what rounding alone makes is no spread
    found = mean_interval(errors, block=block_length(errors))
    return (ratio + found.low, ratio + found.high) if found and ratio + found.low > 0 else None


def _rate(a: Timed, b: Timed, *, paired: bool) -> Change:
    """The change of images per second, from the change of the time that an image takes."""
    rates = a.images_per_s, b.images_per_s
    if not rates[0] or not rates[1]:
        return Change(RATE, *rates)
    if len(a.waited_s) and len(b.waited_s):
        times = _means(a.waited_s, b.waited_s)
        ratio = (paired_ratio if paired else _independent)(a.waited_s, b.waited_s)
    else:
        paired = False
        gaps = _gaps(a), _gaps(b)
        times, ratio = _means(*gaps), _independent(*gaps, _STRETCHES)
    if ratio is None or times is None:
        return Change(RATE, *rates)
    by_rates, by_times = rates[1] / rates[0], times[1] / times[0]
    return Change(RATE, *rates, (by_rates * by_times / ratio[1], by_rates * by_times / ratio[0]), paired)


def _gaps(side: Timed) -> Array:
    """From one completion to the next."""
    return np.diff(np.sort(np.asarray(side.done_s, dtype=np.float64)), prepend=0.0)


def _independent(
    a_s: Sequence[float] | Array, b_s: Sequence[float] | Array, stretches: int | None = None
) -> Interval | None:
    """95 % interval of mean(b) / mean(a) of samples in the order of time."""
    means = _means(a_s, b_s)
    return mover(*means, _mean_interval(a_s, stretches), _mean_interval(b_s, stretches)) if means else None


def _mean_interval(samples: Sequence[float] | Array, stretches: int | None) -> Interval | None:
    """Of samples in the order of time, taken in no more than this many stretches."""
    block = block_length(samples)
    if stretches is not None:
        block = max(block, math.ceil(len(samples) / stretches))
    found = mean_interval(samples, block=block)
    return (found.low, found.high) if found else None


def _means(a_s: Sequence[float] | Array, b_s: Sequence[float] | Array) -> tuple[float, float] | None:
    if not len(a_s) or not len(b_s):
        return None
    means = float(np.mean(a_s)), float(np.mean(b_s))
    return means if min(means) > 0 else None
