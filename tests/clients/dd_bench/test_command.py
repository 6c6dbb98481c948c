"""The command itself, ended in the middle of a run by what cannot be caught and by what can."""

import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlclient.bench_result import read_bench, read_point_samples, read_points

from tests.clients.dd_bench.fake_deepdetect import FakeDeepDetect
from tests.conftest import COMMANDS, DEADLINE_S

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(deepdetect: FakeDeepDetect) -> Start:
    """Start it, and return once it has asked for a batch of 4, which is not answered before it has ended."""

    def run(*options: object) -> "subprocess.Popen[str]":
        asked, ended = threading.Event(), threading.Event()

        def wait(call: dict[str, Any], _number: int) -> str | None:
            if len(call["data"]) < 4:
                return None
            asked.set()
            ended.wait(DEADLINE_S)
            return "hang up"

        deepdetect.react = wait
        command = [str(COMMANDS / "dd_bench"), "--host", deepdetect.url, "--sname", "net", "--npasses", "2"]
        process = subprocess.Popen([*command, *map(str, options)], stderr=subprocess.PIPE, text=True)
        threading.Thread(target=_tell, args=(process, ended), daemon=True).start()
        assert asked.wait(DEADLINE_S), process.communicate()[1]
        return process

    return run


def _tell(process: "subprocess.Popen[str]", ended: threading.Event) -> None:
    process.wait()
    ended.set()


def test_after_kill_9_resume_completes_the_run_and_no_point_is_lost_or_doubled(
    start: Start, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path
) -> None:
    options = ("--images", pictures, "--max-batch-size", 4, "--results", tmp_path / "out")
    process = start(*options)
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    assert read_bench(tmp_path / "out").finished is None
    assert [point.setting.batch_size for point in read_points(tmp_path / "out")] == [1, 2]
    deepdetect.react = lambda *_: None
    command = [str(COMMANDS / "dd_bench"), "--host", deepdetect.url, "--sname", "net", "--npasses", "2"]
    done = subprocess.run(
        [*command, *map(str, options), "--resume"], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 3 points were done already" in done.stderr
    assert read_bench(tmp_path / "out").finished is not None
    points = read_points(tmp_path / "out")
    assert [point.setting.batch_size for point in points] == [1, 2, 4]
    assert len((tmp_path / "out" / "points.jsonl").read_text().splitlines()) == 3
    assert all(len(read_point_samples(tmp_path / "out", point.id)) == 2 for point in points)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_saves_its_rows_and_deletes_the_service(
    start: Start, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start("--images", pictures, "--max-batch-size", 4, "--csv-output", tmp_path / "o.csv", "--auto-kill")
    process.send_signal(number)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 3
    assert "net" not in deepdetect.services
