"""The dlreport command, run as people run it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dashboards.conftest import StreamResult, change_run, drawn


def dlreport(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "dlreport.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def result(tmp_path: Path) -> Path:
    """A small result folder."""
    return StreamResult({"warm": drawn("warm", 5, ("a",), {"a": 0.01})}, ("a",), {}).write(tmp_path / "result")


def test_it_prints_where_the_page_is(result: Path) -> None:
    done = dlreport(result)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{result / 'report.html'}\n", "")
    assert (result / "report.html").is_file()


def test_the_report_can_go_elsewhere(result: Path, tmp_path: Path) -> None:
    done = dlreport(result, "-o", tmp_path / "a" / "b")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'a' / 'b' / 'report.html'}\n")
    assert not (result / "report.html").exists()


def test_help_needs_no_other_page() -> None:
    done = dlreport("--help")
    assert done.returncode == 0
    for part in ("RESULT", "report.html", "pictures/", "tables/", "exit status"):
        assert part in done.stdout


def test_a_wrong_command_line_is_exit_status_2() -> None:
    assert dlreport().returncode == 2


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    done = dlreport(tmp_path / "nowhere")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"dlreport: {tmp_path / 'nowhere'} does not exist; name the folder that the load tester wrote (it holds run.json)\n"
    )


def test_a_folder_that_is_no_result_is_said(tmp_path: Path) -> None:
    done = dlreport(tmp_path)
    assert done.returncode == 1
    assert "it has no run.json; name the folder" in done.stderr


def test_a_file_instead_of_its_folder_is_said(result: Path) -> None:
    done = dlreport(result / "run.json")
    assert done.returncode == 1
    assert "is a file; name the folder" in done.stderr


def test_a_damaged_run_json_is_named(result: Path) -> None:
    (result / "run.json").write_text('{"kind": "stream", "sch')
    done = dlreport(result)
    assert done.returncode == 1
    assert "run.json is damaged" in done.stderr
    assert "measure again" in done.stderr


def test_a_result_of_another_kind_is_refused_with_the_known_ones(result: Path) -> None:
    change_run(result, kind="ladder")
    done = dlreport(result)
    assert done.returncode == 1
    assert "its kind is 'ladder', this dlreport knows: stream" in done.stderr


def test_a_result_of_another_version_is_refused(result: Path) -> None:
    change_run(result, schema="dlserve-stream/99")
    done = dlreport(result)
    assert done.returncode == 1
    assert "dlserve-stream/99" in done.stderr
    assert "use the version of dlserve that wrote it" in done.stderr


def test_a_path_that_is_too_long_is_said() -> None:
    done = dlreport("x" * 5000)
    assert done.returncode == 1
    assert "File name too long" in done.stderr
    assert "Traceback" not in done.stderr


def test_numbers_that_nothing_measures_are_refused(result: Path) -> None:
    requests = result / "requests.jsonl"
    requests.write_text(re.sub(r'"done_s":[^,]+', '"done_s":1e300', requests.read_text()))
    done = dlreport(result)
    assert done.returncode == 1
    assert "requests.jsonl holds 1e+300, which nothing measures" in done.stderr


def test_missing_requests_are_named(result: Path) -> None:
    (result / "requests.jsonl").unlink()
    done = dlreport(result)
    assert done.returncode == 1
    assert "requests.jsonl" in done.stderr
    assert "Traceback" not in done.stderr
