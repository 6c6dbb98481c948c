"""A worker with several front ends: one order of arrival, shared models, and each takes only its own with it."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dlserve.messages import Cancel, Described, Evicted, Forget, Hello, Loaded

from tests.server.worker.conftest import DEADLINE_S, Front, StartWorker, WorkerProcess

STOP = {"command": "stop"}


class Pair:
    """A worker and its two front ends."""

    def __init__(self, start_worker: StartWorker, folder: Path) -> None:
        self.second_path = str(folder / "second.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.second_path)
        self.listener.listen(1)
        self.listener.settimeout(DEADLINE_S)
        self.worker: WorkerProcess = start_worker(max_batch=1)
        self.worker.settings["front_sockets"] = [self.worker.path, self.second_path]
        self.one = self.worker.start()
        self.two = self.accept_second()

    def accept_second(self) -> Front:
        """The worker's next connection to the second front end."""
        connection, _ = self.listener.accept()
        front = Front(connection)
        self.worker.fronts.append(front)
        assert isinstance(front.read(), Hello)
        return front


@pytest.fixture
def pair(start_worker: StartWorker, tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(start_worker, tmp_path)
    with closing(pair.listener):
        yield pair


def test_both_use_one_model_and_each_hears_where_it_is_but_one_counts_it(pair: Pair) -> None:
    one, two = pair.one, pair.two
    one.define(1, bytes=900)
    assert one.predict(1, b"x").cache == "disk"
    two.define(1, bytes=900)
    assert two.await_(Described).weights_bytes == 900
    standing = two.await_(Loaded, lambda loaded: loaded.why == "standing")
    assert (standing.service, standing.tier, standing.used_bytes, standing.counts) == (1, "device", 900, False)
    assert two.predict(1, b"x").cache == "warm"
    assert two.predict(1, b"x", cache="disk").cache == "disk"  # both hear of it, and it is the second's to count
    told = two.await_(Loaded, lambda loaded: loaded.why == "cold")
    heard = one.await_(Loaded, lambda loaded: loaded.why == "cold")
    assert (told.counts, heard.counts) == (True, False)
    assert (told.seconds, told.used_bytes) == (heard.seconds, heard.used_bytes)
    assert [front.await_(Evicted).counts for front in (one, two)] == [False, True]
    assert one.predict(1, b"x").cache == "warm"
    pair.worker.command(STOP)
    assert pair.worker.exit_code() == 0


def test_jobs_run_in_the_order_in_which_they_came_whoever_sent_them(pair: Pair) -> None:
    one, two = pair.one, pair.two
    for front in (one, two):
        front.define(1, forward_s=0.05)
        front.prepare(1)
    starts = []
    for number in range(6):  # each is there before the next is sent: it answers a question that was sent behind it
        front = (one, two)[number % 2]
        starts.append((front, front.send(front.call(1, b"x"))[0]))
        front.prepare(1, load=False)
    received = [front.reply(job).stages.received for front, job in starts]
    replied = [front.reply(job).stages.replied for front, job in starts]
    assert received == sorted(received)
    assert replied == sorted(replied)


def test_one_that_is_gone_takes_its_jobs_and_its_services_with_it_and_no_others(pair: Pair) -> None:
    one, two = pair.one, pair.two
    for front in (one, two):
        front.define(1, bytes=500, forward_s=0.1)
        front.prepare(1)
    two.define(2, bytes=400)
    two.prepare(2)
    kept = one.send(*[one.call(1, b"x") for _ in range(2)])
    two.send(*[two.call(1, b"x") for _ in range(50)])
    kept += one.send(one.call(1, b"x"))
    two.close()
    assert [one.reply(job).cache for job in kept] == ["warm"] * 3
    assert one.reply(kept[-1]).stages.queue < 2.0, "50 dropped jobs would have taken 5 s"
    gone = one.await_(Evicted)
    assert (gone.service, gone.reason, gone.used_bytes, gone.counts) == (2, "forgotten", 500, True)
    again = pair.accept_second()
    again.define(1, bytes=500, forward_s=0.1)
    assert again.predict(1, b"x").cache == "warm"
    assert again.refused(2, b"x").failure == "request"
    pair.worker.command(STOP)
    assert pair.worker.exit_code() == 0


def test_a_service_is_freed_when_the_last_has_deleted_it(pair: Pair) -> None:
    one, two = pair.one, pair.two
    for front in (one, two):
        front.define(1, bytes=500)
        front.prepare(1)
    one.tell(Forget(1))
    assert two.predict(1, b"x").cache == "warm"
    assert not two.all(Evicted)
    two.tell(Forget(1))
    assert two.await_(Evicted).reason == "forgotten"
    assert one.refused(1, b"x").failure == "request"


def test_numbers_of_jobs_are_each_front_end_s_own(pair: Pair) -> None:
    one, two = pair.one, pair.two
    for front in (one, two):
        front.define(1, forward_s=0.1)
    (first,) = one.send(one.call(1, b"x"))
    (job,) = one.send(one.call(1, b"x"))
    (same,) = [number for number in two.send(two.call(1, b"x"), two.call(1, b"x")) if number == job]
    two.tell(Cancel(same))
    assert two.failure(same).failure == "cancelled"
    assert [one.reply(number).batch_size for number in (first, job)] == [1, 1]


def test_a_stop_answers_both(pair: Pair) -> None:
    jobs = []
    for front in (pair.one, pair.two):
        front.define(1, forward_s=0.05)
        jobs.append(front.send(*[front.call(1, b"x") for _ in range(5)]))
    pair.worker.command(STOP)
    for front, sent in zip((pair.one, pair.two), jobs, strict=True):
        assert [front.reply(job).batch_size for job in sent] == [1] * 5
        front.read_to_end()
    assert pair.worker.exit_code() == 0


def test_when_both_are_gone_nothing_is_left(pair: Pair) -> None:
    for front in (pair.one, pair.two):
        front.define(1, bytes=900)
        front.prepare(1)
        front.close()
    one, two = pair.worker.accept(), pair.accept_second()
    assert [front.refused(1, b"x").failure for front in (one, two)] == ["request"] * 2
    one.define(1, bytes=900)
    assert one.predict(1, b"x").cache == "disk"
