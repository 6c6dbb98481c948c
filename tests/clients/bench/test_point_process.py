"""The process of a point: whatever it does comes back as a point or as a failure of the right kind, and nothing is left of it."""

import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from dlclient.bench.job import Budget, Ended, Job
from dlclient.bench.point_process import run_point
from dlclient.bench_result import Failure, Setting

from tests.clients.bench.fake_child import CHILD
from tests.conftest import DEADLINE_S


def measured(model: str, tmp_path: Path, budget: Budget = Budget(), root: Path = Path("/")) -> Ended | Failure:  # noqa: B008  frozen
    job = Job(setting=Setting(model=model, engine="simulated"), budget=budget, repository=str(tmp_path))
    return run_point(job, tmp_path / "log", lambda *_: None, CHILD, root)


def test_a_point_comes_back_with_its_samples_and_its_stages_are_seen(tmp_path: Path) -> None:
    setting = Setting(model="a", engine="simulated", batch_size=4)
    seen: list[tuple[str, float | None]] = []
    ended = run_point(Job(setting=setting), tmp_path / "log", lambda *stage: seen.append(stage), CHILD)
    assert isinstance(ended, Ended)
    assert ended.point.setting == setting
    assert len(ended.samples) == ended.point.iterations == 12
    assert seen == [("start", None), ("measure", None), ("measure", 0.5)]
    assert (tmp_path / "log").read_text() == "measuring a\n"


@pytest.mark.parametrize(
    ("model", "kind", "text"),
    [
        ("segfault", "crash", r"crashed \(Segmentation fault, signal 11\)"),
        ("killed", "crash", r"was killed \(SIGKILL\), not by dlbench"),
        ("exit", "error", 'exit code 1 and no result, saying "this cannot go well"'),
        ("silent", "error", "exit code 0 and no result"),
        ("garbage", "error", "no event .*xxxx"),
        ("other", "error", "measured another point \\(another simulated cpu latency batch 1\\)"),
        ("failed", "out-of-memory", "no memory for a batch of 64"),
    ],
)
def test_each_way_to_fail_has_its_kind_and_says_what_to_do(tmp_path: Path, model: str, kind: str, text: str) -> None:
    failure = measured(model, tmp_path)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.stage) == (kind, "measure")
    assert re.search(text, failure.text)


def test_a_stage_that_hangs_is_ended_with_all_that_it_started_and_its_stack_is_in_the_log(tmp_path: Path) -> None:
    failure = measured("hang", tmp_path, Budget(iteration_timeout_s=1.0))
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.stage) == ("time-out", "measure")
    assert "budget.iteration_timeout_s" in failure.text
    log = (tmp_path / "log").read_text()
    assert "in hang" in log
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(log.partition("grandchild ")[2].split()[0])).wait(DEADLINE_S)


def test_a_child_that_says_nothing_at_all_has_the_time_of_the_start(tmp_path: Path) -> None:
    job = Job(setting=Setting(model="a"), budget=Budget(start_timeout_s=0.2))
    child = (sys.executable, "-c", "import time; time.sleep(600)")
    failure = run_point(job, tmp_path / "log", lambda *_: None, child)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.stage) == ("time-out", "start")
    assert "budget.start_timeout_s" in failure.text


def test_a_process_that_is_left_behind_with_the_pipe_in_hand_holds_nobody_up(tmp_path: Path) -> None:
    assert isinstance(measured("lingers", tmp_path), Ended)


def test_a_kill_by_the_kernel_for_memory_is_told_from_another(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("pgfree 7\noom_kill 3\n")
    failure = measured("starved", tmp_path, root=tmp_path)
    assert isinstance(failure, Failure)
    assert failure.kind == "out-of-memory"
    assert "the kernel killed its process" in failure.text


def test_a_kill_while_memory_was_scarce_is_named_as_probable(tmp_path: Path) -> None:
    cgroup = tmp_path / "sys/fs/cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.max").write_text("1000\n")
    (cgroup / "memory.current").write_text("980\n")
    failure = measured("killed", tmp_path, root=tmp_path)
    assert isinstance(failure, Failure)
    assert failure.kind == "out-of-memory"
    assert "probably by the kernel for lack of memory (2% of it was free)" in failure.text
