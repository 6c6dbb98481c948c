"""What happens when something dies, hangs, fills up or is stopped: clients see answers, or an error that says what happened."""

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import DEADLINE_S, Server, sample, simulated, status_of
from tests.server.conftest import photograph, until

JPEG = {"Content-Type": "image/jpeg"}
IMAGE = photograph(1)
EVERYWHERE = "0.0.0.0"  # noqa: S104  to see that it needs a key
Start = Callable[..., Server]


def post(client: httpx.Client, service: str = "sim", query: str = "") -> httpx.Response:
    return client.post(f"/predict/{service}{query}", content=IMAGE, headers=JPEG)


def worker_pids(server: Server) -> list[int]:
    """The processes of the workers, by the number that each has in its log name order."""
    children = psutil.Process(server.process.pid).children()
    return [child.pid for child in children if "dlserve.worker" in child.cmdline()]


def front_pid(server: Server) -> int:
    (front,) = [int(c.pid) for c in psutil.Process(server.process.pid).children() if "dlserve.front" in c.cmdline()]
    return front


def hammer(client: httpx.Client, count: int, users: int, query: str = "") -> tuple[list[int], Callable[[], list[int]]]:
    """Begin to send `count` calls from `users` threads; the statuses so far, and a way to wait for all of them."""
    statuses: list[int] = []
    pool = ThreadPoolExecutor(users)
    futures = [pool.submit(lambda: statuses.append(post(client, query=query).status_code)) for _ in range(count)]

    def wait() -> list[int]:
        for future in futures:
            future.result(DEADLINE_S)
        pool.shutdown()
        return statuses

    return statuses, wait


def test_a_killed_worker_costs_no_answer_and_is_replaced(start_either: Start) -> None:
    server = start_either("--workers", "2", "--devices", "cpu").wait_ready()
    with server.client(limits=httpx.Limits(max_connections=8)) as client:
        simulated(client, "sim", forward_s=0.01)
        statuses, wait = hammer(client, 500, 8)
        until(lambda: len(statuses) > 50)
        os.kill(worker_pids(server)[0], signal.SIGKILL)
        assert wait() == [200] * 500
        server.wait_for(r"worker \d is back")
        assert sum(sample(client, "dlserve_worker_up", worker=str(index)) for index in (0, 1)) == 2
        assert sample(client, "dlserve_worker_restarts_total") == 1
        assert sample(client, "dlserve_retries_total") >= 1
        assert sample(client, "dlserve_requests_total", service="sim", code="200") == 500
        assert sample(client, "dlserve_requests_total", service="sim") == 500
    assert server.stop() == 0


def test_with_one_worker_its_calls_wait_for_the_new_one(start_server: Start) -> None:
    server = start_server("--workers", "1", "--devices", "cpu").wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=0.2)
        _, wait = hammer(client, 3, 3)
        until(lambda: sample(client, "dlserve_worker_in_flight") == 3)
        os.kill(worker_pids(server)[0], signal.SIGKILL)
        assert wait() == [200] * 3


def test_a_call_that_kills_two_workers_gets_an_error_that_says_so(start_either: Start) -> None:
    server = start_either("--workers", "1", "--devices", "cpu").wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=60)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(post, client)
            for attempt in range(2):
                until(lambda: sample(client, "dlserve_worker_in_flight") == 1)
                (pid,) = worker_pids(server)
                os.kill(pid, signal.SIGKILL)
                if attempt == 0:
                    server.wait_for("worker 0 is back")
            status = status_of(answer.result(DEADLINE_S))
        assert status["code"] == 503
        assert "2 workers died" in status["dd_msg"]
        server.wait_for("worker 0 is back")
        simulated(client, "well")
        assert post(client, "well").status_code == 200


def test_a_hung_worker_is_replaced_and_its_call_answered(start_either: Start) -> None:
    server = start_either("--workers", "2", "--devices", "cpu", "--worker-timeout", "1").wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=0.01)
        pids = worker_pids(server)
        os.kill(pids[0], signal.SIGSTOP)
        _, wait = hammer(client, 20, 4)
        server.wait_for(r"worker \d: no progress for .* replacing it")
        assert wait() == [200] * 20
        server.wait_for(r"worker \d is back")
        assert pids[0] not in worker_pids(server)


def test_a_killed_front_end_comes_back_with_its_services(start_server: Start, tmp_path: Path) -> None:
    server = start_server("--workers", "2", "--devices", "cpu", "--models-dir", str(tmp_path)).wait_ready()
    os.kill(front_pid(server), signal.SIGKILL)
    server.wait_for(r"worker \d is back")
    server.wait_for(r"worker \d is back")
    with server.client() as client:
        simulated(client, "sim")
        assert post(client).status_code == 200
    assert server.stop() == 0


