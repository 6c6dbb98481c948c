"""What a person who looks at a run while it is under way gets to see: rows and a verdict so far. Pure."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from dlclient.results import Reason

from dlload.live import Live, ModelCounts, PhaseCounts, Progress
from dlload.verdict import Judgement

SEND_LAG_LIMIT_S = 0.001
SEND_LAG_SHARE = 0.05
"""The p99 of the send lag may be 1 ms, or this share of the median latency where that is more."""
_WINDOW_S = 5
"""The rate of now is that of so many whole seconds."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one model (or all) in one phase. Seconds; None where there are too few answers to say."""

    requests: int
    errors: int
    answers: int
    """Good ones: the samples behind the latencies."""
    mean_s: float | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None


class PhaseRow(msgspec.Struct, frozen=True, kw_only=True):
    """How a phase goes."""

    phase: str
    state: str
    """waiting, running or ended."""
    planned: int
    answered: int
    in_flight: int
    dropped: int
    elapsed_s: float
    offered_per_s: float | None
    delivered_per_s: float | None
    """Good answers per second since the phase began."""
    delivered_now_per_s: float | None
    """The same over the last seconds; None once it has ended, or before there is a whole second."""
    send_lag_p50_s: float | None
    send_lag_p99_s: float | None
    send_lag_n: int
    total: Figures


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model, with its figures in each phase that has any."""

    model: str
    figures: dict[str, Figures]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that the tab shows."""

    state: str
    """none (no run yet), running or finished."""
    verdict: str
    """valid or invalid; while the run goes on, so far."""
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...]
    phases: tuple[PhaseRow, ...]
    models: tuple[ModelRow, ...]


NOTHING = Snapshot(state="none", verdict="valid", reasons=(), warnings=(), phases=(), models=())


def snapshot(live: Live, pause: Callable[[], None] = lambda: None) -> Snapshot:
    """As it is now. `pause` is called after each bit of work (0.3 ms at most), so that senders need not wait for all."""
    counts = dict(live.counts())
    progress = live.progress()
    phases = tuple(_phase_row(one, counts.get(one.phase) or PhaseCounts(), pause) for one in progress)
    judgement = live.final or so_far(progress, counts, phases, live.findings)
    return Snapshot(
        state="running" if live.final is None else "finished",
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        warnings=judgement.warnings,
        phases=phases,
        models=_model_rows(counts, pause),
    )


def so_far(
    progress: Sequence[Progress],
    counts: Mapping[str, PhaseCounts],
    rows: Sequence[PhaseRow],
    findings: Judgement,
) -> Judgement:
    """What can already be said against the run, from counts alone; the last word is dlload.verdict's."""
    reasons: list[Reason] = []
    for one, row in zip(progress, rows, strict=True):
        phase = counts.get(one.phase)
        if phase is not None:
            reasons.extend(filter(None, (_errors(one, phase), _temperature(one, phase), _send_lag(row))))
        if one.dropped:
            text = f"{one.phase}: {one.dropped} requests were dropped because nobody was free to send them in time"
            reasons.append(Reason("dropped", text, "allow more in flight (-u), or ask for a lower rate"))
    return Judgement((*reasons, *findings.reasons), findings.warnings)


def _errors(progress: Progress, counts: PhaseCounts) -> Reason | None:
    if not counts.errors:
        return None
    (text, _), *others = counts.errors.most_common()
    more = f" ({len(others)} other kinds of error)" if others else ""
    return Reason(
        "errors",
        f"{progress.phase}: {counts.errors.total()} of {progress.answered} requests failed: {text}{more}",
        "see the server's log, mend the cause, run again",
    )


def _temperature(progress: Progress, counts: PhaseCounts) -> Reason | None:
    wrong = counts.answers.total() - counts.answers[progress.temperature] - counts.answers[""]
    if not wrong:
        return None
    seen = ", ".join(f"{count} {found or 'unknown'}" for found, count in counts.answers.most_common())
    return Reason(
        "wrong-temperature",
        f"{progress.phase}: {wrong} of {counts.answers.total()} answers found the weights elsewhere ({seen})",
        "give the cache room for all models, or see why the server did not reload the weights",
    )


def _send_lag(row: PhaseRow) -> Reason | None:
    limit_s = max(SEND_LAG_LIMIT_S, SEND_LAG_SHARE * (row.total.p50_s or 0.0))
    if row.send_lag_p99_s is None or row.send_lag_p99_s <= limit_s:
        return None
    return Reason(
        "send-lag",
        f"{row.phase}: 1 % of the requests were sent {row.send_lag_p99_s * 1e3:.2f} ms late or more"
        f" (limit {limit_s * 1e3:.2f} ms)",
        "ask for a lower rate, or give the load generator more processes or a machine of its own",
    )


def _phase_row(progress: Progress, counts: PhaseCounts, pause: Callable[[], None]) -> PhaseRow:
    total = ModelCounts()
    for one in list(counts.models.values()):  # new ones may come while we pause
        total.merge(one)
        pause()
    return PhaseRow(
        phase=progress.phase,
        state="ended" if progress.ended else "running" if progress.elapsed_s > 0 else "waiting",
        planned=progress.planned,
        answered=progress.answered,
        in_flight=max(progress.taken - progress.answered, 0),
        dropped=progress.dropped,
        elapsed_s=progress.elapsed_s,
        offered_per_s=progress.offered_per_s,
        delivered_per_s=total.latency.count / progress.elapsed_s if progress.elapsed_s > 0 else None,
        delivered_now_per_s=None if progress.ended else _rate_now(counts, progress.elapsed_s),
        send_lag_p50_s=counts.send_lag.percentile_s(0.5),
        send_lag_p99_s=counts.send_lag.percentile_s(0.99),
        send_lag_n=counts.send_lag.count,
        total=_figures(total),
    )


def _rate_now(counts: PhaseCounts, elapsed_s: float) -> float | None:
    """Over the last whole seconds; the one that is under way would always look slow."""
    end = int(elapsed_s)
    start = max(end - _WINDOW_S, 0)
    return sum(counts.seconds[second] for second in range(start, end)) / (end - start) if end > start else None


def _model_rows(counts: Mapping[str, PhaseCounts], pause: Callable[[], None]) -> tuple[ModelRow, ...]:
    """By name: the order in which the answers come differs each time."""
    rows: list[ModelRow] = []
    for model in sorted({model for phase in counts.values() for model in phase.models}):
        figures: dict[str, Figures] = {}
        for phase, one in counts.items():
            if model in one.models:
                figures[phase] = _figures(one.models[model])
                pause()
        rows.append(ModelRow(model=model, figures=figures))
    return tuple(rows)


def _figures(counts: ModelCounts) -> Figures:
    latency = counts.latency
    return Figures(
        requests=counts.requests,
        errors=counts.errors,
        answers=latency.count,
        mean_s=latency.mean_s,
        p50_s=latency.percentile_s(0.5),
        p90_s=latency.percentile_s(0.9),
        p99_s=latency.percentile_s(0.99),
    )
