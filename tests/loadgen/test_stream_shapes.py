"""The real locust sends every shape of load against a small server on real sockets.

Always with a generous --max-send-lag: how punctual the load tester is depends on the machine, and is tested elsewhere.
"""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dlclient.results import Record, Slot, read_plan

from tests.loadgen.conftest import NO_TREND, QUICK, Call, codes, end, two

if TYPE_CHECKING:
    from tests.loadgen.conftest import FakeServer, Locust

pytestmark = pytest.mark.usefixtures("pictures")

Serve = Callable[..., "FakeServer"]
Start = Callable[..., "Locust"]
WARM = (*QUICK, "--phases", "warm", "--max-send-lag", "5000")


def sent(records: list[Record]) -> list[tuple[int, str, str]]:
    """What went out, in the order of the plan."""
    return sorted((record.index, record.model, record.image) for record in records)


def planned(slots: list[Slot]) -> list[tuple[int, str, str]]:
    return [(slot.index, slot.model, slot.images[0]) for slot in slots]


def test_an_open_loop_sends_every_slot_at_its_due_time(serve: Serve, locust: Start, tmp_path: Path) -> None:
    server = serve()
    run, records, said = end(locust(*WARM, "--rate", "200", "--requests", str(NO_TREND), "-H", server.url), 0)
    header, slots = read_plan(tmp_path / "out")
    assert run.verdict == "valid"
    assert header.load == run.plan.load == "200/s poisson"
    assert sent(records) == planned(slots)
    assert {record.index: record.due_s for record in records} == pytest.approx(
        {slot.index: slot.due_s for slot in slots}, abs=2e-6
    )
    assert all(record.due_s <= record.sent_s <= (record.first_byte_s or 0) <= record.done_s for record in records)
    assert len(server.measured(None)) == NO_TREND
    (phase,) = run.phases
    assert phase.offered_per_s == pytest.approx(NO_TREND / (slots[-1].due_s or 0))
    assert phase.total.dropped == 0
    assert run.plan.users == 100, "as many may be in flight unless -u says otherwise"
    assert "200/s poisson" in said


def test_a_plan_is_repeated_byte_for_byte_by_one_process_and_by_two(
    serve: Serve, locust: Start, tmp_path: Path
) -> None:
    server = serve()
    _, records, _ = end(locust(*WARM, "--rate", "200", "--requests", "60", "--seed", "7", "-H", server.url), 0)
    again = (*WARM, "--plan", "out", "-H", server.url)
    for number, more in enumerate(((), two())):
        folder = f"again-{number}"
        run, repeated, _ = end(locust(*again, *more, "--results", folder), 0, folder)
        assert run.verdict == "valid"
        assert (tmp_path / folder / "plan.jsonl").read_bytes() == (tmp_path / "out" / "plan.jsonl").read_bytes()
        assert sent(repeated) == sent(records)
        assert run.plan.shares == 1 + number
        assert run.plan.load == "200/s poisson"


def test_a_closed_plan_is_repeated_with_as_many_users(serve: Serve, locust: Start) -> None:
    server = serve()
    _, records, _ = end(locust(*WARM, "-u", "3", "--requests", "30", "-H", server.url), 0)
    run, repeated, _ = end(locust(*WARM, "--plan", "out", "--results", "again", "-H", server.url), 0, "again")
    assert run.plan.users == 3
    assert run.plan.load == "closed"
    assert sent(repeated) == sent(records)


def test_a_plan_of_several_images_a_request_needs_no_option_for_them(serve: Serve, locust: Start) -> None:
    server = serve()
    end(locust(*WARM, "--batch-size", "2", "--requests", "10", "-H", server.url), 0)
    run, _, _ = end(locust(*WARM, "--plan", "out", "--results", "again", "-H", server.url), 0, "again")
    assert (run.plan.batch_size, run.target.protocol) == (2, "deepdetect")
    code, _, err = locust(*WARM, "--plan", "out", "--protocol", "raw", "--results", "3", "-H", server.url).wait()
    assert code == 1
    assert "--plan has 2 images a request, --protocol raw carries one" in err


def test_a_trace_and_a_file_of_gaps_are_sent_as_they_are(serve: Serve, locust: Start, tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "gaps.txt").write_text("1000\n3000\n")
    (tmp_path / "trace.csv").write_text(
        "app,func,end_timestamp,duration\np,f,1.5,0.5\np,f,1.1,0.0\np,g,1.3,0.1\n"  # starts 1.0, 1.1, 1.2
    )
    gaps, records, _ = end(locust(*WARM, "--intervals", "gaps.txt", "--requests", "6", "-H", server.url), 0)
    assert sorted(record.due_s for record in records) == pytest.approx([0.001, 0.004, 0.005, 0.008, 0.009, 0.012])
    assert gaps.plan.load == "intervals of gaps.txt"
    ask = ("--trace", "trace.csv", "--speed", "2", "--services", "beta,alpha", "--results", "traced")
    _, records, _ = end(locust(*WARM, *ask, "-H", server.url), 0, "traced")
    by_index = sorted(records, key=lambda record: record.index)
    assert [record.due_s for record in by_index] == pytest.approx([0.0, 0.05, 0.1])
    assert [record.model for record in by_index] == ["beta", "beta", "alpha"]


