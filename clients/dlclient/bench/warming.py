"""Warming up: the load of the timed part, before the clock, until it is steady."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median
from time import perf_counter

from dlclient.bench.job import Budget
from dlclient.bench.subject import Told
from dlclient.bench.timing import Limits, Timed, measure
from dlclient.bench_result import Warming
from dlclient.results import Reason
from dlclient.stability import AGREEING, Window, agree

TOLERANCE = 0.10

WINDOW_S = 0.2
"""A window is no shorter."""

WINDOW_ITERATIONS = 3
"""And has no fewer iterations, of each that is in flight."""


def warm_up(
    infer: Callable[[object], Told],
    batches: Sequence[object],
    in_flight: int,
    budget: Budget,
    *,
    progress: Callable[[float], None] = lambda _: None,
    clock: Callable[[], float] = perf_counter,
) -> Warming:
    """Infer until the last windows' mean latencies and rates agree within 10 % (`dlclient.stability.agree`), or a maximum is hit.

    A budget of fewer iterations than three windows take asks for a fixed warm-up: `steady` is None then. Raises what `infer`
    does.
    """
    in_window = WINDOW_ITERATIONS * in_flight
    asked = budget.warm_up_max_iterations >= AGREEING * in_window
    began, done = clock(), 0
    windows: list[Window] = []
    while (left := budget.warm_up_max_iterations - done) > 0 and (elapsed := clock() - began) < budget.warm_up_max_s:
        left_s = budget.warm_up_max_s - elapsed
        limits = Limits(min(in_window, left), WINDOW_S if asked else 0.0, left_s)
        timed = measure(infer, batches, in_flight, limits, clock=clock)
        done += len(timed.samples)
        windows.append(_window(timed, clock() - began))
        progress(max(done / budget.warm_up_max_iterations, (clock() - began) / budget.warm_up_max_s))
        if done >= budget.warm_up_min_iterations and agree(windows[-AGREEING:], TOLERANCE).agree:
            return Warming(iterations=done, seconds=clock() - began, steady=True)
    return Warming(iterations=done, seconds=clock() - began, steady=False if asked else None)


def warning(warming: Warming, budget: Budget) -> Reason | None:
    """What is to be said where it ended without being steady."""
    if warming.steady is not False:
        return None
    return Reason(
        "not-steady",
        f"after {warming.iterations} iterations and {warming.seconds:.3g} s of warming up, three windows still did not agree"
        f" within {TOLERANCE:.0%}: the timed part may hold what belongs to warming up, or the machine is busy with something else",
        f"leave the machine alone, or raise warm_up_max_s (now {budget.warm_up_max_s:g}) or warm_up_max_iterations"
        f" (now {budget.warm_up_max_iterations})",
    )


def _window(timed: Timed, end_s: float) -> Window:
    times = [sample.latency_s for sample in timed.samples if not sample.error]
    return Window(
        start_s=end_s - timed.wall_s,
        end_s=end_s,
        count=len(times),
        mean_s=fmean(times) if times else None,
        median_s=median(times) if times else math.nan,
    )
