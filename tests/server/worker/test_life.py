"""How a worker begins and ends, and what outlives a front end."""

import json
import os
import signal
from pathlib import Path

import pytest
from dlmodels.engines.host import host_memory
from dlserve.messages import HEADER, Reply
from dlserve.worker.control import ORPHANED

from tests.server.worker.conftest import StartWorker

STOP = {"command": "stop"}


def test_a_stop_answers_all_that_was_sent_then_exits_with_0(start_worker: StartWorker) -> None:
    worker = start_worker(max_batch=1)
    front = worker.start()
    front.define(1, forward_s=0.02)
    front.define(2, decode=True)
    jobs = front.send(*[front.call(1, b"x") for _ in range(20)], front.call(2, b"broken"))
    worker.command(STOP)
    front.read_to_end()
    assert sorted(message.id for message in front.all(Reply)) == jobs[:-1]
    assert front.failure(jobs[-1]).failure == "input"
    assert worker.exit_code() == 0
    assert worker.event() == {}


def test_signals_to_the_group_leave_a_worker_to_its_supervisor(start_worker: StartWorker) -> None:
    worker = start_worker(max_batch=1)
    front = worker.start()
    front.define(1, forward_s=0.02)
    jobs = front.send(*[front.call(1, b"x") for _ in range(10)])
    worker.process.send_signal(signal.SIGINT)
    worker.process.send_signal(signal.SIGTERM)
    front.reply(jobs[0])
    worker.command(STOP)
    front.read_to_end()
    assert [message.id for message in front.all(Reply)] == jobs
    assert worker.exit_code() == 0


def test_no_thread_of_a_worker_takes_a_processor_from_who_has_it(start_worker: StartWorker) -> None:
    worker = start_worker()
    front = worker.start()
    front.define(1)
    front.predict(1, b"x")  # by now all of its threads are there; numpy's own, made before, do nothing
    policies = [os.sched_getscheduler(int(one.name)) for one in Path(f"/proc/{worker.process.pid}/task").iterdir()]
    assert os.sched_getscheduler(worker.process.pid) == os.SCHED_BATCH
    assert policies.count(os.SCHED_BATCH) >= 3  # that receives, the device's and one that prepares


def test_a_worker_whose_supervisor_is_gone_ends_at_once_whatever_it_does(start_worker: StartWorker) -> None:
    worker = start_worker()
    front = worker.start()
    front.define(1, forward_s=3600.0)
    front.prepare(1)
    front.send(front.call(1, b"x"))
    worker.hang_up()
    assert worker.exit_code() == ORPHANED


def test_a_worker_whose_supervisor_is_gone_ends_even_without_a_front_end(start_worker: StartWorker) -> None:
    worker = start_worker(front_sockets=["/nowhere/front.sock"])
    worker.command(worker.settings)
    worker.hang_up()
    assert worker.exit_code() == ORPHANED


def test_a_worker_stops_while_it_waits_for_a_front_end(start_worker: StartWorker) -> None:
    worker = start_worker(front_sockets=["/nowhere/front.sock"])
    worker.command(worker.settings)
    worker.command(STOP)
    assert worker.exit_code() == 0


def test_a_new_front_end_finds_the_same_process_with_nothing_left_in_it(start_worker: StartWorker) -> None:
    worker = start_worker()
    front = worker.start()
    front.define(1, bytes=900, forward_s=0.1)
    front.prepare(1)
    front.send(*[front.call(1, b"x") for _ in range(5)])
    front.close()
    again = worker.accept()
    assert again.refused(1, b"x").failure == "request"
    again.define(1, bytes=900)
    assert again.predict(1, b"x").cache == "disk"
    assert [message.used_bytes for message in again.received if hasattr(message, "used_bytes")] == [900]
    assert all(message.id < 10 for message in again.all(Reply))
    worker.command(STOP)
    assert worker.exit_code() == 0
    assert worker.event() == {}, "ready is said once"


def test_the_weights_of_a_lost_front_end_are_off_the_device(start_worker: StartWorker) -> None:
    most = int(host_memory().total_bytes * 0.6)  # the simulated engine has room for one such model, not for two
    worker = start_worker(budget_bytes=1 << 50)
    front = worker.start()
    for _ in range(2):
        front.define(1, bytes=most)
        assert front.prepare(1).error == ""
        front.close()
        front = worker.accept()


def test_a_front_end_that_speaks_nonsense_is_left_and_met_again(start_worker: StartWorker) -> None:
    worker = start_worker()
    front = worker.start()
    front.connection.sendall(HEADER.pack(3, 0) + b"\xc1\xc1\xc1")
    front.read_to_end()
    again = worker.accept()
    again.define(1)
    assert again.predict(1, b"x").predictions


def test_a_stop_after_the_front_end_has_gone_still_exits_with_0(start_worker: StartWorker) -> None:
    worker = start_worker()
    front = worker.start()
    worker.listener.close()
    Path(worker.path).unlink()
    front.close()
    worker.command(STOP)
    assert worker.exit_code() == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        pytest.param({"threads": 0}, "threads", id="out of range"),
        pytest.param({"device": "gpu"}, "device", id="no device"),
        pytest.param({"worker": "0"}, "worker", id="wrong type"),
        pytest.param({"colour": "red"}, "colour", id="unknown key"),
    ],
)
def test_bad_settings_end_the_start_with_a_message_that_names_them(
    start_worker: StartWorker, change: dict[str, object], word: str
) -> None:
    worker = start_worker(**change)
    worker.command(worker.settings)
    event = worker.event()
    assert event["event"] == "failed"
    assert word in event["message"]
    assert worker.exit_code() == 3


def test_an_engine_that_cannot_start_fails_the_worker_with_its_reason(start_worker: StartWorker) -> None:
    worker = start_worker(engines=["simulated", "abacus"])
    worker.command(worker.settings)
    event = worker.event()
    assert event["event"] == "failed"
    assert "abacus" in event["message"]
    assert worker.exit_code() == 3


def test_log_lines_are_json_where_asked_and_name_the_worker(start_worker: StartWorker) -> None:
    worker = start_worker(log_format="json", worker=5)
    worker.start()
    worker.command(STOP)
    assert worker.exit_code() == 0
    records = [json.loads(line) for line in worker.log]
    assert records
    assert {record["process"] for record in records} == {"worker-5"}


def test_an_unknown_command_is_logged_and_changes_nothing(start_worker: StartWorker) -> None:
    worker = start_worker()
    front = worker.start()
    worker.command({"command": "dance"})
    worker.control.sendall(b"no json\n")
    front.define(1)
    assert front.predict(1, b"x").predictions
    worker.command(STOP)
    assert worker.exit_code() == 0
    assert sum("does not know" in line for line in worker.log) == 2
