"""dlload.mlperf.summary on real logs of LoadGen 6.0.17 (details that nobody reads here are cut out of them)."""

import re
from pathlib import Path

import pytest
from dlload.errors import LoadGenError
from dlload.mlperf.summary import DETAIL_FILE, SUMMARY_FILE, LoadGenResult, parse_logs, read_logs

LOGS = Path(__file__).with_name("mlperf_logs")


def read(name: str) -> LoadGenResult:
    return read_logs(LOGS / name)


@pytest.mark.parametrize(
    ("name", "validity", "codes"),
    [
        ("single-stream", "VALID", []),
        ("server", "VALID", []),
        ("server-above-bound", "INVALID", ["latency-bound", "early-stopping"]),
        ("multi-stream-too-few", "INVALID", ["early-stopping"]),
        ("offline-too-short", "INVALID", ["min-duration"]),
        ("ran-out", "INVALID", ["min-duration", "loadgen-error"]),
        ("accuracy", None, []),
    ],
)
def test_the_verdict_comes_with_its_reasons(name: str, validity: str | None, codes: list[str]) -> None:
    result = read(name)
    assert result.validity == validity
    assert [reason.code for reason in result.reasons] == codes
    assert result.version.startswith("6.0.17")


def test_what_loadgen_says_to_people_is_what_is_read() -> None:
    for folder in LOGS.iterdir():
        result = read(folder.name)
        summary = (folder / SUMMARY_FILE).read_text()
        figures = result.query_latency_s or result.latency_s
        if figures is None:
            continue
        for name, seconds in figures.percentiles_s.items():
            assert f"{float(name):.2f} percentile latency (ns)   : {round(seconds * 1e9)}\n" in summary, folder
        for name, seconds in (("Min", figures.min_s), ("Max", figures.max_s), ("Mean", figures.mean_s)):
            assert re.search(rf"^{name} latency \(ns\) +: {round(seconds * 1e9)}$", summary, re.MULTILINE), folder


def test_latencies_are_seconds_in_order() -> None:
    figures = read("single-stream").latency_s
    assert figures is not None
    assert list(figures.percentiles_s) == ["50", "90", "95", "97", "99", "99.9"]
    values = [figures.min_s, *figures.percentiles_s.values(), figures.max_s]
    assert values == sorted(values)
    assert 0.005 < figures.mean_s < 0.1, "the model slept for 5 ms"


def test_each_scenario_has_its_own_figures() -> None:
    single, server, multi, offline = map(read, ("single-stream", "server", "multi-stream-too-few", "offline-too-short"))
    assert single.early_stopping_latency_s is not None
    assert single.query_latency_s is None
    assert server.overlatency_queries == 0
    assert server.samples_per_s == pytest.approx(59.4, abs=0.5)
    assert multi.query_latency_s is not None
    assert multi.latency_s is not None
    assert multi.query_latency_s.mean_s > multi.latency_s.mean_s
    assert "Need to process at least 662 queries" in multi.early_stopping
    assert offline.queries == 1
    assert read("accuracy").latency_s is None


def test_reasons_say_how_far_off_it_was() -> None:
    above, early = read("server-above-bound").reasons
    assert above.text == "LoadGen: the latency bound was not kept: 51 of 51 queries were above it"
    assert "more queries" in early.text
    assert "Ran out of generated queries" in read("ran-out").reasons[-1].text


def test_valid_must_stand_in_both_logs() -> None:
    detail = (LOGS / "server" / DETAIL_FILE).read_text()
    result = parse_logs("Result is : INVALID\n", detail)
    assert result.validity == "INVALID"
    assert [reason.code for reason in result.reasons] == ["loadgen-invalid"]


def test_warnings_are_kept() -> None:
    line = '{"key": "warning_generic_message", "value": "Odd.", "metadata": {"is_error": false, "is_warning": true}}'
    assert parse_logs("", f":::MLLOG {line}\n").warnings == ("warning_generic_message: Odd",)


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        ("", "mlperf_log_detail.txt is empty"),
        ("no log\n", "mlperf_log_detail.txt is empty"),
        (':::MLLOG {"key": "a"}\n:::MLLOG {"key": "b", "val', "mlperf_log_detail.txt:2: "),
    ],
)
def test_a_torn_log_is_an_error_that_names_the_line(detail: str, text: str) -> None:
    with pytest.raises(LoadGenError) as caught:
        parse_logs("", detail)
    assert text in str(caught.value)


def test_no_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadGenError) as caught:
        read_logs(tmp_path)
    assert SUMMARY_FILE in str(caught.value)
