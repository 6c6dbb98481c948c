"""What the samples of a run say against its figures. Pure: samples and phases in, typed reasons and warnings out."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dlclient.results import Reason
from dlclient.timeline import ClientSample, Sample, ServerSample

from dlload.verdict import Judgement

CPU_LIMIT_CORES = 0.9
"""Of one core, for one process: gevent runs on one, so that above it requests wait for the load generator."""
LOOP_DELAY_LIMIT_S = 0.010
"""For the p99 of a waking: 1 ms is epoll's resolution, and reading a large answer may take a few."""
CLOCK_JUMP_S = 0.05
IN_A_ROW = 3
"""Intervals that must be above a limit, the CPU on average, the delay each: one alone is a pause (a garbage collection,
another program), which the send lag tells better; three are load. The CPU of a shorter phase is judged by what it has."""
_START_TOLERANCE_S = 1.0
"""process_start_time_seconds is computed from the kernel's ticks and the boot time, which may move by parts of a second."""


@dataclass(frozen=True, slots=True)
class Span:
    """When a phase ran, on `time.perf_counter`."""

    phase: str
    started: float
    ended: float

    def holds(self, sample: Sample) -> bool:
        """Whether the sample's whole interval lies within it."""
        return self.started <= sample.t_s - sample.interval_s and sample.t_s <= self.ended


def judge_samples(samples: Sequence[Sample], spans: Sequence[Span]) -> Judgement:
    """All findings below."""
    reasons = [*generator_busy(samples, spans), *clock_jumps(samples, spans), *server_restarted(samples, spans)]
    return Judgement(tuple(reasons), tuple(loop_late(samples, spans)))


def generator_busy(samples: Sequence[Sample], spans: Sequence[Span]) -> list[Reason]:
    """A process of the load generator used more than 90 % of a core on average over 3 consecutive intervals of a phase."""
    reasons: list[Reason] = []
    for span in spans:
        windows = _windows(samples, span, lambda client: client.cpu_cores)
        worst = max(map(_mean, windows), default=0.0)
        if worst > CPU_LIMIT_CORES:
            reasons.append(
                Reason(
                    "generator-cpu",
                    f"{span.phase}: the load generator used {worst:.0%} of a core; above {CPU_LIMIT_CORES:.0%} requests wait"
                    " for it, and their latency is partly its own",
                    "share the load among more processes (--processes) or machines, or ask for a lower rate",
                )
            )
    return reasons


def loop_late(samples: Sequence[Sample], spans: Sequence[Span]) -> list[Reason]:
    """The event loop woke later than its limit (p99 of its wakings) in each of 3 consecutive intervals of a phase."""
    reasons: list[Reason] = []
    for span in spans:
        windows = _windows(samples, span, lambda client: client.loop_delay_p99_s)
        worst = max(
            (min(delay_s for delay_s, _ in window) for window in windows if len(window) == IN_A_ROW), default=0.0
        )
        if worst > LOOP_DELAY_LIMIT_S:
            reasons.append(
                Reason(
                    "event-loop-delay",
                    f"{span.phase}: 1 % of the load generator's timers woke {worst * 1e3:.1f} ms late or more"
                    f" (limit {LOOP_DELAY_LIMIT_S * 1e3:g} ms)",
                    "give the load generator a core of its own (taskset), close the web page, or use more --processes",
                )
            )
    return reasons


def clock_jumps(samples: Sequence[Sample], spans: Sequence[Span]) -> list[Reason]:
    """The time of day moved against the monotonic clock by more than 50 ms between two samples, within the phases."""
    jumps: list[float] = []
    for own in _by_source(samples).values():
        watched = [sample for sample in own if sample.client is not None]
        for before, after in pairwise(watched):
            assert before.client is not None
            assert after.client is not None
            jump = after.client.clock_offset_s - before.client.clock_offset_s
            if abs(jump) > CLOCK_JUMP_S and _during(before.t_s, after.t_s, spans):
                jumps.append(jump)
    if not jumps:
        return []
    text = f"the clock jumped by {max(jumps, key=abs):+.3f} s during the run ({len(jumps)} in all): somebody set it, or the machine was suspended"
    return [Reason("clock-jump", text, "keep the machine awake and its clock in step (chrony slews, it does not step)")]


def server_restarted(samples: Sequence[Sample], spans: Sequence[Span]) -> list[Reason]:
    """The server's process, or one of its workers, is not the one that it was."""
    restarted: dict[str, None] = {}
    for own in _by_source(samples).values():
        watched = [sample for sample in own if sample.server is not None]
        for before, after in pairwise(watched):
            assert before.server is not None
            assert after.server is not None
            if _during(before.t_s, after.t_s, spans):
                restarted |= dict.fromkeys(_replaced(before.server, after.server))
    if not restarted:
        return []
    return [
        Reason(
            "server-restarted",
            f"{', '.join(restarted)} was replaced during the run",
            "see the server's log for why, then run again",
        )
    ]


def _replaced(before: ServerSample, after: ServerSample) -> list[str]:
    began, begun = before.process_started, after.process_started
    if began is not None and begun is not None and abs(begun - began) > _START_TOLERANCE_S:
        return ["the server"]
    return [
        f"worker {worker}"
        for worker, restarts in after.restarts_by_worker.items()
        if restarts != before.restarts_by_worker.get(worker, restarts)
    ]


def _during(began: float, ended: float, spans: Iterable[Span]) -> bool:
    return any(began < span.ended and span.started < ended for span in spans)


def _windows(
    samples: Sequence[Sample], span: Span, value_of: Callable[[ClientSample], float | None]
) -> Iterator[Sequence[tuple[float, float]]]:
    """Every IN_A_ROW consecutive intervals of a process within the phase (or all, where there are fewer): value, length."""
    for own in _by_source(samples).values():
        inside = [
            (value, sample.interval_s)
            for sample in own
            if sample.client is not None and span.holds(sample) and (value := value_of(sample.client)) is not None
        ]
        width = min(IN_A_ROW, len(inside))
        if width:
            yield from (inside[start : start + width] for start in range(len(inside) - width + 1))


def _mean(window: Sequence[tuple[float, float]]) -> float:
    return sum(value * length_s for value, length_s in window) / max(sum(length_s for _, length_s in window), 1e-9)


def _by_source(samples: Iterable[Sample]) -> Mapping[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.source].append(sample)
    return groups
