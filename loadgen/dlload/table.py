"""The result as text: verdict and objectives first, then warm beside cold per model, the totals in detail, the server's stages."""

import textwrap
from collections.abc import Callable, Iterable, Sequence

from dlclient.results import Clock, Latency, Objective, Phase, Reason, Run, SendLag, Summary
from dlclient.search_result import SearchResult

WIDTH = 120
STAGES = ("wire", "decode", "queue", "load", "forward", "post", "demote")
_TOTAL = "total"

_FIGURES = (
    ("", "", "", "", "latency", "", "", "", "images", "wall ms", "cold/", "weights", "load"),
    ("ms", "phase", "requests", "errors", "mean", "p50", "p90", "p99", "per s", "/image", "warm", "MB", "GB/s"),
)
_EXPLANATION = (
    "Latency: ms from when a request was due to its complete answer, less the server's stage demote (making the model "
    "cold is no part of serving; wall times contain it); n/a: too few samples. Wall /image: wall time / images; a model's "
    "wall time is its share of the whole by waiting time. Load: weights / extra time per cold request over warm ones "
    "that ran alone too; missing: fewer than 12 of those, or their noise is larger than the load."
)
_TOTALS = ("total, ms", "phase", "mean", "p50", "p90", "p99", "p99.9", "largest")
_CLOSED_TIMES = (
    "Latency: as above. First byte: from the send until the answer began. Send lag: from due to sent, a part of the latency. "
    "In brackets: 95 % confidence interval."
)
_OPEN_TIMES = (
    "Response: the latency above, from when a request was due. Service: from its actual send; what waited in the load tester "
    "is not in it. First byte: from the send until the answer began. Send lag: from due to sent. In brackets: 95 % confidence "
    "interval."
)
_OUTCOMES = {"met": "met", "missed": "MISSED", "cannot-tell": "CANNOT TELL"}


