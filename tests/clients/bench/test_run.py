"""A suite from end to end, with a child that speaks the protocol of a point: killed, interrupted, resumed, failed."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dlclient.bench.cli import main
from dlclient.bench_result import Point, Sample, read_bench, read_point_samples, read_points

from tests.clients.bench.fake_child import CHILD
from tests.conftest import DEADLINE_S

ROOT = Path(__file__).parents[3]
SUITE = """\
repository = "{repository}"
[[matrix]]
models = {models}
engines = "simulated"
batch_sizes = [1, 2]
"""


class Stand:
    """A folder with a suite of the fake child's models, and dlbench on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result = folder / "result"
        self.suite = folder / "suite.toml"

    def write(self, *models: str) -> None:
        """The suite: two points for each model."""
        self.suite.write_text(SUITE.format(repository=self.folder, models=list(models)))

    def start(self, *arguments: object, kill_at: int = 0) -> "subprocess.Popen[str]":
        environment = os.environ | ({"KILL_AT": str(kill_at)} if kill_at else {})
        command = [sys.executable, "-m", "tests.clients.bench.fake_dlbench", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *arguments: object, kill_at: int = 0) -> tuple[int, str, str]:
        """Exit status, what it printed, and what it said."""
        with self.start(*arguments, kill_at=kill_at) as process:
            out, err = process.communicate(timeout=DEADLINE_S)
        return process.returncode, out, err

    def bench(self, *more: object, kill_at: int = 0) -> tuple[int, str, str]:
        """`dlbench run` of the suite into the result folder."""
        return self.run("run", self.suite, "--results", self.result, *more, kill_at=kill_at)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def structure(result: Path) -> list[tuple[Point, list[Sample]]]:
    """Everything of a result but its clocks."""
    assert read_bench(result).finished
    lines = (result / "points.jsonl").read_text().splitlines()
    points = read_points(result)
    assert len(lines) == len(points) == read_bench(result).points
    return [
        (
            Point(id=one.id, setting=one.setting, started="", seconds=0.0, latency_s=one.latency_s),
            read_point_samples(result, one.id),
        )
        for one in points
    ]


def test_failed_points_are_rows_with_their_logs_and_never_end_the_suite(stand: Stand) -> None:
    stand.write("segfault", "a")
    status, out, err = stand.bench()
    assert status == 1
    failed, again, good, better = read_points(stand.result)
    assert failed.failure is not None
    assert again.failure is not None
    assert (failed.failure.kind, failed.failure.log) == ("crash", f"logs/{failed.id}.log")
    assert "Fatal Python error" in (stand.result / failed.failure.log).read_text()
    assert (good.failure, better.failure) == (None, None)
    assert better.seconds > 0
    assert better.started
    assert sorted(path.stem for path in (stand.result / "logs").iterdir()) == sorted((failed.id, again.id))
    assert len(read_point_samples(stand.result, good.id)) == 12
    assert "CRASH in measure" in out
    assert "0.500" in out
    assert f"dlreport {stand.result}" in out
    assert "[4/4] a simulated cpu latency batch 2: 0.500 ms/image" in err


def test_killed_at_any_step_and_resumed_it_is_as_if_it_had_not_been(stand: Stand) -> None:
    stand.write("a", "b")
    assert stand.bench("--set", "batch_sizes=1")[0] == 0
    expected = structure(stand.result)
    shutil.rmtree(stand.result)
    status, step = -signal.SIGKILL, 0
    while status == -signal.SIGKILL:
        step += 1
        status, _, err = stand.bench("--set", "batch_sizes=1", "--resume", kill_at=step)
    assert status == 0, err
    assert step > 6
    assert structure(stand.result) == expected


def test_a_killed_dlbench_takes_the_process_of_its_point_along(stand: Stand) -> None:
    os.mkfifo(stand.folder / "gate")
    stand.write("gate")
    with stand.start("run", stand.suite, "--results", stand.result) as bench, (stand.folder / "gate").open() as gate:
        assert gate.readline()
        bench.kill()
        assert gate.read() == ""  # the end of the pipe is the end of who held it
    (stand.folder / "gate").unlink()
    status, _, err = stand.run("run", stand.result, "--resume")
    assert status == 0, err
    assert len(structure(stand.result)) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_process_and_a_folder_to_resume(stand: Stand, number: signal.Signals) -> None:
    os.mkfifo(stand.folder / "gate")
    stand.write("a", "gate")
    with stand.start("run", stand.suite, "--results", stand.result) as bench, (stand.folder / "gate").open() as gate:
        assert gate.readline()
        bench.send_signal(number)
        _, err = bench.communicate(timeout=DEADLINE_S)
        assert gate.read() == ""
    assert bench.returncode == 130
    assert f"dlbench run {stand.result} --resume" in err
    assert len(read_points(stand.result)) == 2
    assert read_bench(stand.result).finished is None
    (stand.folder / "gate").unlink()
    status, _, err = stand.run("run", stand.result, "--resume")
    assert status == 0, err
    assert len(structure(stand.result)) == 4


def test_failed_points_are_measured_again_only_when_asked(stand: Stand) -> None:
    stand.write("starved")  # there is nothing that it could count in: it fails by exit code
    bench = ["run", str(stand.suite), "--results", str(stand.result)]
    assert main(bench, CHILD) == 1
    logs = list((stand.result / "logs").iterdir())
    written = [log.stat().st_mtime_ns for log in logs]
    assert main([*bench, "--resume"], CHILD) == 1
    assert [log.stat().st_mtime_ns for log in logs] == written
    assert main([*bench, "--resume", "--retry-failed"], CHILD) == 1
    assert [log.stat().st_mtime_ns for log in logs] != written
    assert len(read_points(stand.result)) == 2


def test_a_folder_is_only_resumed_with_the_suite_that_it_was_begun_with(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    stand.write("a")
    bench = ["run", str(stand.suite), "--results", str(stand.result)]
    one = ["--set", "batch_sizes=1"]
    assert main([*bench, *one], CHILD) == 0
    for more, text in (
        ([], "holds a result already: add --resume"),
        (["--resume"], f"another suite .*dlbench run {stand.result} --resume"),
        (["--resume", *one, "--set", "budget.max_s=3"], "another suite"),
    ):
        capsys.readouterr()
        assert main([*bench, *more], CHILD) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert re.search(text, said.err)
    assert main([*bench, "--resume", *one], CHILD) == 0


def test_a_bad_suite_runs_nothing_and_makes_no_folder(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    stand.write("a", "B!")
    assert main(["run", str(stand.suite), "--results", str(stand.result), "--set", "every_s=0"], CHILD) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "suite.toml has 2 errors" in said.err
    assert "no model 'B!'" in said.err
    assert "--set every_s=0" in said.err
    assert not stand.result.exists()