def test_a_worker_that_joins_while_a_service_is_made_learns_of_it(start_either: Start) -> None:
    server = start_either("--workers", "2", "--devices", "cpu").wait_ready()
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        first, second = worker_pids(server)
        os.kill(first, signal.SIGSTOP)
        os.kill(second, signal.SIGSTOP)
        created = pool.submit(simulated, client, "sim")
        until(lambda: "0" in client.get("/services/sim").text)  # the PUT is under way, or over
        os.kill(second, signal.SIGKILL)
        server.wait_for(r"worker \d is back")
        os.kill(first, signal.SIGCONT)
        created.result(DEADLINE_S)
        for index in (0, 1):
            assert post(client, query=f"?worker={index}").status_code == 200


def test_a_deleted_service_that_was_to_be_preloaded_keeps_no_worker_from_coming_back(
    start_server: Start, repository: Path
) -> None:
    options = ("--workers", "1", "--devices", "cpu", "--models-dir", str(repository), "--preload", "squeezenet1_1")
    server = start_server(*options).wait_ready()
    with server.client() as client:
        assert client.delete("/services/squeezenet1_1").status_code == 200
        os.kill(worker_pids(server)[0], signal.SIGKILL)
        server.wait_for("worker 0 is back")
        assert post(client, "shufflenet_v2_x0_5").status_code == 200


def test_signals_to_every_process_of_the_service_are_one_ordered_stop(start_server: Start) -> None:
    server = start_server("--workers", "2", "--devices", "cpu").wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=0.3)
        _, wait = hammer(client, 4, 4)
        until(lambda: sample(client, "dlserve_worker_in_flight") == 4)
        for process in [*psutil.Process(server.process.pid).children(), psutil.Process(server.process.pid)]:
            process.send_signal(signal.SIGTERM)
        assert wait() == [200] * 4
    assert server.end() == 0
    assert "replaced" not in "".join(server.log)


def test_without_a_worker_only_so_many_calls_wait(start_either: Start) -> None:
    server = start_either("--workers", "1", "--devices", "cpu", "--queue", "2").wait_ready()
    with server.client() as client:
        simulated(client, "sim")
        (pid,) = worker_pids(server)
        statuses: list[int] = []
        while 429 not in statuses:  # the new worker may be there before the third call: then once more
            os.kill(pid, signal.SIGKILL)
            until(lambda: sample(client, "dlserve_worker_up") == 0)
            statuses, wait = hammer(client, 8, 8)
            wait()
            server.wait_for("worker 0 is back")
            (pid,) = worker_pids(server)
        assert set(statuses) == {200, 429}


def test_nothing_outlives_a_killed_supervisor(start_either: Start) -> None:
    server = start_either("--workers", "2", "--devices", "cpu").wait_ready()
    children = psutil.Process(server.process.pid).children()
    assert len(children) == 2 + server.front_ends
    server.process.kill()
    _, alive = psutil.wait_procs(children, timeout=DEADLINE_S)
    assert not alive
    assert server.end() == -signal.SIGKILL


@pytest.mark.parametrize(("number", "fronts"), [(signal.SIGTERM, "1"), (signal.SIGINT, "1"), (signal.SIGTERM, "2")])
def test_a_stop_answers_everything_that_was_accepted(start_server: Start, number: signal.Signals, fronts: str) -> None:
    server = start_server("--workers", "2", "--devices", "cpu", "--front-ends", fronts).wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=0.3)
        _, wait = hammer(client, 16, 16, query="?best=1")
        until(lambda: sample(client, "dlserve_worker_in_flight") == 16)
        server.process.send_signal(number)
        assert wait() == [200] * 16
    assert server.end() == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz", trust_env=False)


def test_a_second_signal_stops_at_once(start_server: Start) -> None:
    server = start_server("--workers", "1", "--devices", "cpu").wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=60)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(post, client)
            until(lambda: sample(client, "dlserve_worker_in_flight") == 1)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("stopping: running requests")
            while server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
                threading.Event().wait(0.2)
            assert isinstance(answer.exception(DEADLINE_S), httpx.TransportError)
    assert server.end() == 1


def test_what_does_not_drain_in_time_is_stopped_with_exit_code_1(start_either: Start) -> None:
    server = start_either("--workers", "1", "--devices", "cpu", "--drain-timeout", "1").wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=600)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(post, client)
            until(lambda: sample(client, "dlserve_worker_in_flight") == 1)
            server.process.send_signal(signal.SIGTERM)
            assert answer.exception(DEADLINE_S) is not None or answer.result().status_code >= 500
    assert server.end() == 1


def test_a_full_queue_is_a_429_at_once_that_says_when_to_come_back(start_either: Start) -> None:
    server = start_either("--workers", "1", "--devices", "cpu", "--queue", "2", "--max-batch", "1").wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=0.5)
        _, wait = hammer(client, 2, 2)
        until(lambda: sample(client, "dlserve_worker_in_flight") == 2)
        refused = post(client)
        assert status_of(refused)["code"] == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert sample(client, "dlserve_rejected_total", reason="queue_full") == 1
        assert wait() == [200, 200]
        assert post(client).status_code == 200


