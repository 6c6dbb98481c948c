"""The result as text: verdict first, then warm beside cold per model and in total, then the server's stages."""

import textwrap
from collections.abc import Iterable, Sequence

from dlclient.results import Latency, Phase, Reason, Run, Summary
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


def result_table(run: Run) -> str:
    """Everything that a person wants to see when the run is over; at most 120 columns."""
    blocks = [_verdict(run), _figures(run), _send_lag(run), _stages(run), _notes("warning", run.warnings)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def search_table(result: SearchResult) -> str:
    """What a search for a rate found: the answer, then the latency/throughput curve."""
    wanted = ",".join(result.slo)
    rate = "no rate" if result.rate_per_s is None else f"{result.rate_per_s:.4g} requests/s"
    head = _wrapped(f"{result.found.upper()}: {rate} for {wanted}. {result.sentence}", "  ")
    standing = "\n".join(_wrapped(f"confirmed: {one.sentence}", "  ") for one in result.objectives)
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
    line = (
        f"{run.verdict.upper()}{stamp}: {plan.requests:,} requests a phase, {plan.users} users, batch {plan.batch_size}, "
        f"seed {plan.seeds}, {run.target.protocol} to {run.target.url}"
    )
    reasons = _notes("reason", run.reasons)
    return _wrapped(line, "") + (f"\n{reasons}" if reasons else "")


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


def _send_lag(run: Run) -> str:
    """How far the load tester itself was behind; "" where nothing was answered."""
    told = [
        f"{phase.name} mean {milliseconds(phase.total.send_lag_s.mean)}, "
        f"p99 {_percentile(phase.total.send_lag_s.p99, phase.total.latency_n)}"
        for phase in run.phases
        if phase.total.send_lag_s is not None
    ]
    return _wrapped(f"Send lag, ms from due to sent, a part of the latency: {'; '.join(told)}.", "") if told else ""


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
    """Columns just wide enough, text left and numbers right, a line below the headers and one above the totals."""
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
    lines.insert(len(lines) - totals, rule)
    return "\n".join(lines)
