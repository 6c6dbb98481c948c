"""The timed part of a point: inferences one after the other, or several in flight, each with its own latency.

The same code times an engine in this process and a server. In flight means in threads: each infers, one inference after
the other, so with one in flight everything happens in the calling thread. Between two clocks there is `infer` and nothing else.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from dlclient.bench.job import Budget
from dlclient.bench.subject import Told
from dlclient.bench_result import Sample

PROGRESS_S = 0.5
"""Between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a timed part ends: at the first of its maxima, but not before `min_s`; `max_s` wins over all else."""

    max_iterations: int
    min_s: float
    max_s: float

    @staticmethod
    def of(budget: Budget) -> "Limits":
        """Of the timed part of a point."""
        return Limits(max(budget.max_iterations, budget.min_iterations), budget.min_s, budget.max_s)

    def over(self, started: int, elapsed_s: float) -> bool:
        """Whether no more may begin after `started` iterations and so many seconds."""
        return elapsed_s >= self.max_s or (started >= self.max_iterations and elapsed_s >= self.min_s)

    def fraction(self, started: int, elapsed_s: float) -> float:
        """How much is done."""
        of_iterations = min(started / max(self.max_iterations, 1), elapsed_s / self.min_s if self.min_s > 0 else 1.0)
        return min(max(elapsed_s / self.max_s if self.max_s > 0 else 1.0, of_iterations), 1.0)


@dataclass(frozen=True, slots=True)
class Timed:
    """What came of it: `samples` in the order in which they began; `wall_s` to the end of the last."""

    samples: tuple[Sample, ...]
    wall_s: float


@dataclass(slots=True)
class _Run:
    """What the threads share."""

    infer: Callable[[object], Told]
    batches: Sequence[object]
    limits: Limits
    clock: Callable[[], float]
    began: float = 0.0
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    stopped: bool = False


@dataclass(slots=True)
class _Seen:
    """What one thread saw: of each of its iterations when it began, when it ended, and what the subject told."""

    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


def measure(
    infer: Callable[[object], Told],
    batches: Sequence[object],
    in_flight: int,
    limits: Limits,
    *,
    progress: Callable[[float], None] = lambda _: None,
    clock: Callable[[], float] = perf_counter,
) -> Timed:
    """Infer the batches in turn, `in_flight` at a time, until the limits say that it is over; at least one.

    What `infer` raises ends it and is raised here, once every thread has come back. `progress` gets the part that is done.
    """
    run = _Run(infer, batches, limits, clock)
    return _timed(run, _alone(run, progress) if in_flight == 1 else _together(run, in_flight, progress))


def _work(run: _Run, seen: _Seen, progress: Callable[[float], None] | None = None) -> None:
    """One thread's iterations."""
    infer, batches, clock, over = run.infer, run.batches, run.clock, run.limits.over
    count = len(batches)
    ended = run.began
    report_at = ended + PROGRESS_S
    while not run.stopped:
        number = next(run.numbers)
        if number and over(number, ended - run.began):
            return
        batch = batches[number % count]
        began = clock()
        told = infer(batch)
        ended = clock()
        seen.began.append(began)
        seen.ended.append(ended)
        seen.told.append(told)
        if progress is not None and ended >= report_at:
            progress(run.limits.fraction(number + 1, ended - run.began))
            report_at = ended + PROGRESS_S


def _alone(run: _Run, progress: Callable[[float], None]) -> list[_Seen]:
    seen = _Seen()
    run.began = run.clock()
    _work(run, seen, progress)
    return [seen]


def _together(run: _Run, in_flight: int, progress: Callable[[float], None]) -> list[_Seen]:
    seen = [_Seen() for _ in range(in_flight)]
    failures: list[BaseException] = []
    go = threading.Event()

    def work(own: _Seen) -> None:
        go.wait()
        try:
            _work(run, own)
        except BaseException as exc:  # noqa: BLE001  it is raised again in the thread that waits
            failures.append(exc)
            run.stopped = True

    threads = [threading.Thread(target=work, args=(own,), daemon=True) for own in seen]
    for thread in threads:
        thread.start()
    run.began = run.clock()
    go.set()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(PROGRESS_S)
                progress(run.limits.fraction(sum(len(own.ended) for own in seen), run.clock() - run.began))
    finally:
        run.stopped = True
    if failures:
        raise failures[0]
    return seen


def _timed(run: _Run, seen: Sequence[_Seen]) -> Timed:
    samples = [
        Sample(
            began_s=began - run.began,
            latency_s=ended - began if told.took_s is None else told.took_s,
            server_s=told.server_s,
            transform_s=told.transform_s,
            error=told.error,
        )
        for own in seen
        for began, ended, told in zip(own.began, own.ended, own.told, strict=True)
    ]
    samples.sort(key=lambda sample: sample.began_s)
    return Timed(tuple(samples), max(own.ended[-1] for own in seen if own.ended) - run.began)
