"""dlclient.bench.figures: from samples to a point."""

from statistics import fmean, stdev

import pytest
from dlclient.bench.figures import measured
from dlclient.bench.job import Budget
from dlclient.bench.timing import Timed
from dlclient.bench_result import Point, Sample, Setting
from dlclient.errors import PointError


def point(times: list[float], **setting: object) -> Point:
    ends = [sum(times[: place + 1]) for place in range(len(times))]
    samples = tuple(Sample(end - time, time) for end, time in zip(ends, times, strict=True))
    return measured(bare(**setting), Timed(samples, ends[-1]), Budget())


def bare(**setting: object) -> Point:
    made = Setting(model="net", **setting)  # type: ignore[arg-type]
    return Point(id=made.id, setting=made, started="", seconds=0.0)


def test_a_slow_outlier_stays_in_the_figures_and_is_named() -> None:
    times = [0.010, 0.011] * 50 + [0.5]
    found = point(times, batch_size=2)
    assert found.iterations == 101
    assert found.images == 202
    assert found.latency_s is not None
    assert found.latency_s.mean == pytest.approx(fmean(times))
    assert found.latency_s.largest == 0.5
    assert found.deviation_s == pytest.approx(stdev(times))
    assert found.images_per_s == pytest.approx(202 / sum(times))
    assert (found.outliers, found.outlier_largest_s) == (1, 0.5)
    (warning,) = found.warnings
    assert warning.code == "outliers"
    assert "number 101, took 500 ms" in warning.text
    assert found.compatible["dli_average_s"] == pytest.approx(0.0105)
    assert found.compatible["deepdetect_mean_s_per_image"] == pytest.approx(fmean(times) / 2)


def test_intervals_come_with_the_figures() -> None:
    found = point([0.010, 0.011, 0.012, 0.013] * 25).latency_s
    assert found is not None
    assert found.intervals is not None
    low, high = found.intervals["mean"]
    assert low < 0.0115 < high


def test_the_servers_own_time_is_the_latency_where_every_answer_tells_it() -> None:
    samples = [Sample(place * 0.1, 0.1, server_s=0.08, transform_s=0.01) for place in range(20)]
    found = measured(bare(), Timed(tuple(samples), 2.0), Budget())
    assert found.latency_s is not None
    assert found.client_s is not None
    assert (found.scope, found.latency_s.p50, found.client_s.p50) == ("server", 0.08, 0.1)
    assert found.transform_s == pytest.approx(0.01)
    samples[7] = Sample(0.7, 0.1)
    found = measured(bare(), Timed(tuple(samples), 2.0), Budget())
    assert found.latency_s is not None
    assert (found.scope, found.latency_s.p50, found.client_s) == ("model", 0.1, None)


def test_errors_are_counted_apart_and_are_a_reason() -> None:
    samples = [Sample(place * 0.1, 0.1, error="" if place % 4 else "queue full") for place in range(20)]
    found = measured(bare(batch_size=3), Timed(tuple(samples), 2.0), Budget())
    assert (found.iterations, found.errors, found.images) == (15, 5, 45)
    assert found.images_per_s == pytest.approx(22.5)
    assert found.reasons[0].text == "5 of 20 iterations failed, the last one so: queue full"


def test_nothing_but_errors_is_no_point() -> None:
    with pytest.raises(PointError, match="all of 3 iterations failed, the last one so: queue full"):
        measured(bare(), Timed((Sample(0.0, 0.1, error="queue full"),) * 3, 0.3), Budget())


def test_too_few_iterations_and_a_drift_are_warned_of() -> None:
    assert [warning.code for warning in point([1.0] * 3).warnings] == ["few-iterations"]
    assert [warning.code for warning in point([0.010 + place * 1e-4 for place in range(200)]).warnings] == ["drift"]


def test_several_in_flight_have_dlis_figures_of_asynchronous_iterations() -> None:
    found = point([0.1] * 20, question="throughput", in_flight=2)
    assert found.compatible.keys() == {"dli_average_s", "dli_fps", "deepdetect_mean_s_per_image"}
