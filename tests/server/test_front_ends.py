"""Several front ends on one port: whichever is asked, the answer is the server's; and one that is killed takes nothing with
it but its connections. That faults and the API are the same with them is tested where those are tested.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import DEADLINE_S, Server, sample, status_of
from tests.server.conftest import until

JPEG = {"Content-Type": "image/jpeg"}
OPTIONS = ("--front-ends", "2", "--workers", "2", "--devices", "cpu")


def front_pids(server: Server) -> list[int]:
    """The front ends' processes, by their numbers."""
    children = psutil.Process(server.process.pid).children()
    found = [(child.cmdline(), int(child.pid)) for child in children]
    fronts = [(line[line.index("--number") + 1], pid) for line, pid in found if "dlserve.front" in line]
    return [pid for _, pid in sorted(fronts)]


def connections_of(pid: int, url: str) -> int:
    """How many clients' connections a process holds."""
    port = int(url.rsplit(":", 1)[1])
    held = psutil.Process(pid).net_connections("tcp")
    return sum(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in held)


class Line:
    """One connection to the server that stays open, so all it asks goes to one front end."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=DEADLINE_S)
        assert self.ask("GET", "/healthz")[0] == 200
        self.port = self._connection.sock.getsockname()[1]

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, and the answer's JSON (of /metrics its text)."""
        content = body if isinstance(body, bytes) else json.dumps(body)
        self._connection.request(method, path, content if body is not None else None, JPEG)
        response = self._connection.getresponse()
        answer = response.read().decode()
        return response.status, answer if path == "/metrics" else json.loads(answer)

    def create(self, name: str, **profile: Any) -> int:
        """Create a simulated service; the status."""
        return self.ask("PUT", f"/services/{name}", {"mllib": "simulated", "parameters": {"mllib": profile}})[0]

    def predict(self, name: str) -> int:
        """One call; the status."""
        return self.ask("POST", f"/predict/{name}", b"x")[0]

    def statistics(self, name: str) -> dict[str, Any]:
        """What the server says of a service's calls."""
        status, answer = self.ask("GET", f"/services/{name}")
        assert status == 200, answer
        found: dict[str, Any] = answer["body"]["service_stats"]
        return found

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(*OPTIONS).wait_ready()
    yield server
    assert server.stop() == 0


@pytest.fixture
def lines(server: Server) -> Iterator[list[Line]]:
    """A connection to each of the two."""
    opened = [Line(server), Line(server)]
    yield opened
    for line in opened:
        line.close()
    until(lambda: not any(connections_of(pid, server.url) for pid in front_pids(server)))


def test_connections_are_dealt_out_evenly_also_beside_those_that_stay(server: Server) -> None:
    pids = front_pids(server)

    def held() -> list[int]:
        return [connections_of(pid, server.url) for pid in pids]

    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(contextlib.closing(Line(server))) for _ in range(8)]
        assert held() == [4, 4]
        for line in opened[::2]:  # they were dealt out in turn: these are all of one front end
            line.close()
        until(lambda: sorted(held()) == [0, 4])
        for _ in range(4):
            stack.enter_context(contextlib.closing(Line(server)))
        assert held() == [4, 4]
    until(lambda: held() == [0, 0])


def test_what_one_makes_or_deletes_is_so_at_once_for_the_other(lines: list[Line]) -> None:
    one, other = lines
    for number in range(10):
        name = f"made-{number}"
        assert one.create(name, bytes=1000) == 201
        assert other.predict(name) == 200
        (mine, theirs) = (line.ask("GET", f"/services/{name}")[1]["body"] for line in lines)
        assert mine["dlserve"] == theirs["dlserve"]
        assert mine["dlserve"]["reload_tiers"] == ["disk"]
        assert other.create(name) == 409
        assert other.ask("DELETE", f"/services/{name}")[0] == 200
        assert one.predict(name) == other.predict(name) == 404
        assert one.ask("DELETE", f"/services/{name}")[0] == 404
        lines.reverse()
        one, other = lines


def test_of_two_that_make_the_same_at_once_one_does(lines: list[Line]) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(10):
            name = f"same-{number}"
            start = threading.Barrier(2)

            def create(line: Line, name: str = name, start: threading.Barrier = start) -> int:
                start.wait(DEADLINE_S)
                return line.create(name, bytes=1000)

            assert sorted(pool.map(create, lines)) == [201, 409]
            assert [line.predict(name) for line in lines] == [200, 200]


def test_counts_are_sums_whoever_is_asked(lines: list[Line], server: Server) -> None:
    assert lines[0].create("counted", bytes=1000) == 201
    for calls, line in enumerate(lines, 3):
        assert [line.predict("counted") for _ in range(calls)] == [200] * calls
    assert lines[1].ask("POST", "/predict", {"service": "counted", "data": []})[0] == 400
    for line in lines:
        totals = line.statistics("counted")
        assert (totals["predict_success"], totals["predict_failure"]) == (7, 1)
        stats = line.ask("GET", "/v2/models/counted/stats")[1]["model_stats"][0]
        assert (stats["inference_count"], stats["inference_stats"]["fail"]["count"]) == (7, 1)

    def counters(line: Line) -> set[str]:
        text: str = line.ask("GET", "/metrics")[1]
        rows = set(re.findall(r"^(?:dlserve|deepdetect)_\S+ \S+$", text, re.MULTILINE))
        return {row for row in rows if "resident_memory" not in row}

    mine, theirs = map(counters, lines)
    assert mine == theirs
    assert 'dlserve_requests_total{code="200",service="counted"} 7.0' in mine
    assert 'dlserve_stage_seconds_count{service="counted",stage="forward"} 7.0' in mine
    with server.client() as client:
        assert sample(client, "dlserve_cache_loads_total", service="counted") in (1, 2)  # of one worker, or both
        spent = sum(psutil.Process(pid).cpu_times().user for pid in front_pids(server))
        assert sample(client, "process_cpu_seconds_total") >= spent


