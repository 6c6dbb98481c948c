"""Each ready suite of dlbench, from its file, reduced to what two cores do in seconds; its report opened in a real browser."""

import subprocess
from pathlib import Path

import pytest
from dlclient.bench_result import Bench, Point, read_bench, read_points

from tests.conftest import COMMANDS
from tests.dashboards.test_browser import open_page

SHORT = "budget.min_s=0.1,budget.max_s=0.4,budget.warm_up_max_s=0.4,budget.min_iterations=2"
REDUCED = {
    "quick": "",
    "stream-2018": "models=squeezenet1_1,batch_sizes=1,reloads=1",
    "deepdetect-report": "models=squeezenet1_1,batch_sizes=1,2",
    "gluon-zoo": "models=squeezenet1_1,batch_sizes=1,2,most_images=2",
    "low-batch": "models=squeezenet1_1,batch_sizes=1,5,every_s=0.05",
    "dli": "models=squeezenet1_1,batch_sizes=1,threads=2,engines=openvino",
}
"""Suite -> what is set beside SHORT. All of them ask about the one network that the tests' repository holds."""
ASKED = {
    "quick": {"latency", "throughput", "load"},
    "stream-2018": {"latency", "load"},
    "deepdetect-report": {"latency"},
    "gluon-zoo": {"utilization", "max-batch"},
    "low-batch": {"utilization"},
    "dli": {"latency", "throughput"},
}
CONSOLE = ("Uncaught", "ERROR:CONSOLE", "SyntaxError", "Refused to")


def test_every_ready_suite_is_here() -> None:
    listed = subprocess.run(
        [COMMANDS / "dlbench", "list"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert {line.split()[0] for line in listed.splitlines() if line and not line[0].isspace()} == set(REDUCED)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("suite", REDUCED)
def test_a_ready_suite_runs_from_its_file_and_its_report_opens(suite: str, repository: Path, tmp_path: Path) -> None:
    settings = ",".join(part for part in (SHORT, REDUCED[suite]) if part)
    done = subprocess.run(
        [COMMANDS / "dlbench", "run", suite, "--set", settings, "--set", f"repository={repository}", "--results", "out"],
        cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    bench, points = read_bench(tmp_path / "out"), read_points(tmp_path / "out")
    check_result(suite, bench, points)
    report = subprocess.run(
        [COMMANDS / "dlreport", "out"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert report.returncode == 0, report.stderr
    opened = open_page(tmp_path / "out" / "report.html", tmp_path / "profile", 1200)
    assert not any(word in opened.stderr for word in CONSOLE), opened.stderr
    assert bench.title in opened.stdout


def check_result(suite: str, bench: Bench, points: list[Point]) -> None:
    assert bench.finished
    assert bench.points == len(points)
    assert {point.setting.question for point in points} == ASKED[suite]
    for point in points:
        assert point.failure is None, point
        if point.latency_s is not None:
            assert point.latency_s.mean, point
            assert point.images_per_s, point
        if point.setting.question == "utilization":
            assert point.utilization is not None
            assert point.utilization.cpu is not None
        if point.setting.question == "max-batch":
            assert point.max_batch is not None
            assert point.max_batch.largest >= 1
        if point.setting.question == "load":
            assert point.load is not None
            assert point.load.first_run_s
