"""The result as text: verdict first, then LoadGen's latencies beside ours."""

from collections.abc import Sequence

from dlload.mlperf.result import MlperfResult
from dlload.mlperf.summary import Figures
from dlload.prose import notes, wrapped
from dlload.table import milliseconds

_PERCENTILES = ("50", "90", "95", "97", "99", "99.9")


def result_table(result: MlperfResult) -> str:
    """Everything that a person wants to see when the run is over; at most 120 columns."""
    blocks = [_verdict(result), _latencies(result), _totals(result), notes("warning", result.warnings)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _verdict(result: MlperfResult) -> str:
    settings = result.settings
    stamp = " (SIMULATED device)" if result.simulated else ""
    said = "nothing (it did not end)"
    if result.loadgen is not None:
        said = result.loadgen.validity or "nothing (it judges no accuracy)"
    line = (
        f"{result.verdict.upper()}{stamp}: MLPerf {settings.scenario}, {settings.mode}; LoadGen says {said}; "
        f"{result.released:,} samples, {result.errors:,} errors, {result.connections} connections, seed "
        f"{result.samples.seed}, {result.target.protocol} to {result.target.url}"
    )
    reasons = notes("reason", result.reasons)
    return wrapped(line) + (f"\n{reasons}" if reasons else "")


def _latencies(result: MlperfResult) -> str:
    """LoadGen's begin when a sample was due, ours when LoadGen called to issue it."""
    rows: list[tuple[str, ...]] = []
    if result.loadgen is not None:
        for name, figures in (("samples", result.loadgen.latency_s), ("queries", result.loadgen.query_latency_s)):
            if figures is not None:
                rows.append((f"LoadGen's {name}", *_cells(figures)))
    own = result.total.latency_s
    if result.total.latency_n:
        count = result.total.latency_n
        named = {"50": own.p50, "90": own.p90, "99": own.p99}
        cells = ["" if name not in named else _own(named[name], count) for name in _PERCENTILES]
        rows.append(("ours, from issue to answer", milliseconds(own.mean), *cells, ""))
    if not rows:
        return ""
    return _aligned([("latency, ms", "mean", *(f"p{name}" for name in _PERCENTILES), "max"), *rows])


def _cells(figures: Figures) -> list[str]:
    percentiles = [milliseconds(figures.percentiles_s.get(name)) for name in _PERCENTILES]
    return [milliseconds(figures.mean_s), *percentiles, milliseconds(figures.max_s)]


def _own(seconds: float | None, samples: int) -> str:
    return f"n/a (n={samples})" if seconds is None else milliseconds(seconds)


def _totals(result: MlperfResult) -> str:
    parts: list[str] = []
    loadgen = result.loadgen
    if loadgen is not None and loadgen.samples_per_s is not None:
        parts.append(f"{loadgen.samples_per_s:,.1f} samples/s")
    if loadgen is not None and loadgen.early_stopping_latency_s is not None:
        percentile = f"p{result.settings.percentile * 100:g}"
        parts.append(f"{percentile} by early stopping {milliseconds(loadgen.early_stopping_latency_s)} ms")
    if result.temperatures:
        parts.append("weights found " + ", ".join(f"{where} {count:,}" for where, count in result.temperatures.items()))
    return wrapped("; ".join(parts) + ".") if parts else ""


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)
