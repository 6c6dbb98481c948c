"""A front end whose process stands still: it is replaced once it has for too long, and left alone before."""

import contextlib
import http.client
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Server, sample
from tests.server.test_front_ends import OPTIONS, Line, front_pids, owner

Start = Callable[..., Server]
TIMEOUT_S = "5"
"""Far more than a machine that is busy holds up a process that is not stopped."""


@pytest.mark.parametrize("fronts", [1, 2])
def test_one_that_hangs_is_replaced_and_all_later_calls_are_answered(start_server: Start, fronts: int) -> None:
    server = start_server(
        "--workers", "2", "--devices", "cpu", "--front-ends", str(fronts), "--front-end-timeout", TIMEOUT_S
    ).wait_ready()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        held = stack.enter_context(contextlib.closing(Line(server)))
        assert held.create("sim", bytes=1000) == 201
        assert held.predict("sim") == 200
        pids, hung = front_pids(server), owner(server, held)
        place = str(pids.index(hung))
        os.kill(hung, signal.SIGSTOP)
        lost = pool.submit(held.predict, "sim")
        name = f"front end {place}" if fronts > 1 else "front end"
        server.wait_for(rf"{name}: its event loop has stood still for .* s; replacing it")
        assert isinstance(lost.exception(), OSError | http.client.HTTPException), "its connection ended with it"
        server.wait_for(r"front end \d is back" if fronts > 1 else r"worker \d is back")
        lines = [stack.enter_context(contextlib.closing(Line(server))) for _ in range(4)]
        if fronts == 1:  # what a client had made went with the only front end
            assert lines[0].create("sim", bytes=1000) == 201
        assert [line.predict("sim") for line in lines for _ in range(3)] == [200] * 12
        assert hung not in front_pids(server)
        assert len(front_pids(server)) == fronts
        client = stack.enter_context(server.client())
        assert sample(client, "dlserve_front_end_restarts_total", front_end=place) == 1
        assert sample(client, "dlserve_front_end_restarts_total") == 1
        assert sample(client, "dlserve_worker_restarts_total") == 0
    assert server.stop() == 0


def test_a_stall_that_ends_in_time_costs_nothing(start_server: Start) -> None:
    server = start_server(*OPTIONS).wait_ready()
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        line = stack.enter_context(contextlib.closing(Line(server)))
        assert line.create("sim", bytes=1000) == 201
        pids, stalled = front_pids(server), owner(server, line)
        os.kill(stalled, signal.SIGSTOP)
        call = pool.submit(line.predict, "sim")
        with pytest.raises(TimeoutError):
            call.result(1.0)
        os.kill(stalled, signal.SIGCONT)
        assert call.result() == 200
        assert front_pids(server) == pids
    assert server.stop() == 0
