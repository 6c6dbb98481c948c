"""The real locust as a master with workers, and what is left of a run that ends before its time: on disk, and said.

Always with a generous --max-send-lag: how punctual the load tester is depends on the machine, and is tested elsewhere.
"""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from dlclient.results import parse_records, read_plan, read_run

from tests.loadgen.conftest import NO_TREND, QUICK, Call, Reply, codes, end, two, wait_until, with_page
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.loadgen.conftest import FakeServer, Locust

pytestmark = pytest.mark.usefixtures("pictures")

Serve = Callable[..., "FakeServer"]
Start = Callable[..., "Locust"]
LENIENT = ("--max-send-lag", "5000")
WARM = (*QUICK, *LENIENT, "--phases", "warm")
SCHEDULE = ("--rate", "100", "--arrivals", "constant", "--requests", "150")


class Holding:
    """A server that answers no more after so many measured calls."""

    def __init__(self, after: int) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        self._left = threading.Semaphore(after)

    def __call__(self, call: Call) -> None:
        if call.worker is None and not self._left.acquire(blocking=False):
            self.reached.set()
            self.released.wait(60)


def test_two_processes_send_one_plan_and_give_one_result(serve: Serve, locust: Start, tmp_path: Path) -> None:
    server = serve()
    run, records, said = end(
        locust(*QUICK, *LENIENT, *two(), *SCHEDULE, "--requests", str(NO_TREND), "-H", server.url), 0
    )
    _, slots = read_plan(tmp_path / "out")
    assert (run.verdict, run.interrupted, run.plan.shares) == ("valid", False, 2)
    for phase, cache in (("warm", None), ("disk", "disk")):
        own = sorted((record for record in records if record.phase == phase), key=lambda record: record.index)
        assert [(record.index, record.model, (record.image,)) for record in own] == [
            (slot.index, slot.model, slot.images) for slot in slots
        ]
        assert [record.due_s for record in own] == pytest.approx([slot.due_s for slot in slots], abs=2e-6)
        assert all(record.share == record.index % 2 for record in own)
        assert all(record.due_s <= record.sent_s <= record.done_s for record in own), "one clock"
        assert len(server.measured(cache)) == len(slots)
    merged = [record.done_s for record in records if record.phase == "warm"]
    assert merged == sorted(merged), "in the order in which they ended"
    files = [tmp_path / "out" / f"requests-{share}.jsonl" for share in (0, 1)]
    kept = [record for path in files for record in parse_records(path.read_bytes(), path)]
    assert sorted(kept, key=str) == sorted(records, key=str)
    assert "VALID" in said


def test_two_processes_share_a_closed_loop_and_its_warm_up(serve: Serve, locust: Start) -> None:
    server = serve()
    ask = ("-u", "4", "--requests", "41", "--warmup", "20")
    run, records, _ = end(locust(*WARM, *two(), *ask, "-H", server.url), 0)
    assert sorted(record.index for record in records) == list(range(41))
    assert run.phases[0].clock.warm_up_requests == 20
    assert len(server.measured(None)) == 61
    assert (run.plan.users, run.plan.shares) == (4, 2)


def test_what_does_not_fit_is_told_by_the_master_and_no_worker_sends(serve: Serve, locust: Start) -> None:
    server = serve()
    one = locust(*WARM, *two(), "--services", "gamma", "-H", server.url)
    code, out, err = one.wait()
    assert code == 1
    assert "has no service gamma" in err
    assert "Traceback" not in out + err
    assert server.calls == []
    assert not (one.folder / "out").exists()


def test_fewer_users_than_processes_is_told(serve: Serve, locust: Start) -> None:
    run, records, _ = end(locust(*WARM, *two(), "-u", "1", "--requests", "10", "-H", serve().url), 1)
    assert records == []
    assert "2 Locust processes share 1 users" in run.reasons[0].text


def test_a_killed_worker_makes_the_run_invalid_and_what_it_sent_is_kept(serve: Serve, locust: Start) -> None:
    seen = threading.Semaphore(0)

    def count(call: Call) -> None:
        if call.worker is None:
            seen.release()

    one = locust(*WARM, *two(), *SCHEDULE, "-H", serve(react=count).url)
    for _ in range(40):
        assert seen.acquire(timeout=60)
    one.workers()[0].kill()
    run, records, said = end(one, 1)
    assert run.interrupted
    assert {"interrupted", "missing-worker", "incomplete"} <= set(codes(run))
    by_share = {share: [record for record in records if record.share == share] for share in (0, 1)}
    assert sorted(len(own) == 75 for own in by_share.values()) == [False, True], "the other one sent all of its share"
    assert min(len(own) for own in by_share.values()) >= 5
    assert "does not answer any more" in said


