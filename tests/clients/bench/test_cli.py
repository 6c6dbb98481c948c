"""The `dlbench` command: questions as suites of one matrix, what it prints, how it ends."""

import json
from pathlib import Path

import pytest
from dlclient.bench.cli import main
from dlclient.bench_result import read_bench, read_points

from tests.clients.bench.fake_child import CHILD


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_question_is_a_suite_of_one_matrix(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "throughput",
        "a",
        "b",
        "--engine",
        "simulated",
        "--batch-sizes",
        "1,2",
        "--in-flight",
        "4",
        "--threads",
        "2",
    ]
    more = ["--option", "forward_s=0.5,seed=3", "--set", "budget.max_s=1", "--results", "out"]
    assert main([*command, *more], CHILD) == 0
    points = read_points(Path("out"))
    assert [(one.setting.model, one.setting.batch_size) for one in points] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert {(one.setting.question, one.setting.in_flight, one.setting.threads) for one in points} == {
        ("throughput", 4, 2)
    }
    assert points[0].setting.options == {"forward_s": 0.5, "seed": 3}
    assert "max_s = 1.0" in Path("out/suite.toml").read_text()
    bench = read_bench(Path("out"))
    assert (bench.program, bench.name, bench.title) == ("dlbench", "throughput", "throughput: a, b")
    assert bench.command == ("dlbench", *command, *more)
    assert bench.simulated
    told = capsys.readouterr().out
    assert "out: the result; dlreport out draws it" in told
    assert [told.count(f"fastest of 2, {name} simulated") for name in "ab"] == [1, 1]


def test_a_new_folder_is_made_where_none_is_named() -> None:
    assert main(["latency", "a", "--engine", "simulated"], CHILD) == 0
    (folder,) = Path("results").iterdir()
    assert folder.name.startswith("dlbench-latency-")


def test_errors_of_options_are_told_at_once_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["max-batch", "resnet81", "--engine", "toch", "--most-images", "0", "--memory-limit", "much"]
    assert main(command, CHILD) == 2
    said = capsys.readouterr().err
    assert "dlbench: dlbench max-batch has 4 errors, and nothing was run" in said
    for option in (
        "MODEL: there is no model",
        "--engine toch: there is no engine",
        "--most-images 0: ",
        "--memory-limit much: ",
    ):
        assert f"\n  {option}" in said


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["latency", "a", "--resume"], "add --results DIR"),
        (["latency", "a", "--results", "out", "--retry-failed"], "add --resume"),
        (["run", "quik"], "Did you mean 'quick'?"),
        (["run", "quick", "--set", "x"], "write --set batch_sizes=1,2"),
        (["run", "quick", "--api-key-file", "none"], "cannot read the key file none"),
        (["run", "quick", "--target", "localhost"], "--target localhost: 'localhost' is not of its form"),
    ],
)
def test_a_wrong_command_runs_nothing(command: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command, CHILD) == 2
    assert text in capsys.readouterr().err
    assert not Path("results").exists()


def test_check_tells_points_and_what_will_be_built_or_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "quick", "--set", "devices=cpu,cuda:99"]) == 0
    told = capsys.readouterr().out
    assert "8 points:" in told
    assert "squeezenet1_1 openvino cpu throughput batch 1 best in flight" in told
    assert "to be built first in models/repository, 5 MB: squeezenet1_1" in told
    assert told.count("will fail as unsupported: ") == 4


def test_a_network_that_cannot_be_built_is_a_row_of_each_of_its_points(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["latency", "squeezenet1_1", "--batch-sizes", "1,2", "--repository", "/proc/nowhere", "--results", "out"]
    assert main(command, CHILD) == 1
    for point in read_points(Path("out")):
        assert point.failure is not None
        assert point.failure.stage == "build"
        assert "squeezenet1_1 could not be built: " in point.failure.text
        assert "/proc/nowhere" in (Path("out") / point.failure.log).read_text()
    assert "ERROR in build [1]" in capsys.readouterr().out


def test_the_suites_that_are_ready_and_the_schema_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "deepdetect-report  DeepDetect's report: 13 networks by batch size" in capsys.readouterr().out
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A suite of dlbench"
