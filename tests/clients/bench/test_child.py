"""dlclient.bench.child, as the process that it is."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from dlclient.bench import child
from dlclient.bench.job import EVENT, Budget, Ended, Entered, Event, Failed, Job
from dlclient.bench_result import Setting
from dlclient.errors import PointError

from tests.conftest import DEADLINE_S

BUDGET = Budget(warm_up_max_iterations=3, min_iterations=5, max_iterations=20, min_s=0.0, max_s=DEADLINE_S)


def run(job: Job) -> tuple[list[Event], int, str]:
    """All events, the exit status and what was printed."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "dlclient.bench.child", "--events-fd", str(writer)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=(writer,)
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        printed, _ = process.communicate(msgspec.json.encode(job), timeout=DEADLINE_S)
        return [EVENT.decode(line) for line in told], process.returncode, printed.decode()


def test_a_simulated_point_is_measured_and_marked_as_such() -> None:
    setting = Setting(model="sim", engine="simulated", batch_size=2, options={"forward_s": 0.01})
    events, code, printed = run(Job(setting=setting, budget=BUDGET))
    ended = events[-1]
    assert isinstance(ended, Ended), printed
    assert code == 0
    assert ended.point.setting == setting
    assert ended.point.id == setting.id
    assert ended.point.simulated
    assert (ended.point.iterations, len(ended.samples)) == (20, 20)
    assert all(sample.latency_s >= 0.01 for sample in ended.samples)
    assert [event.stage for event in events if isinstance(event, Entered)][-1] == "measure"


def test_a_real_network_is_measured_from_its_folder(repository: Path) -> None:
    setting = Setting(model="squeezenet1_1", engine="torch", threads=1)
    budget = msgspec.structs.replace(BUDGET, max_iterations=5)
    events, _, printed = run(Job(setting=setting, budget=budget, repository=str(repository)))
    ended = events[-1]
    assert isinstance(ended, Ended), printed
    point = ended.point
    assert not point.simulated
    assert point.reasons == ()
    assert point.read_back["threads"] == 1
    assert point.card is not None
    assert point.card.parameters == 1_235_496
    assert point.load is not None
    assert point.load.start_s is not None
    assert point.load.start_s > 0.1  # torch was imported


def test_a_failure_is_told_with_its_stage_and_leaves_its_trace_in_the_log() -> None:
    setting = Setting(model="sim", engine="simulated", batch_size=3, options={"oom_above": 2})
    events, code, printed = run(Job(setting=setting, budget=BUDGET))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert code == 0
    assert (failed.failure.kind, failed.failure.stage) == ("out-of-memory", "load")
    assert "a batch of 3 exceeds oom_above = 2" in failed.failure.text
    assert "Traceback" in printed


@pytest.mark.parametrize(
    ("exc", "kind", "text"),
    [
        (PointError("no such device", kind="unsupported"), "unsupported", "no such device"),
        (MemoryError(), "out-of-memory", "the process has no memory left for this: try a smaller batch"),
        (KeyError("x"), "error", "KeyError: 'x'; this was not foreseen: the log has the traceback, please report it"),
    ],
)
def test_every_exception_becomes_a_kind_of_failure(exc: Exception, kind: str, text: str) -> None:
    failure = child.failure(exc, "measure")
    assert (failure.kind, failure.stage, failure.text) == (kind, "measure", text)