@pytest.mark.parametrize("to_all", [True, False], ids=["Ctrl-C", "SIGTERM to the parent"])
@pytest.mark.parametrize("load", [SCHEDULE, ("-u", "4", "--requests", "150")], ids=["open", "closed"])
def test_an_interrupt_of_two_processes_leaves_what_was_measured(
    serve: Serve, locust: Start, to_all: bool, load: tuple[str, ...]
) -> None:
    hold = Holding(after=30)
    one = locust(*WARM, *two(), *load, "-H", serve(react=hold).url)
    assert hold.reached.wait(60)
    if to_all:
        one.interrupt_all(signal.SIGINT)
    else:
        one.interrupt(signal.SIGTERM)
    try:
        run, records, _ = end(one, 1)
    finally:
        hold.released.set()
    assert run.interrupted
    assert codes(run)[0] == "interrupted"
    assert "incomplete" in codes(run)
    assert {record.share for record in records} == {0, 1}
    assert 30 - 4 <= sum(record.ok for record in records) <= 30, "some answers may not have been read"
    failed = [record.error for record in records if not record.ok]
    assert [error for error in failed if not error.startswith(("abandoned", "the connection broke"))] == []


def test_a_server_that_dies_ends_the_run_of_two_processes(serve: Serve, locust: Start) -> None:
    def die(call: Call) -> Reply | None:
        return Reply(hang_up=True) if call.worker is None and call.number > 30 else None

    ask = ("-u", "4", "--requests", "2000")
    run, records, _ = end(locust(*WARM, *two(), *ask, "-H", serve(react=die).url), 1)
    assert run.interrupted
    assert "the server stopped answering" in run.reasons[0].text
    assert len(records) < 200


@pytest.mark.parametrize("processes", [tuple, two], ids=["one process", "two processes"])
def test_a_full_disk_ends_the_run_and_leaves_what_it_could_hold(
    serve: Serve, locust: Start, processes: Callable[[], tuple[str, ...]]
) -> None:
    one = locust(*WARM, *processes(), "-u", "2", "--requests", "3000", "-H", serve().url)
    one.limit_files(300_000)  # the plan has 150,000 bytes, the records of all 1,000,000
    run, records, _ = end(one, 1)
    assert run.interrupted
    assert codes(run)[0] == "interrupted"
    assert "cannot write to the result folder" in run.reasons[0].text
    assert "incomplete" in codes(run)
    assert 500 < len(records) < 3000
    assert all(record.ok for record in records)
    assert run.phases[0].total.requests == len(records)
    assert not (one.folder / "out" / ".reserve").exists()


def test_a_worker_with_other_images_is_refused_in_a_sentence(serve: Serve, locust: Start, tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "others").mkdir()
    for path in (tmp_path / "pictures").iterdir():
        (tmp_path / "others" / path.name).write_bytes(path.read_bytes() + b"!")
    port = str(free_port())
    ask = ("--requests", "10", "-H", server.url)
    master = locust(*WARM, *ask, "--master", "--master-bind-port", port, "--expect-workers", "1")
    worker = locust("--worker", "--master-port", port, "--images", "others")
    run, records, said = end(master, 1)
    assert records == []
    assert run.interrupted
    assert "a Locust worker cannot send: --images others of this worker holds other images" in run.reasons[0].text
    assert "Traceback" not in said
    assert server.measured(None) == []
    assert worker.wait()[1] == ""


def test_a_master_and_a_worker_started_by_hand_are_one_run(serve: Serve, locust: Start) -> None:
    port = str(free_port())
    ask = ("--rate", "100", "--requests", "50", "-H", serve().url)
    master = locust(*WARM, *ask, "--master", "--master-bind-port", port, "--expect-workers", "1")
    worker = locust("--worker", "--master-port", port, "--images", "pictures")
    run, records, _ = end(master, 0)
    assert (run.plan.shares, len(records)) == (1, 50)
    assert worker.wait()[0] == 0


def test_the_web_page_starts_runs_of_two_processes_and_their_workers_end_with_it(
    serve: Serve, locust: Start, tmp_path: Path
) -> None:
    ask = ("--images", "pictures", "--phases", "warm", *LENIENT, *two(), "-H", serve().url)
    one, page = with_page(locust, *ask)
    with httpx.Client(base_url=page) as web:
        wait_until(lambda: len(web.get("/stats/requests").json().get("workers", ())) == 2)
        start = {"user_count": "4", "spawn_rate": "4", "services": "alpha", "requests": "20"}
        assert web.post("/swarm", data=start | {"services": "gamma"}).json()["success"]
        wait_until(lambda: "has no service gamma" in web.get("/exceptions").text)
        wait_until(lambda: web.get("/stats/requests").json()["state"] in {"ready", "stopped"})
        for number, folder in ((20, "out"), (30, "out-2")):
            assert web.post("/swarm", data=start | {"requests": str(number)}).json()["success"]
            wait_until((tmp_path / folder / "run.json").exists)
            wait_until(lambda: web.get("/stats/requests").json()["state"] in {"ready", "stopped"})
    workers = one.workers()
    one.interrupt()
    assert one.wait()[0] == 1, "the first start was refused"
    runs = [read_run(tmp_path / folder) for folder in ("out", "out-2")]
    assert [(run.verdict, run.plan.requests, run.plan.shares) for run in runs] == [("valid", 20, 2), ("valid", 30, 2)]
    assert psutil.wait_procs(workers, timeout=60)[1] == []
