"""dlclient.bench.tuning: CPUs that are set and read back, and which point of a sweep is the best."""

import os
import subprocess
import sys

import pytest
from dlclient.bench.tuning import best, bind, bound_to, findings, format_cpus, parse_cpus, rate_interval, sweeps
from dlclient.bench_result import Failure, Point, Setting
from dlclient.errors import PointError
from dlclient.results import Interval, Latency, Reason


@pytest.mark.parametrize(
    ("text", "cpus", "shortest"),
    [
        ("0", {0}, "0"),
        ("0-3,6", {0, 1, 2, 3, 6}, "0-3,6"),
        (" 6 , 0-1,1-2", {0, 1, 2, 6}, "0-2,6"),
    ],
)
def test_a_list_of_cpus_is_read_and_written_shortest(text: str, cpus: set[int], shortest: str) -> None:
    assert parse_cpus(text) == cpus
    assert format_cpus(cpus) == shortest


@pytest.mark.parametrize("text", ["", "all", "0-", "3-1", "0;1", "-1", "0,,1"])
def test_what_is_no_list_of_cpus_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(PointError, match=r"as 0-3,6") as caught:
        parse_cpus(text)
    assert caught.value.kind == "unsupported"


def test_a_process_and_its_threads_are_bound_and_the_binding_is_read_back() -> None:
    cpu = min(os.sched_getaffinity(0))
    code = (
        "import os, threading; from dlclient.bench.tuning import bind\n"
        "hold = threading.Event(); old = threading.Thread(target=hold.wait); old.start()\n"
        f"told = bind('{cpu}')\n"
        "new = threading.Thread(target=hold.wait); new.start()\n"
        "print(told, *(os.sched_getaffinity(one.native_id) for one in (threading.main_thread(), old, new)))\n"
        "hold.set()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == " ".join([str(cpu), *[f"{{{cpu}}}"] * 3])


def test_no_affinity_leaves_the_process_as_it_is() -> None:
    before = os.sched_getaffinity(0)
    assert bind("") == bound_to() == format_cpus(before)
    assert os.sched_getaffinity(0) == before


def test_a_cpu_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(PointError, match=r"no CPU 99999 for this process, which may use " + bound_to()) as caught:
        bind(f"{min(os.sched_getaffinity(0))},99999")
    assert caught.value.kind == "unsupported"


def point(
    rate: float | None,
    interval: Interval | None = None,
    *,
    failed: bool = False,
    doubted: bool = False,
    **setting: int | str,
) -> Point:
    """A point of batch 1 in a closed loop of one, so that its mean latency is 1 / rate."""
    chosen = Setting(model="m", **setting)  # type: ignore[arg-type]
    intervals = None if interval is None else {"mean": (1 / interval[1], 1 / interval[0])}
    return Point(
        id=chosen.id,
        setting=chosen,
        started="2030-01-01T00:00:00+00:00",
        seconds=1.0,
        failure=Failure(kind="crash", stage="measure", text="gone") if failed else None,
        images_per_s=rate,
        latency_s=None
        if rate is None
        else Latency(mean=1 / rate, p50=1 / rate, p90=None, p99=None, intervals=intervals),
        reasons=(Reason("unsteady", "x", "y"),) if doubted else (),
    )


def test_the_interval_of_a_rate_is_that_of_the_mean_latency_turned_over() -> None:
    assert rate_interval(point(100.0, (90.0, 120.0))) == pytest.approx((90.0, 120.0))
    assert rate_interval(point(100.0)) is None


def test_the_best_point_is_named_and_whether_the_next_is_slower() -> None:
    fast, middle, slow = (
        point(100.0, (98.0, 102.0), threads=2, batch_size=8, affinity="0-1"),
        point(90.0, (88.0, 92.0), threads=2),
        point(50.0, (49.0, 51.0), threads=1),
    )
    found = best([slow, fast, middle])
    assert found is not None
    assert (found.point, found.next, found.level, found.sure) == (fast, middle, (), True)
    assert found.sentence == (
        "batch 8, threads 2, CPUs 0-1: 100 [98, 102] images/s;"
        " the next, batch 1, threads 2 (90 [88, 92] images/s), is slower"
    )


def test_points_whose_intervals_overlap_the_best_are_named_with_it() -> None:
    fast, close, slow = (
        point(100.0, (95.0, 105.0), threads=2),
        point(97.0, (94.0, 99.0), threads=4),
        point(50.0, (49.0, 51.0), threads=1),
    )
    found = best([fast, close, slow])
    assert found is not None
    assert (found.level, found.sure) == ((close,), False)
    assert "1 more cannot be told apart" in found.sentence


def test_without_an_interval_nothing_is_claimed() -> None:
    found = best([point(100.0, (95.0, 105.0), threads=2), point(10.0, threads=1)])
    assert found is not None
    assert found.sure is None
    assert "cannot be told" in found.sentence


def test_failed_and_doubtful_points_are_never_the_best() -> None:
    sound = point(10.0, threads=1)
    found = best(
        [point(None, failed=True, threads=2), point(1000.0, failed=True, threads=3), point(900.0, doubted=True), sound]
    )
    assert found is not None
    assert (found.point, found.next, found.sure) == (sound, None, None)
    assert best([point(None, failed=True)]) is None


def test_a_sweep_is_what_differs_in_threads_batch_affinity_and_flight_alone() -> None:
    one, two = point(1.0, threads=1, batch_size=4), point(2.0, threads=2, affinity="0", in_flight=3)
    other = point(3.0, threads=1, engine="openvino")
    assert sweeps([one, other, two]) == [[one, two], [other]]


def test_of_each_sweep_with_several_points_the_fastest_is_told() -> None:
    slow, fast = point(10.0, (9.0, 11.0), threads=1), point(20.0, (19.0, 21.0), threads=2)
    (line,) = findings([slow, fast, point(3.0, engine="openvino"), point(None, failed=True, threads=3)])
    assert line.startswith("fastest of 3, m ")
    assert line.endswith(
        "threads 2: 20 [19, 21] images/s; the next, batch 1, threads 1 (10 [9, 11] images/s), is slower"
    )