def result_table(run: Run) -> str:
    """Everything that a person wants to see when the run is over; at most 120 columns."""
    head = [_verdict(run), _objectives(run)]
    blocks = [
        "\n".join(block for block in head if block),
        _courses(run),
        _figures(run),
        _totals(run),
        _stages(run),
        _notes("warning", run.warnings),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def search_table(result: SearchResult) -> str:
    """What a search for a rate found: the answer, then the latency/throughput curve."""
    wanted = ",".join(result.slo)
    rate = "no rate" if result.rate_per_s is None else f"{result.rate_per_s:.4g} requests/s"
    head = _wrapped(
        f"{result.found.upper()}: {rate} for {wanted}. {result.sentence[:1].upper()}{result.sentence[1:]}.", "  "
    )
    standing = "\n".join(
        _wrapped(f"confirmation, {_OUTCOMES[one.outcome]}: {one.sentence}.", "  ") for one in result.objectives
    )
    rows = [("rate/s", "requests", "answers/s", "mean ms", "p50 ms", "meets")]
    rows += [
        (
            f"{point.rate_per_s:.4g}",
            f"{point.requests:,}",
            f"{point.delivered_per_s:.4g}",
            milliseconds(point.mean_s),
            milliseconds(point.p50_s),
            {True: "yes", False: "no", None: "open"}[point.meets],
        )
        for point in result.curve
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    curve = "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    knee = "" if result.knee_per_s is None else f"The latency turns steep at about {result.knee_per_s:.4g}/s."
    counted = f"{result.probes} runs, {result.requests:,} requests."
    return "\n\n".join(block for block in (head, standing, curve, f"{knee} {counted}".strip()) if block) + "\n"


def milliseconds(seconds: float | None) -> str:
    """Four digits, more only before the point; "-" for None."""
    if seconds is None:
        return "-"
    value = seconds * 1000
    for digits in (3, 2, 1):
        if round(value, digits) < 10 ** (4 - digits):
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def _verdict(run: Run) -> str:
    plan = run.plan
    stamp = " (SIMULATED device)" if run.simulated else ""
    load = f"open loop, {plan.load}, at most {plan.users} in flight" if is_open(run) else f"{plan.users} users"
    line = (
        f"{run.verdict.upper()}{stamp}: {plan.requests:,} requests a phase, {load}, batch {plan.batch_size}, "
        f"seed {plan.seeds}, {run.target.protocol} to {run.target.url}"
    )
    reasons = _notes("reason", run.reasons)
    return _wrapped(line, "") + (f"\n{reasons}" if reasons else "")


def is_open(run: Run) -> bool:
    """Whether requests were due by a schedule."""
    return run.plan.load != "closed"


def _objectives(run: Run) -> str:
    lines = [_objective(phase, one) for phase in run.phases for one in phase.objectives]
    if lines and run.verdict == "invalid":
        lines.insert(0, "The objectives, by figures that are not to be trusted:")
    return "\n".join(lines)


def _objective(phase: Phase, objective: Objective) -> str:
    unsure = " (not with 99 % confidence)" if objective.outcome == "missed" and not objective.sure else ""
    return _wrapped(f"objective {_OUTCOMES[objective.outcome]}{unsure}, {phase.name}: {objective.sentence}.", "  ")


def _courses(run: Run) -> str:
    """What was offered and sent, and what the figures leave out, phase by phase; "" where there is nothing to say."""
    return "\n".join(_wrapped(f"{phase.name}: {said}.", "  ") for phase in run.phases if (said := _course(run, phase)))


def _course(run: Run, phase: Phase) -> str:
    total = phase.total
    said = []
    if phase.offered_per_s and phase.delivered_per_s is not None:
        share = phase.delivered_per_s / phase.offered_per_s
        said.append(f"offered {phase.offered_per_s:,.4g} requests/s, sent {phase.delivered_per_s:,.4g}/s ({share:.1%})")
    if total.dropped:
        said.append(f"{total.dropped:,} dropped, never sent")
    if is_open(run) and total.new_connections:
        said.append(f"{total.new_connections:,} of {total.requests:,} requests had to connect first")
    elif total.new_connections > run.plan.users:  # each user connects once
        said.append(f"{total.new_connections:,} requests had to connect first")
    return "; ".join([*said, *_left_out(phase.clock)])


def _left_out(clock: Clock) -> list[str]:
    said = []
    if clock.warm_up_requests:
        steady = {True: ", until 3 windows agreed", False: ", in which no 3 windows agreed", None: ""}[clock.steady]
        said.append(f"{clock.warm_up_requests:,} requests before the clock ({clock.warm_up_s:.1f} s{steady})")
    if clock.left_out:
        since = f"before {clock.from_s:.1f} s" if clock.from_s else ""
        until = f"after {clock.to_s:.1f} s" if clock.to_s is not None else ""
        when = " or ".join(part for part in (since, until) if part) or "outside the clock"
        said.append(f"{clock.left_out:,} that were due {when} are not counted")
    return said


def _notes(kind: str, reasons: Iterable[Reason]) -> str:
    return "\n".join(
        _wrapped(f"{kind}: {reason.text}. {reason.cure[:1].upper()}{reason.cure[1:]}.", "  ") for reason in reasons
    )


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _rows_of(run: Run) -> Iterable[tuple[str, Phase, Summary]]:
    """Model by model, its phases beside each other; the total last."""
    for service in run.plan.services:
        for phase in run.phases:
            yield service, phase, phase.services[service]
    for phase in run.phases:
        yield _TOTAL, phase, phase.total


def _figures(run: Run) -> str:
    warm = next((phase for phase in run.phases if phase.name == "warm"), None)
    rows: list[tuple[str, ...]] = list(_FIGURES)
    for name, phase, summary in _rows_of(run):
        baseline = None
        if warm is not None and warm is not phase:
            baseline = warm.total if name == _TOTAL else warm.services[name]
        latency = summary.latency_s
        rows.append(
            (
                name,
                phase.name,
                f"{summary.requests:,}",
                f"{summary.errors:,}",
                milliseconds(latency.mean),
                *(_percentile(seconds, summary.latency_n) for seconds in (latency.p50, latency.p90, latency.p99)),
                "-" if summary.images_per_s is None else f"{summary.images_per_s:,.1f}",
                milliseconds(summary.wall_s_per_image),
                _ratio(latency, baseline.latency_s) if baseline else "",
                "-" if summary.weights_bytes is None else f"{summary.weights_bytes / 1e6:,.1f}",
                _load(phase, summary),
            )
        )
    return _aligned(rows, len(_FIGURES), len(run.phases)) + "\n" + _wrapped(_EXPLANATION, "")


def _load(phase: Phase, summary: Summary) -> str:
    if summary.load_bytes_per_s is None:
        return "" if phase.name == "warm" else "missing"
    return f"{summary.load_bytes_per_s / 1e9:,.2f}"


def _totals(run: Run) -> str:
    """All models together: mean, p50 and p99 with their intervals; what was waited for where. "" where nothing was answered."""
    rows = [
        _times(name, phase, times)
        for name, of in _clocks(run)
        for phase in run.phases
        if phase.total.latency_n and (times := of(phase.total)) is not None
    ]
    if not rows:
        return ""
    return _aligned([_TOTALS, *rows], 1, 0) + "\n" + _wrapped(_OPEN_TIMES if is_open(run) else _CLOSED_TIMES, "")


def _clocks(run: Run) -> list[tuple[str, Callable[[Summary], Latency | SendLag | None]]]:
    """The times to print and how to get them; in a closed loop the service time is the latency but for connecting."""
    others: list[tuple[str, Callable[[Summary], Latency | SendLag | None]]] = [
        ("first byte", lambda total: total.first_byte_s),
        ("send lag", lambda total: total.send_lag_s),
    ]
    if not is_open(run):
        return [("latency", lambda total: total.latency_s), *others]
    return [("response", lambda total: total.latency_s), ("service", lambda total: total.service_s), *others]


def _times(name: str, phase: Phase, times: Latency | SendLag) -> tuple[str, ...]:
    of_lag = isinstance(times, SendLag)
    return (
        name,
        phase.name,
        _estimate(times, "mean"),
        _estimate(times, "p50"),
        "" if of_lag else _estimate(times, "p90"),
        _estimate(times, "p99"),
        "" if of_lag else _estimate(times, "p999"),
        _estimate(times, "largest"),
    )


def _estimate(times: Latency | SendLag, figure: str) -> str:
    """A figure with its interval, where that is to be printed: it is wide."""
    seconds: float | None = getattr(times, figure)
    if seconds is None:
        return "n/a"
    interval = None if isinstance(times, SendLag) or figure in {"p90", "p999"} else (times.intervals or {}).get(figure)
    if interval is None:
        return milliseconds(seconds)
    return f"{milliseconds(seconds)} [{', '.join(map(milliseconds, interval))}]"


def _percentile(seconds: float | None, samples: int) -> str:
    return f"n/a (n={samples})" if seconds is None else milliseconds(seconds)


def _ratio(cold: Latency, warm: Latency) -> str:
    return f"{cold.mean / warm.mean:.2f}" if cold.mean and warm.mean else "-"


def _stages(run: Run) -> str:
    told = {stage for _, _, summary in _rows_of(run) for stage in summary.stages_s or ()}
    if not told:
        return "The server does not tell its stages."
    stages = [stage for stage in STAGES if stage in told] + sorted(told - set(STAGES))
    rows: list[tuple[str, ...]] = [("server's stages, mean ms", "phase", *stages)]
    for name, phase, summary in _rows_of(run):
        means = summary.stages_s or {}
        rows.append((name, phase.name, *(milliseconds(means.get(stage)) for stage in stages)))
    return _aligned(rows, 1, len(run.phases))


def _aligned(rows: Sequence[tuple[str, ...]], headers: int, totals: int) -> str:
    """Columns just wide enough, text left and numbers right, a line below the headers and one above the last `totals` rows."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    others = sum(widths[1:]) + 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(8, WIDTH - others))
    lines = []
    for row in rows:
        name = row[0] if len(row[0]) <= widths[0] else f"{row[0][: widths[0] - 1]}~"
        cells = [name.ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    rule = "-" * (widths[0] + others)
    lines.insert(headers, rule)
    if totals:
        lines.insert(len(lines) - totals, rule)
    return "\n".join(lines)
