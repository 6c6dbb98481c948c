"""LoadGen's logs -> what LoadGen says: its verdict, the reasons, its latencies. Pure but for reading the two files.

The figures are those of mlperf_log_detail.txt, whose lines are ":::MLLOG " and a JSON object with a key and a value;
VALID must stand in mlperf_log_summary.txt too, which people read.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
from dlclient.results import Reason

from dlload.errors import LoadGenError

SUMMARY_FILE = "mlperf_log_summary.txt"
DETAIL_FILE = "mlperf_log_detail.txt"
ACCURACY_FILE = "mlperf_log_accuracy.json"
TRACE_FILE = "mlperf_log_trace.json"
LOG_FILES = (SUMMARY_FILE, DETAIL_FILE, ACCURACY_FILE, TRACE_FILE)

_PREFIX = ":::MLLOG "
_PERCENTILE = re.compile(r"result_(\d+\.\d+)_percentile_(per_query_)?latency_ns")
_RATES = ("result_samples_per_second", "result_completed_samples_per_sec", "result_qps_with_loadgen_overhead")
"""Of Offline, Server and SingleStream; LoadGen gives none for MultiStream."""

Validity = Literal["VALID", "INVALID"]


class Figures(msgspec.Struct, frozen=True):
    """Latencies in seconds as LoadGen computed them: a percentile p is the sample at index floor(n * p)."""

    min_s: float
    mean_s: float
    max_s: float
    percentiles_s: dict[str, float]
    """By name: "50", "90", "95", "97", "99", "99.9"."""


class LoadGenResult(msgspec.Struct, frozen=True, kw_only=True):
    """What LoadGen's logs say. None: it says nothing of the kind in this scenario or mode."""

    version: str
    validity: Validity | None
    """None in accuracy mode, where LoadGen judges nothing."""
    reasons: tuple[Reason, ...] = ()
    """Why it is not VALID, and every error in its log."""
    warnings: tuple[str, ...] = ()
    queries: int | None = None
    overlatency_queries: int | None = None
    """Server: those above the bound."""
    samples_per_s: float | None = None
    early_stopping: str = ""
    """What its rule for too few samples says (MLPerf's early stopping)."""
    early_stopping_latency_s: float | None = None
    """SingleStream, MultiStream: the percentile that it can stand behind with 99 % confidence."""
    latency_s: Figures | None = None
    """Of the samples."""
    query_latency_s: Figures | None = None
    """MultiStream: of whole queries."""


class _Metadata(msgspec.Struct):
    is_error: bool = False
    is_warning: bool = False


class _Line(msgspec.Struct):
    key: str
    value: Any = None
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_lines = msgspec.json.Decoder(_Line)


def read_logs(folder: Path) -> LoadGenResult:
    """What the logs in a folder say, once LoadGen has ended. Raises LoadGenError."""
    try:
        summary = (folder / SUMMARY_FILE).read_text(encoding="utf-8", errors="replace")
        detail = (folder / DETAIL_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise LoadGenError(f"LoadGen left no log to read: {exc}; run it again in another folder (--results)") from exc
    return parse_logs(summary, detail)


def parse_logs(summary: str, detail: str) -> LoadGenResult:
    """The two logs' content. Raises LoadGenError."""
    lines = _decode(detail)
    values = {line.key: line.value for line in lines}
    validity: Validity | None = None
    if "result_validity" in values:
        both = values["result_validity"] == "VALID" and re.search(r"^Result is : VALID$", summary, re.MULTILINE)
        validity = "VALID" if both else "INVALID"
    errors = [_said(line) for line in lines if line.metadata.is_error]
    return LoadGenResult(
        version=str(values.get("loadgen_version", "unknown")),
        validity=validity,
        reasons=_reasons(values, validity, errors),
        warnings=tuple(_said(line) for line in lines if line.metadata.is_warning),
        queries=values.get("result_query_count"),
        overlatency_queries=values.get("result_overlatency_query_count"),
        samples_per_s=next((float(values[key]) for key in _RATES if key in values), None),
        early_stopping=_plain(values.get("early_stopping_result", "")),
        early_stopping_latency_s=_estimate_s(values),
        latency_s=_figures(values, per_query=False),
        query_latency_s=_figures(values, per_query=True),
    )


def _decode(detail: str) -> list[_Line]:
    lines: list[_Line] = []
    for number, text in enumerate(detail.splitlines(), start=1):
        if text.startswith(_PREFIX):
            try:
                lines.append(_lines.decode(text.removeprefix(_PREFIX)))
            except msgspec.DecodeError as exc:
                raise LoadGenError(f"{DETAIL_FILE}:{number}: {exc}; see whether the disk was full, run again") from exc
    if not lines:
        raise LoadGenError(f"{DETAIL_FILE} is empty; see whether the disk was full, run again")
    return lines


def _reasons(values: dict[str, Any], validity: Validity | None, errors: Iterable[str]) -> tuple[Reason, ...]:
    """One for each constraint that LoadGen says is not met."""
    reasons: list[Reason] = []

    def unless(key: str, code: str, text: str, cure: str) -> None:
        if values.get(key) is False:
            reasons.append(Reason(code, f"LoadGen: {text}", cure))

    unless(
        "result_perf_constraints_met",
        "latency-bound",
        f"the latency bound was not kept: {values.get('result_overlatency_query_count')} of "
        f"{values.get('result_query_count')} queries were above it",
        "lower --target-qps, or allow a higher --target-latency",
    )
    unless(
        "result_min_duration_met",
        "min-duration",
        "it ran out of queries before --min-duration",
        "let it prepare more: a higher --target-qps (Server, Offline) or a lower --target-latency (SingleStream, MultiStream)",
    )
    unless(
        "result_min_queries_met",
        "min-queries",
        "it ended before --min-queries",
        "leave --max-duration out or raise it, or ask for fewer --min-queries",
    )
    unless(
        "early_stopping_met",
        "early-stopping",
        f"too few queries for its percentile: {_plain(values.get('early_stopping_result', ''))}",
        "ask for more --min-queries (or a longer --min-duration), or a lower --percentile",
    )
    reasons.extend(Reason("loadgen-error", f"LoadGen: {error}", f"see {DETAIL_FILE}") for error in errors)
    if validity == "INVALID" and not reasons:
        reasons.append(Reason("loadgen-invalid", "LoadGen says INVALID", f"see {SUMMARY_FILE} for why"))
    return tuple(reasons)


def _figures(values: dict[str, Any], *, per_query: bool) -> Figures | None:
    infix = "query_" if per_query else ""
    ends = [values.get(f"result_{name}_{infix}latency_ns") for name in ("min", "mean", "max")]
    if None in ends:
        return None
    percentiles: dict[str, float] = {}
    for key, value in values.items():
        found = _PERCENTILE.fullmatch(key)
        if found and bool(found[2]) == per_query:
            percentiles[f"{float(found[1]):g}"] = value / 1e9
    lowest, mean, highest = (float(value or 0) / 1e9 for value in ends)
    return Figures(lowest, mean, highest, percentiles)


def _estimate_s(values: dict[str, Any]) -> float | None:
    """SingleStream has two, for itself (ss) and for what it says of MultiStream (ms); 0 where there are too few queries."""
    found = values.get("early_stopping_latency_ss", values.get("early_stopping_latency_ms"))
    return float(found) / 1e9 if found else None


def _said(line: _Line) -> str:
    return f"{line.key}: {_plain(str(line.value))}"


def _plain(text: str) -> str:
    """LoadGen's bullets as sentences in a row, the last without its full stop."""
    return " ".join(text.replace("*", " ").split()).rstrip(".")
