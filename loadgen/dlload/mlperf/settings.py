"""What LoadGen is told to do: options -> one checked Settings -> the fields of LoadGen's TestSettings."""

import argparse
import hashlib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec

from dlload.errors import OptionError

Scenario = Literal["SingleStream", "MultiStream", "Server", "Offline"]
Mode = Literal["performance", "accuracy"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
MODES: tuple[Mode, ...] = get_args(Mode)

TARGET_LATENCIES_S: Mapping[str, float] = MappingProxyType(
    {"SingleStream": 0.001, "MultiStream": 0.008, "Server": 0.1, "Offline": 0.0}
)
PERCENTILES: Mapping[str, float] = MappingProxyType(
    {"SingleStream": 0.9, "MultiStream": 0.99, "Server": 0.99, "Offline": 0.99}
)
"""LoadGen's own defaults (its test_settings.h), which are those of MLPerf's image classification."""

_MEANINGLESS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "target_qps": ("SingleStream", "MultiStream"),
        "target_latency": ("Offline",),
        "percentile": ("Offline",),
        "samples_per_query": ("SingleStream", "Server", "Offline"),
    }
)
"""Options and the scenarios that know nothing like them."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """As LoadGen gets them; a part of mlperf.json."""

    scenario: Scenario
    mode: Mode = "performance"
    target_qps: float | None = None
    """Server: samples a second, Poisson. Offline: what to expect, so that enough are sent for `min_duration_s`."""
    target_latency_s: float
    """Server: the bound. SingleStream, MultiStream: what to expect, as MLPerf's user.conf has it; no bound."""
    percentile: float
    """Of the latency, as a fraction: the one that is reported (SingleStream, MultiStream) or bounded (Server)."""
    min_duration_s: float = 10.0
    max_duration_s: float | None = None
    min_queries: int = 100
    """Offline: samples of its one query."""
    samples_per_query: int = 1
    qsl_seed: int
    sample_index_seed: int
    schedule_seed: int

    def fields(self) -> dict[str, float | bool]:
        """TestSettings' fields but for `scenario` and `mode`, which are LoadGen's own types."""
        latency_ns = round(self.target_latency_s * 1e9)
        own: dict[str, float | bool] = {
            "min_duration_ms": _milliseconds(self.min_duration_s),
            "max_duration_ms": 0 if self.max_duration_s is None else _milliseconds(self.max_duration_s),
            "min_query_count": self.min_queries,
            "qsl_rng_seed": self.qsl_seed,
            "sample_index_rng_seed": self.sample_index_seed,
            "schedule_rng_seed": self.schedule_seed,
        }
        match self.scenario:
            case "SingleStream":
                own["single_stream_expected_latency_ns"] = latency_ns
                own["single_stream_target_latency_percentile"] = self.percentile
            case "MultiStream":
                own["multi_stream_expected_latency_ns"] = latency_ns
                own["multi_stream_target_latency_percentile"] = self.percentile
                own["multi_stream_samples_per_query"] = self.samples_per_query
            case "Server":
                own["server_target_qps"] = self.target_qps or 0.0
                own["server_target_latency_ns"] = latency_ns
                own["server_target_latency_percentile"] = self.percentile
            case "Offline":
                own["offline_expected_qps"] = self.target_qps or 0.0
        return own

    def test_settings(self, library: Any) -> Any:
        """LoadGen's own object. `library`: the module mlperf_loadgen."""
        made = library.TestSettings()
        made.scenario = getattr(library.TestScenario, self.scenario)
        made.mode = library.TestMode.AccuracyOnly if self.mode == "accuracy" else library.TestMode.PerformanceOnly
        for name, value in self.fields().items():
            setattr(made, name, value)
        return made


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the group of LoadGen's options."""
    group = parser.add_argument_group("LoadGen's settings")
    add = group.add_argument
    add("--scenario", required=True, choices=SCENARIOS, help="Which of MLPerf's scenarios.")
    add(
        "--mode",
        choices=MODES,
        default="performance",
        help="performance: LoadGen measures and judges. accuracy: every sample is asked once, and the answers (their "
        "bodies, in hexadecimal) are kept in mlperf_log_accuracy.json. Default: performance.",
    )
    add(
        "--target-qps",
        type=float,
        metavar="R",
        help="Server: samples a second to send, Poisson. Offline: samples a second to expect at most, which with "
        "--min-duration says how many are sent. Needed for both.",
    )
    add(
        "--target-latency",
        type=float,
        metavar="S",
        help="Server: the bound that --percentile of the latencies must keep, in seconds. SingleStream, MultiStream: the "
        "least latency to expect of a query; LoadGen prepares as many as fit into --min-duration twice. Default: 0.1, "
        "0.001, 0.008.",
    )
    add(
        "--percentile",
        type=float,
        metavar="P",
        help="Of the latency, as a fraction. Default: 0.9 for SingleStream, else 0.99.",
    )
    add("--min-duration", type=float, default=10.0, metavar="S", help="Seconds, at least. Default: 10 (MLPerf: 600).")
    add("--max-duration", type=float, metavar="S", help="Seconds, at most. Default: no such limit.")
    add(
        "--min-queries",
        type=int,
        default=100,
        metavar="N",
        help="Queries, at least; Offline: samples of its one query. LoadGen's verdict needs 64 for a percentile of 0.9 and "
        "662 for 0.99 (Server: 44 and 459). Default: 100.",
    )
    add("--samples-per-query", type=int, metavar="N", help="MultiStream: images that come together. Default: 8.")
    for name, what in (
        ("qsl", "the order in which the samples are loaded"),
        ("sample-index", "which sample comes when"),
        ("schedule", "the times between the queries of Server"),
    ):
        add(f"--{name}-seed", type=int, metavar="N", help=f"For {what}. Default: from --seed.")