def test_what_one_unloads_the_other_loads_and_its_totals_go_on(lines: list[Line]) -> None:
    one, other = lines
    assert one.create("to-and-fro", bytes=1000, forward_s=0.001) == 201
    assert [line.predict("to-and-fro") for line in lines] == [200, 200]
    for _ in range(3):
        assert one.ask("POST", "/v2/repository/models/to-and-fro/unload")[0] == 200
        assert other.predict("to-and-fro") == 404
        states = {row["name"]: row["state"] for row in other.ask("POST", "/v2/repository/index", {})[1]}
        assert states["to-and-fro"] == "UNAVAILABLE"
        assert other.ask("POST", "/v2/repository/models/to-and-fro/load")[0] == 200
        assert [line.predict("to-and-fro") for line in lines] == [200, 200]
        one, other = other, one
    assert [line.statistics("to-and-fro")["predict_success"] for line in lines] == [8, 8]


def test_a_killed_front_end_takes_its_connections_with_it_and_nothing_else(
    start_server: Callable[..., Server], small_models: Callable[..., Path]
) -> None:
    options = ("--models-dir", str(small_models("there", bytes=1000)), "--preload", "there", "--max-batch", "1")
    server = start_server(*OPTIONS, *options).wait_ready()
    with contextlib.ExitStack() as stack:
        first, second, *busy = (stack.enter_context(contextlib.closing(Line(server))) for _ in range(6))
        client, pool = stack.enter_context(server.client()), stack.enter_context(ThreadPoolExecutor(4))
        assert first.create("sim", bytes=1000, forward_s=0.3) == 201
        assert [line.predict("sim") for line in (first, second) for _ in range(2)] == [200] * 4
        before = second.statistics("sim")["predict_success"]
        dying = [pool.submit(line.predict, "sim") for line in busy]
        until(lambda: sample(client, "dlserve_worker_in_flight") == 4)
        os.kill(owner(server, first), signal.SIGKILL)
        ends = [call.exception(DEADLINE_S) or call.result() for call in dying]
        assert [end for end in ends if not isinstance(end, Exception)] == [200, 200]
        assert sum(isinstance(end, OSError | http.client.HTTPException) for end in ends) == 2
        assert second.predict("sim") == 200
        assert client.post("/predict/sim", content=b"x", headers=JPEG).status_code == 200, "others go on meanwhile"
        server.wait_for(r"front end \d died")
        server.wait_for(r"front end \d is back")
        until(lambda: sample(client, "dlserve_worker_in_flight") == 0)
        lines = [stack.enter_context(contextlib.closing(Line(server))) for _ in range(4)]
        assert len({owner(server, line) for line in lines}) == 2, "the new one has its share"
        for line in lines:
            assert line.predict("sim") == line.predict("there") == 200, "it knows what was made before"
            assert line.statistics("sim")["predict_success"] > before + 2, "what was told once still counts"
        found = [row["up"] for line in lines for row in line.ask("GET", "/info")[1]["head"]["dlserve"]["workers"]]
        assert found == [True] * 8
        assert sample(client, "dlserve_worker_restarts_total") == 0
    assert server.stop() == 0


def test_queues_and_a_worker_s_progress_are_those_of_the_server(start_server: Callable[..., Server]) -> None:
    options = ("--workers", "1", "--queue", "6", "--worker-timeout", "1", "--max-batch", "1")
    server = start_server(*OPTIONS, *options).wait_ready()
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(contextlib.closing(Line(server))) for _ in range(10)]
        client, pool = stack.enter_context(server.client()), stack.enter_context(ThreadPoolExecutor(6))
        assert lines[0].create("sim", bytes=1000, forward_s=0.4) == 201
        mine, theirs = lines[::2], lines[1::2]
        calls = [pool.submit(line.predict, "sim") for line in mine]
        until(lambda: sample(client, "dlserve_worker_in_flight") == 5)
        calls.append(pool.submit(theirs[0].predict, "sim"))
        until(lambda: sample(client, "dlserve_worker_in_flight") == 6)
        assert theirs[1].predict("sim") == 429, "its own front end has one call there"
        assert [call.result(DEADLINE_S) for call in calls] == [200] * 6, (
            "one waited 2 s for the other front end's calls"
        )
        assert sample(client, "dlserve_rejected_total", reason="queue_full") == 1
        assert sample(client, "dlserve_worker_restarts_total") == 0
    assert server.stop() == 0


def owner(server: Server, line: Line) -> int:
    """The front end at the other end of a connection."""
    port = line.port
    for pid in front_pids(server):
        if any(one.raddr and one.raddr.port == port for one in psutil.Process(pid).net_connections("tcp")):
            return pid
    pytest.fail(f"no front end holds the connection of port {port}")


def test_an_error_has_the_same_shape_from_each(lines: list[Line], server: Server) -> None:
    for line in lines:
        status, answer = line.ask("GET", "/services/nobody")
        assert (status, answer["status"]["dd_code"]) == (404, 1002)
    with server.client() as client:
        assert status_of(client.post("/predict", content=b"{"))["code"] == 400