def test_work_whose_client_has_left_is_dropped_before_it_runs(start_either: Start) -> None:
    server = start_either("--workers", "1", "--devices", "cpu", "--max-batch", "1").wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=1.0)
        _, wait = hammer(client, 1, 1)
        until(lambda: sample(client, "dlserve_worker_in_flight") == 1)

        async def leave() -> None:
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as leaving:
                calls = [
                    asyncio.create_task(leaving.post("/predict/sim", content=IMAGE, headers=JPEG)) for _ in range(3)
                ]
                await asyncio.to_thread(until, lambda: sample(client, "dlserve_worker_in_flight") == 4)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)

        asyncio.run(leave())
        assert wait() == [200]
        until(lambda: sample(client, "dlserve_worker_in_flight") == 0)
        assert sample(client, "dlserve_cancelled_total") == 3
        assert sample(client, "dlserve_images_total", service="sim") == 1  # the three never ran


def test_an_api_key_is_needed_where_one_is_set(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-secret-key\n")
    server = start_server(
        "--workers", "1", "--devices", "cpu", "--api-key-file", str(tmp_path / "key"), "--host", EVERYWHERE
    ).wait_ready()
    url = server.url.replace(EVERYWHERE, "127.0.0.1")
    with httpx.Client(base_url=url, trust_env=False, timeout=DEADLINE_S) as stranger:
        for method, path in [
            ("GET", "/info"),
            ("GET", "/metrics"),
            ("POST", "/predict"),
            ("POST", "/predict/sim"),
            ("PUT", "/services/sim"),
        ]:
            refused = stranger.request(method, path)
            assert status_of(refused)["code"] == 401, path
            assert refused.headers["www-authenticate"] == "Bearer"
        assert stranger.get("/healthz").status_code == 200
        assert stranger.get("/info", headers={"Authorization": "Bearer wrong-key"}).status_code == 401
    for headers in ({"Authorization": "Bearer a-secret-key"}, {"X-API-Key": "a-secret-key"}):
        with httpx.Client(base_url=url, trust_env=False, headers=headers, timeout=DEADLINE_S) as friend:
            assert friend.get("/info").status_code == 200


def test_the_log_can_be_json(start_server: Start) -> None:
    server = start_server("--workers", "1", "--devices", "cpu", "--log-format", "json").wait_ready()
    assert server.stop() == 0
    assert {"supervisor", "worker-0"} <= {json.loads(line)["process"] for line in server.log}


# ---- start-up


def failed_start(start_server: Start, *options: str, **more: Any) -> str:
    server = start_server(*options, **more)
    assert server.end() in (1, 2)
    return server.log[-1]


def test_a_taken_port_is_named(start_server: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = failed_start(start_server, "--port", str(port))
    assert f"port {port} on 127.0.0.1 is taken" in said
    assert "--port" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--devices", "cuda:7"], "there is no GPU cuda:7"),
        (["--devices", "tpu"], "is no device"),
        (["--models-dir", "not-there"], "there is no such folder"),
        (["--data-root", "not-there"], "there is no such folder"),
        (["--host", EVERYWHERE], "--api-key-file"),
        (["--preload", "nobody"], "there is no such model"),
        (["--workers", "0"], "not between 1 and"),
        (["--front-ends", "0"], "not between 1 and 64"),
        (["--front-ends", "65"], "not between 1 and 64"),
        (["--front-ends", "two"], "--front-ends"),
        (["--balance", "magic"], "invalid choice"),
    ],
)
def test_a_start_that_cannot_work_fails_with_a_sentence(
    start_server: Start, tmp_path: Path, options: list[str], said: str
) -> None:
    assert said in failed_start(start_server, *options, cwd=tmp_path)


def test_an_unreadable_model_folder_is_named(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.toml").write_text("name = [")
    said = failed_start(start_server, "--models-dir", str(tmp_path))
    assert "broken" in said
    assert "model.toml" in said


def test_a_model_that_cannot_fit_is_refused_with_both_sizes(start_server: Start, repository: Path) -> None:
    said = failed_start(start_server, "--models-dir", str(repository), "--cache-mb", "1", "--workers", "1")
    assert "not enough memory" in said
    assert "--cache-mb" in said


def test_a_damaged_model_fails_a_preloading_start_and_names_the_worker(
    start_server: Start, repository: Path, tmp_path: Path
) -> None:
    model = tmp_path / "squeezenet1_1"
    model.mkdir()
    for file in (repository / "squeezenet1_1").iterdir():
        content = bytearray(file.read_bytes())
        if file.suffix == ".safetensors":
            content[-1] ^= 1
        (model / file.name).write_bytes(content)
    said = failed_start(start_server, "--models-dir", str(tmp_path), "--preload", "all", "--workers", "1")
    assert "worker 0 could not start" in said
    assert "squeezenet1_1" in said


def test_options_come_from_the_environment_and_a_file_too(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "dlserve.toml").write_text("[dlserve]\nworkers = 3\nmax-batch = 5\nbalance = 'least-loaded'\n")
    server = start_server(
        "--config", str(tmp_path / "dlserve.toml"), env={"DLSERVE_MAX_BATCH": "7", "DLSERVE_DEVICES": "cpu"}
    ).wait_ready()
    with server.client() as client:
        facts = client.get("/info").json()["head"]["dlserve"]
    assert (len(facts["workers"]), facts["max_batch"], facts["balance"]) == (3, 7, "least-loaded")
