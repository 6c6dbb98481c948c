"""What came of a cell's requests, in figures; and whether the model and the processes say the same. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean

import numpy as np
from scipy.stats import t as student

from dlclient.balance_result import Agreement, Figures, Spread
from dlclient.errors import LocalServerError
from dlclient.intervals import block_length, mean_interval
from dlclient.stability import drift
from dlclient.statistics import latency

SETTLING_S = 2.5
"""At scale 1, from the beginning of a cell: in so long every worker can have loaded what it will keep (the model was watched:
after 2 s no load by `predicted` is left that its steady state has not)."""
TOLERANCE = 0.1
"""Model and processes agree where mean, p50 and p99 differ by no more than this."""
CONFIDENCE = 0.95
GROWTH = 2.0
"""A latency that rises all through a cell, and by so many times at least, is that of a queue that is offered too much."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that got its answer. Seconds."""

    due_s: float
    latency_s: float
    forward_s: float
    warm: bool


def figures(answers: Sequence[Answered], requests: int, loads: int | None, settling_s: float) -> Figures:
    """Of all answers, in any order; those due before `settling_s` are not counted.

    `requests`: that were sent, or should have been. Raises LocalServerError where no answer counts.
    """
    counted = sorted((one for one in answers if one.due_s >= settling_s), key=lambda one: one.due_s)
    if not counted:
        raise LocalServerError(
            f"no request that was due after the first {settling_s:g} s was answered: give the cell more requests, or see its logs"
        )
    waits = np.array([one.latency_s - one.forward_s for one in counted])
    found = mean_interval(waits, block=block_length(waits))
    return Figures(
        requests=len(counted),
        errors=requests - len(answers),
        latency_s=latency((one.latency_s for one in counted), intervals=True),
        wait_s=float(waits.mean()),
        wait_interval_s=None if found is None else (found.low, found.high),
        hit_rate=sum(one.warm for one in counted) / len(counted),
        loads=loads,
        growth=_growth(counted),
    )


def spread(runs: Sequence[Figures], jitter: float, overhead_s: float) -> Spread:
    """What one more of these runs of the model is expected to give. At least two are needed."""

    def times(values: Sequence[float | None]) -> tuple[float, float, float] | None:
        known = [value for value in values if value is not None]
        return expected(known) if len(known) == len(runs) else None

    mean_s = times([one.latency_s.mean for one in runs])
    assert mean_s is not None, "figures have a mean"
    return Spread(
        runs=len(runs),
        jitter=jitter,
        overhead_s=overhead_s,
        mean_s=mean_s,
        p50_s=times([one.latency_s.p50 for one in runs]),
        p99_s=times([one.latency_s.p99 for one in runs]),
        hit_rate=fmean(one.hit_rate for one in runs),
    )


def expected(times_s: Sequence[float]) -> tuple[float, float, float]:
    """The geometric mean of times above 0, between the ends of a 95 % prediction interval for one more (Hahn, Meeker,
    Statistical Intervals, 1991, section 4.7).

    `times_s`: two or more.
    """
    return _quotient(times_s, (1.0,))


def _quotient(over_s: Sequence[float], under_s: Sequence[float]) -> tuple[float, float, float]:
    """The quotient of two geometric means of times above 0, in the middle of its 95 % interval.

    Student's for two samples of one variance, of the logarithms: queues err by factors. At least one sample has two.
    """
    samples = [[math.log(one) for one in times] for times in (over_s, under_s)]
    middle = fmean(samples[0]) - fmean(samples[1])
    squares = sum((log - fmean(logs)) ** 2 for logs in samples for log in logs)
    freedom = len(over_s) + len(under_s) - 2
    error = math.sqrt(squares / freedom * (1 / len(over_s) + 1 / len(under_s)))
    half = float(student.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return math.exp(middle - half), math.exp(middle), math.exp(middle + half)


def agreement(real: Sequence[Figures], model: Sequence[Figures]) -> Agreement:
    """Whether mean, p50 and p99 of both are within a tenth, and, where they are not, whether that can be chance.

    `real`: one run or more. `model`: two or more.
    """
    ratios, real_s = {}, {}
    for name in ("mean", "p50", "p99"):
        theirs, own = ([known for one in runs if (known := getattr(one.latency_s, name))] for runs in (model, real))
        if (len(theirs), len(own)) == (len(model), len(real)):
            ratios[name] = _quotient(theirs, own)
            real_s[name] = geometric_mean(own)
    apart = [_apart(name, *ratio) for name, ratio in ratios.items() if abs(ratio[1] - 1) > TOLERANCE]
    text = "; ".join(apart) or f"within {TOLERANCE:.0%}"
    return Agreement(ratios=ratios, real_s=real_s, rounds=len(real), within=not apart, text=text)


def is_sharp(judged: Agreement) -> bool:
    """Whether another run would tell little: every interval is within a tenth of its middle, wherever that lies."""
    return all(high / middle <= 1 + TOLERANCE for _, middle, high in judged.ratios.values())


def middle_run(runs: Sequence[Figures]) -> Figures:
    """The one whose mean latency is the middle one; of an even number, the lower of the two."""
    return sorted(runs, key=lambda one: one.latency_s.mean or 0.0)[(len(runs) - 1) // 2]


def _apart(name: str, low: float, middle: float, high: float) -> str:
    kind = "can be chance" if low <= 1 <= high else "more than chance"
    return f"{name} {middle - 1:+.0%}, {kind}"


def _growth(in_time_order: Sequence[Answered]) -> float | None:
    found = drift([(one.due_s, one.latency_s) for one in in_time_order])
    if found is None or not found.grows:
        return None
    fifth = len(in_time_order) // 5
    first_s, last_s = (fmean(one.latency_s for one in part) for part in (in_time_order[:fifth], in_time_order[-fifth:]))
    return last_s / first_s if last_s >= GROWTH * first_s else None
