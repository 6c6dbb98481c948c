"""The table at the end of a bench: figures with their units, and why a row has none."""

from typing import Any

import pytest
from dlclient.bench.naming import describe
from dlclient.bench.results_table import brief, figures, remark, results_table
from dlclient.bench_result import Failure, Load, MaxBatch, Point, Setting, Utilization
from dlclient.results import Latency, Reason


def point(setting: Setting = Setting(model="vgg16", engine="torch"), **fields: Any) -> Point:  # noqa: B008  frozen
    return Point(id=setting.id, setting=setting, started="", seconds=1.0, **fields)


def measured(setting: Setting, mean_s: float, p99_s: float | None, per_s: float, **fields: Any) -> Point:
    latency = Latency(mean=mean_s, p50=mean_s / 2, p90=None, p99=p99_s)
    return point(setting, latency_s=latency, images_per_s=per_s, iterations=700 if p99_s else 12, **fields)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (measured(Setting(model="a", batch_size=4), 0.2, None, 20.0), ("50.00", "100.0", "n/a (n=12)", "20.00")),
        (measured(Setting(model="a"), 0.0123456, 0.5, 81.0), ("12.35", "6.173", "500.0", "81.00")),
        (measured(Setting(model="a", question="throughput", in_flight=4), 0.2, 1.5, 40.0), ("25.00", "100.0", "1,500", "40.00")),
        (point(failure=Failure(kind="crash", stage="load", text="it crashed: look")), ("", "", "", "")),
        (point(Setting(model="a", question="load")), ("", "", "", "")),
    ],
)  # fmt: skip
def test_figures_are_per_image_per_batch_and_per_second(one: Point, expected: tuple[str, ...]) -> None:
    assert figures(one) == expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (
            point(failure=Failure(kind="time-out", stage="load", text="too slow: wait")),
            "TIME-OUT in load: too slow: wait",
        ),
        (point(simulated=True, errors=2), "SIMULATED; 2 ERRORS"),
        (point(reasons=(Reason("x", "it drifts", "cool it"),)), "NOT TO BE TRUSTED: it drifts: cool it"),
        (point(max_batch=MaxBatch(largest=48, smallest_failed=49, limit_bytes=None, tries=())), "largest batch 48"),
        (point(utilization=Utilization(samples=1, every_s=0.1, cpu=0.5)), "CPU 50% busy"),
        (
            point(Setting(model="a", question="load"), load=Load(prepare_s=0.5, load_s=0.02, first_run_s=1.5)),
            "prepared in 500.0 ms, loaded in 20.00 ms, first inference 1,500 ms",
        ),
    ],
)
def test_what_is_not_a_time_is_a_remark(one: Point, expected: str) -> None:
    assert remark(one) == expected


def test_a_line_of_progress_is_long_only_about_a_failure() -> None:
    failed = point(failure=Failure(kind="crash", stage="load", text="it crashed: look"))
    assert brief(failed) == remark(failed) == "CRASH in load: it crashed: look"
    doubtful = point(simulated=True, warnings=(Reason("x", "it drifts", "cool it"), Reason("y", "it jumps", "hold it")))
    assert brief(doubtful) == "SIMULATED; warning"


def test_only_what_tells_points_apart_has_a_column_and_a_reason_is_told_once() -> None:
    failed = Failure(kind="unsupported", stage="start", text="there is no GPU: choose another")
    points = [
        measured(Setting(model="vgg16", engine="torch", options={"hint": "latency"}), 0.01, None, 100.0),
        point(Setting(model="vgg16", engine="torch", device="cuda:0"), failure=failed),
        point(Setting(model="vgg16", engine="torch", device="cuda:1"), failure=failed),
    ]
    table = results_table(points)
    head, rule, first, second, third, _, note, *_ = table.splitlines()
    assert head.split() == [
        "model",
        "engine",
        "device",
        "question",
        "batch",
        "hint",
        *["ms/image", "p50", "ms", "p99", "ms", "images/s"],
    ]
    assert set(rule) == {"-"}
    assert first.split()[:6] == ["vgg16", "torch", "cpu", "latency", "1", "latency"]
    assert second.endswith("UNSUPPORTED in start [1]")
    assert third.endswith("UNSUPPORTED in start [1]")
    assert note == "[1] there is no GPU: choose another"
    assert "ms/image: mean time of a batch / its images" in table
    assert "ms/image:" not in results_table(points[1:])


def test_how_many_in_flight_an_engine_chose_is_told() -> None:
    chosen = Setting(model="a", question="throughput", in_flight=0)
    points = [measured(chosen, 0.1, None, 40.0, read_back={"in_flight": 6}), point(Setting(model="a"))]
    _, _, first, second, *_ = results_table(points).splitlines()
    assert first.split()[:5] == ["a", "throughput", "1", "6", "25.00"]
    assert second.split() == ["a", "latency", "1"]


def test_a_point_is_described_by_what_sets_it_apart() -> None:
    assert describe(Setting(model="a", question="max-batch", batch_size=1)) == "a cpu max-batch"
    setting = Setting(
        model="a", engine="openvino", precision="bf16", question="throughput", batch_size=2, in_flight=4, threads=1,
        affinity="0-1", input="image", options={"hint": "throughput"},
    )  # fmt: skip
    assert describe(Setting(model="a", question="throughput", in_flight=0)) == "a cpu throughput batch 1 best in flight"
    expected = "a openvino cpu bf16 throughput batch 2 4 in flight 1 thread on CPUs 0-1 image hint=throughput"
    assert describe(setting) == expected
