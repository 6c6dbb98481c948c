"""What came of a cell's requests, in figures; and whether the model and the processes say the same. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlclient.balance_result import Agreement, Figures, Spread
from dlclient.errors import LocalServerError
from dlclient.intervals import block_length, mean_interval
from dlclient.statistics import latency

SETTLING_S = 2.5
"""At scale 1, from the beginning of a cell: in so long every worker can have loaded what it will keep (the model was watched:
after 2 s no load by `predicted` is left that its steady state has not)."""
TOLERANCE = 0.1
"""Model and processes agree where mean and p99 differ by no more than this."""


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
    )


def spread(own: Figures, runs: Sequence[Figures], jitter: float, overhead_s: float) -> Spread:
    """The model as it is, between the least and the most of it and of its runs with other times."""
    tails = [one.latency_s.p99 for one in (own, *runs) if one.latency_s.p99 is not None]
    return Spread(
        runs=len(runs),
        jitter=jitter,
        overhead_s=overhead_s,
        mean_s=_around([one.latency_s.mean or 0.0 for one in (own, *runs)]),
        p99_s=_around(tails) if len(tails) == 1 + len(runs) else None,
        hit_rate=_around([one.hit_rate for one in (own, *runs)]),
    )


def agreement(real: Figures, model: Spread) -> Agreement:
    """Whether mean and p99 of both are within a tenth, and, where they are not, what that can come from."""
    mean_s, p99_s = real.latency_s.mean or 0.0, real.latency_s.p99
    mean_ratio = model.mean_s[1] / mean_s
    p99_ratio = model.p99_s[1] / p99_s if model.p99_s and p99_s else None
    apart = [
        _apart(name, ratio, value, known)
        for name, ratio, value, known in (
            ("mean", mean_ratio, mean_s, model.mean_s),
            ("p99", p99_ratio, p99_s, model.p99_s),
        )
        if ratio is not None and value is not None and known is not None and abs(ratio - 1) > TOLERANCE
    ]
    return Agreement(
        mean_ratio=mean_ratio,
        p99_ratio=p99_ratio,
        within=not apart,
        text="; ".join(apart) or f"within {TOLERANCE:.0%}",
    )


def _apart(name: str, ratio: float, real_s: float, model_s: tuple[float, float, float]) -> str:
    least, _, most = model_s
    gap = f"{name} {ratio - 1:+.0%}"
    if least <= real_s <= most:
        return f"{gap}: chance, the model itself goes from {least / real_s:.2f} to {most / real_s:.2f} x the real one when times change by a percent"
    return f"{gap}: more than chance, the model goes from {least / real_s:.2f} to {most / real_s:.2f} x the real one when times change by a percent"


def _around(values: Sequence[float]) -> tuple[float, float, float]:
    """The first, between the least and the most."""
    return min(values), values[0], max(values)