def read_settings(given: argparse.Namespace) -> Settings:
    """Check what was parsed. Raises OptionError."""
    scenario: Scenario = given.scenario
    for name, scenarios in _MEANINGLESS.items():
        if scenario in scenarios and getattr(given, name) is not None:
            raise OptionError(f"--{name.replace('_', '-')} means nothing in the scenario {scenario}; leave it out")
    target_qps = None
    if scenario in {"Server", "Offline"}:
        if given.target_qps is None:
            raise OptionError(
                f"the scenario {scenario} needs --target-qps: how many samples a second to send or expect"
            )
        target_qps = _above_0(given.target_qps, "--target-qps")
    percentile = PERCENTILES[scenario] if given.percentile is None else given.percentile
    if not 0 < percentile < 1:
        raise OptionError(f"--percentile {percentile:g}: a fraction between 0 and 1 is needed, such as 0.99")
    latency_s = TARGET_LATENCIES_S[scenario]
    if given.target_latency is not None:
        latency_s = _above_0(given.target_latency, "--target-latency")
    per_query = 1
    if scenario == "MultiStream":
        per_query = _at_least_1(
            8 if given.samples_per_query is None else given.samples_per_query, "--samples-per-query"
        )
    min_duration_s = _above_0(given.min_duration, "--min-duration")
    max_duration_s = None if given.max_duration is None else _above_0(given.max_duration, "--max-duration")
    if max_duration_s is not None and max_duration_s < min_duration_s:
        raise OptionError(f"--max-duration {max_duration_s:g}: less than --min-duration {min_duration_s:g}; give more")
    return Settings(
        scenario=scenario,
        mode=given.mode,
        target_qps=target_qps,
        target_latency_s=latency_s,
        percentile=percentile,
        min_duration_s=min_duration_s,
        max_duration_s=max_duration_s,
        min_queries=_at_least_1(given.min_queries, "--min-queries"),
        samples_per_query=per_query,
        qsl_seed=_seed(given, "qsl"),
        sample_index_seed=_seed(given, "sample_index"),
        schedule_seed=_seed(given, "schedule"),
    )


def derived_seed(seed: int, purpose: str) -> int:
    """The first 8 bytes, big-endian, of SHA-256("dlserve-mlperf/1:<seed>:<purpose>"): LoadGen's seeds have 64 bits."""
    return int.from_bytes(hashlib.sha256(f"dlserve-mlperf/1:{seed}:{purpose}".encode()).digest()[:8], "big")


def _seed(given: argparse.Namespace, purpose: str) -> int:
    asked: int | None = getattr(given, f"{purpose}_seed")
    if asked is None:
        return derived_seed(int(given.seed), purpose)
    if not 0 <= asked < 1 << 64:
        raise OptionError(f"--{purpose.replace('_', '-')}-seed {asked}: LoadGen takes 0 to 2**64 - 1")
    return asked


def _above_0(number: float, option: str) -> float:
    if not (number > 0 and math.isfinite(number)):
        raise OptionError(f"{option} {number:g}: a number above 0 is needed")
    return number


def _at_least_1(number: int, option: str) -> int:
    if number < 1:
        raise OptionError(f"{option} {number}: at least 1 is needed")
    return number


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
