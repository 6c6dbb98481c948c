"""dlload.mlperf.settings and .options: what is asked for, what LoadGen gets, and what is refused."""

import argparse
from pathlib import Path

import pytest
from dlload.errors import OptionError
from dlload.mlperf.library import load_generator
from dlload.mlperf.options import MlperfOptions, add_mlperf_options, read_mlperf_options
from dlload.mlperf.settings import SCENARIOS, derived_seed

SEEDS = {
    "qsl_rng_seed": derived_seed(1, "qsl"),
    "sample_index_rng_seed": derived_seed(1, "sample_index"),
    "schedule_rng_seed": derived_seed(1, "schedule"),
}
COMMON = SEEDS | {"min_duration_ms": 10_000, "max_duration_ms": 0, "min_query_count": 100}


def read(*arguments: str) -> MlperfOptions:
    parser = argparse.ArgumentParser()
    add_mlperf_options(parser)
    return read_mlperf_options(parser.parse_args(["--target", "http://127.0.0.1:8080", *arguments]))


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (
            ["SingleStream"],
            {"single_stream_expected_latency_ns": 1_000_000, "single_stream_target_latency_percentile": 0.9},
        ),
        (
            ["MultiStream", "--samples-per-query", "4", "--target-latency", "0.002"],
            {
                "multi_stream_expected_latency_ns": 2_000_000,
                "multi_stream_target_latency_percentile": 0.99,
                "multi_stream_samples_per_query": 4,
            },
        ),
        (
            ["Server", "--target-qps", "50.5", "--target-latency", "0.015", "--percentile", "0.97"],
            {
                "server_target_qps": 50.5,
                "server_target_latency_ns": 15_000_000,
                "server_target_latency_percentile": 0.97,
            },
        ),
        (["Offline", "--target-qps", "700"], {"offline_expected_qps": 700.0}),
    ],
)
def test_each_scenario_sets_its_own_fields(arguments: list[str], fields: dict[str, float]) -> None:
    options = read("--scenario", *arguments)
    assert options.settings.fields() == COMMON | fields
    made = options.settings.test_settings(load_generator())
    assert made.scenario.name == arguments[0]
    assert made.mode.name == "PerformanceOnly"
    assert {name: getattr(made, name) for name in fields} == fields


def test_durations_counts_mode_and_seeds_reach_loadgen() -> None:
    options = read(
        *("--scenario", "SingleStream", "--mode", "accuracy", "--min-duration", "0.25", "--max-duration", "60"),
        *("--min-queries", "7", "--qsl-seed", "1", "--sample-index-seed", "2", "--schedule-seed", str(2**64 - 1)),
    )
    made = options.settings.test_settings(load_generator())
    assert made.mode.name == "AccuracyOnly"
    assert (made.min_duration_ms, made.max_duration_ms, made.min_query_count) == (250, 60_000, 7)
    assert (made.qsl_rng_seed, made.sample_index_rng_seed, made.schedule_rng_seed) == (1, 2, 2**64 - 1)


def test_the_three_seeds_follow_from_one_and_differ() -> None:
    assert len(set(SEEDS.values())) == 3
    assert derived_seed(1, "qsl") == 3691310599999878436, "the same on every machine, for ever"
    assert read("--scenario", "SingleStream", "--seed", "2").settings.qsl_seed == derived_seed(2, "qsl")


@pytest.mark.parametrize(
    ("arguments", "connections"),
    [
        (["SingleStream"], 1),
        (["MultiStream"], 8),
        (["MultiStream", "--samples-per-query", "3"], 3),
        (["Server", "--target-qps", "1"], 32),
        (["Offline", "--target-qps", "1", "--connections", "5"], 5),
    ],
)
def test_there_are_as_many_connections_as_a_scenario_has_in_flight(arguments: list[str], connections: int) -> None:
    assert read("--scenario", *arguments).connections == connections


def test_the_streams_options_mean_the_same_here(tmp_path: Path) -> None:
    options = read(
        *("--scenario", "SingleStream", "--services", "Alpha,beta", "--mix", "zipf:1", "--images", str(tmp_path)),
        *("--timeout", "3", "--protocol", "deepdetect", "--results", "out", "--overwrite", "--samples", "9"),
    )
    stream = options.stream
    assert (stream.url, stream.services, stream.mix) == ("http://127.0.0.1:8080", ("alpha", "beta"), "zipf:1")
    assert (stream.images, stream.timeout_s, stream.protocol) == (str(tmp_path), 3.0, "deepdetect")
    assert (stream.results, stream.overwrite, options.samples) == (Path("out"), True, 9)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["Server"], "the scenario Server needs --target-qps"),
        (["Offline"], "the scenario Offline needs --target-qps"),
        (["SingleStream", "--target-qps", "5"], "--target-qps means nothing in the scenario SingleStream"),
        (["Offline", "--target-qps", "5", "--target-latency", "1"], "--target-latency means nothing"),
        (["Offline", "--target-qps", "5", "--percentile", "0.9"], "--percentile means nothing"),
        (["SingleStream", "--samples-per-query", "2"], "--samples-per-query means nothing"),
        (["Server", "--target-qps", "0"], "--target-qps 0: a number above 0"),
        (["Server", "--target-qps", "nan"], "--target-qps nan: a number above 0"),
        (["SingleStream", "--percentile", "90"], "--percentile 90: a fraction between 0 and 1"),
        (["SingleStream", "--target-latency", "-1"], "--target-latency -1: a number above 0"),
        (["SingleStream", "--min-duration", "0"], "--min-duration 0: a number above 0"),
        (["SingleStream", "--max-duration", "1"], "--max-duration 1: less than --min-duration 10"),
        (["SingleStream", "--min-queries", "0"], "--min-queries 0: at least 1"),
        (["MultiStream", "--samples-per-query", "0"], "--samples-per-query 0: at least 1"),
        (["SingleStream", "--samples", "0"], "--samples 0: at least 1"),
        (["SingleStream", "--connections", "0"], "--connections 0: at least 1"),
        (["SingleStream", "--qsl-seed", "-1"], "--qsl-seed -1: LoadGen takes 0 to"),
        (
            ["SingleStream", "--sample-index-seed", str(2**64)],
            "--sample-index-seed 18446744073709551616: LoadGen takes",
        ),
        (["SingleStream", "--target", "nowhere"], "nowhere: no address of a server"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments: list[str], text: str) -> None:
    with pytest.raises(OptionError) as caught:
        read("--scenario", *arguments)
    assert text in str(caught.value)


def test_every_scenario_of_loadgen_is_there() -> None:
    assert set(load_generator().TestScenario.__members__) == set(SCENARIOS)