def test_the_scenarios_of_mlperf_send_as_their_names_say(serve: Serve, locust: Start) -> None:
    server = serve()
    ask = (*WARM, "-H", server.url, "--requests", "12", "--scenario")
    single, records, _ = end(locust(*ask, "SingleStream"), 0)
    assert single.plan.users == 1
    in_order = sorted(records, key=lambda record: record.index)
    assert all(before.done_s <= after.due_s for before, after in pairwise(in_order))
    multi, records, _ = end(locust(*ask, "MultiStream", "--results", "multi"), 0, "multi")
    assert (multi.plan.users, multi.plan.batch_size) == (1, 8)
    assert {record.images for record in records} == {8}
    served, _, _ = end(locust(*ask, "Server", "--rate", "200", "--results", "server"), 0, "server")
    assert served.plan.load == "200/s poisson"
    offline, records, _ = end(locust(*ask, "Offline", "--results", "offline"), 0, "offline")
    assert offline.plan.load == "at once"
    assert {record.due_s for record in records} == {0.0}
    assert offline.phases[0].offered_per_s is None


def test_a_scenario_of_one_query_at_a_time_does_not_run_with_more(serve: Serve, locust: Start) -> None:
    ask = ("--scenario", "SingleStream", "-u", "2", "--requests", "12", "-H", serve().url)
    run, _, _ = end(locust(*WARM, *ask), 1)
    assert "--scenario SingleStream has one query in flight, not 2" in run.reasons[0].text


def test_what_nobody_was_free_to_send_in_time_is_dropped_counted_and_makes_the_run_invalid(
    serve: Serve, locust: Start
) -> None:
    stalled = threading.Semaphore(2)

    def stall(call: Call) -> None:
        if call.worker is None and stalled.acquire(blocking=False):
            threading.Event().wait(1.5)  # the server takes that long, for both users

    server = serve(react=stall)
    ask = ("--rate", "200", "--arrivals", "constant", "--requests", "60", "--drop-after", "0.2", "-u", "2")
    run, records, said = end(locust(*WARM, *ask, "-H", server.url), 1)
    dropped = [record for record in records if record.dropped]
    assert codes(run)[0] == "dropped"
    assert run.phases[0].total.dropped == len(dropped) > 20
    assert len(records) == 60
    assert len(server.measured(None)) == 60 - len(dropped)
    assert all(record.sent_s - record.due_s > 0.2 for record in dropped)
    assert f"{len(dropped)} of 60 requests were never sent" in said


def test_without_drop_after_a_stalled_server_makes_requests_late_and_none_is_lost(serve: Serve, locust: Start) -> None:
    stalled = threading.Semaphore(2)

    def stall(call: Call) -> None:
        if call.worker is None and stalled.acquire(blocking=False):
            threading.Event().wait(1.0)

    server = serve(react=stall)
    ask = ("--rate", "200", "--arrivals", "constant", "--requests", "60", "-u", "2", "--max-send-lag", "100")
    run, records, _ = end(locust(*WARM, *ask, "-H", server.url), 1)
    assert "senders-exhausted" in codes(run)
    assert len(records) == len(server.measured(None)) == 60
    assert max(record.latency_s for record in records) > 0.9, "the wait is part of what is measured"
    assert max(record.service_s for record in records if record.send_lag_s > 0.5) < 0.9


def test_users_think_between_an_answer_and_their_next_request(serve: Serve, locust: Start) -> None:
    run, records, _ = end(locust(*WARM, "-u", "1", "--think", "0.05", "--requests", "6", "-H", serve().url), 0)
    in_order = sorted(records, key=lambda record: record.index)
    pauses = [after.due_s - before.done_s for before, after in pairwise(in_order)]
    assert min(pauses) > 0.048  # gevent's clock is that of the round of its loop
    assert run.plan.load == "closed"


def test_all_users_of_a_closed_loop_have_a_request_in_flight(serve: Serve, locust: Start) -> None:
    together = threading.Barrier(4)

    def meet(call: Call) -> None:
        if call.worker is None and call.number <= 8:
            together.wait(60)  # breaks unless four requests are there at once

    server = serve(react=meet, workers=2)
    run, records, _ = end(locust(*WARM, "-u", "4", "--requests", "20", "-H", server.url), 0)
    assert run.verdict == "valid"
    assert len(records) == 20
    assert not together.broken


def test_a_warm_up_is_sent_before_the_clock_and_recorded_nowhere(serve: Serve, locust: Start) -> None:
    server = serve()
    ask = ("--rate", "300", "--requests", "30", "--warmup", "45", "--tail", "0.02")
    run, records, _ = end(locust(*WARM, *ask, "-H", server.url), 0)
    assert len(server.measured(None)) == 45 + 30
    assert len(records) == 30
    clock = run.phases[0].clock
    assert clock.warm_up_requests == 45
    assert clock.to_s == pytest.approx(max(record.due_s for record in records) - 0.02)
    assert clock.left_out == sum(record.due_s > (clock.to_s or 0) for record in records) > 0
    assert run.phases[0].total.requests == 30 - clock.left_out
