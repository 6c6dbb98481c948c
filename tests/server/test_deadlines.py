"""Calls with a deadline, on a real server: refused at once, dropped before they run, or answered in time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import httpx
import pytest

from tests.conftest import DEADLINE_S, Server, sample, simulated, status_of
from tests.server.conftest import until

JPEG = {"Content-Type": "image/jpeg"}
TENSOR = {"inputs": [{"name": "input", "shape": [1], "datatype": "BYTES", "data": ["eA=="]}]}
WAYS = ("raw", "json", "kserve", "header on json", "header on kserve")


@pytest.fixture
def client(start_server: Callable[..., Server]) -> Iterator[httpx.Client]:
    """Of a server with one worker that runs one image at a time."""
    server = start_server("--workers", "1", "--devices", "cpu", "--max-batch", "1").wait_ready()
    with server.client(limits=httpx.Limits(max_connections=100)) as client:
        yield client


def call(client: httpx.Client, service: str, timeout_ms: float | None = None, way: str = "raw") -> httpx.Response:
    """A call with a deadline, told in one of the `WAYS`."""
    header = {} if timeout_ms is None or way in ("json", "kserve") else {"X-Timeout-Ms": f"{timeout_ms:g}"}
    given: dict[str, Any] = {} if timeout_ms is None or header else {"timeout_ms": timeout_ms}
    if way == "raw":
        return client.post(f"/predict/{service}", content=b"x", headers=JPEG | header)
    if "json" in way:
        body = {"service": service, "parameters": given, "data": ["eA=="]}
        return client.post("/predict", json=body, headers=header)
    return client.post(f"/v2/models/{service}/infer", json=TENSOR | {"parameters": given}, headers=header)


def refused(client: httpx.Client) -> float:
    return sample(client, "dlserve_rejected_total", reason="deadline")


def test_what_cannot_be_in_time_is_refused_at_once_however_it_tells_its_deadline(client: httpx.Client) -> None:
    simulated(client, "slow", forward_s=0.5)
    assert call(client, "slow").status_code == 200
    for number, way in enumerate(WAYS, 1):
        answer = call(client, "slow", 100, way)
        assert answer.status_code == 429, answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        assert "deadline" in answer.text
        assert refused(client) == number
    assert status_of(call(client, "slow", 100))["msg"] == "Too Many Requests"
    for way in WAYS:
        assert call(client, "slow", 60_000, way).status_code == 200
    assert sample(client, "dlserve_requests_total", service="slow", code="200") == 6
    assert sample(client, "dlserve_cache_requests_total", service="slow") == 6, "no refused call has reached a worker"
    assert sample(client, "dlserve_prediction_error_ratio_count", service="slow") == 5, (
        "all but the first were predicted"
    )


def test_what_has_missed_its_deadline_is_dropped_before_it_runs(client: httpx.Client) -> None:
    simulated(client, "unknown", forward_s=1.0)
    simulated(client, "other")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, client, "unknown")
        until(lambda: sample(client, "dlserve_cache_loads_total", service="unknown") == 1)  # then it runs
        answer = call(client, "other", 300)  # nothing is known of either model: it is not refused
        assert status_of(answer)["code"] == 504
        assert status_of(answer)["msg"] == "Gateway Timeout"
        assert "deadline" in status_of(answer)["dd_msg"]
        assert first.result(DEADLINE_S).status_code == 200
    assert sample(client, "dlserve_expired_total") == 1
    assert sample(client, "dlserve_cache_requests_total", service="other") == 0
    assert call(client, "other").status_code == 200


def test_an_answer_that_comes_too_late_is_given_and_counted(client: httpx.Client) -> None:
    simulated(client, "unknown", forward_s=0.3)
    assert call(client, "unknown", 100).status_code == 200
    assert sample(client, "dlserve_late_total") == 1


def test_a_deadline_that_is_none_is_an_error(client: httpx.Client) -> None:
    simulated(client, "sim")
    for text in ("0", "-5", "soon", "nan", "inf", "1e12", ""):
        status = status_of(client.post("/predict/sim", content=b"x", headers=JPEG | {"X-Timeout-Ms": text}))
        assert (status["code"], status["dd_code"]) == (400, 1006)
        assert "X-Timeout-Ms" in status["dd_msg"]
    for value in (0, -1, "100", True, [100], 1e300):
        body = {"service": "sim", "parameters": {"timeout_ms": value}, "data": ["eA=="]}
        status = status_of(client.post("/predict", json=body))
        assert (status["code"], status["dd_code"]) == (400, 1006)
        assert "timeout_ms" in status["dd_msg"]


def test_with_more_clients_than_it_can_serve_answers_in_time_stay_as_many(client: httpx.Client) -> None:
    """Two clients keep the worker busy; twelve more than double the load. Every call is answered, in time or with 429 or 504."""
    simulated(client, "sim", forward_s=0.05)
    call(client, "sim")
    good = []
    pause = threading.Event()
    for users in (2, 12):
        statuses: Counter[int] = Counter()
        in_time = [0]
        until_s = perf_counter() + 3.0

        def use(statuses: Counter[int] = statuses, in_time: list[int] = in_time, until_s: float = until_s) -> None:
            while (began := perf_counter()) < until_s:
                status = call(client, "sim", 400).status_code
                statuses[status] += 1
                in_time[0] += status == 200 and perf_counter() - began < 0.4
                if status != 200:
                    pause.wait(0.02)

        threads = [threading.Thread(target=use) for _ in range(users)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        assert set(statuses) <= {200, 429, 504}
        good.append(in_time[0])
    assert statuses[429] > 0
    assert good[1] > 0.7 * good[0] > 5
    assert sample(client, "dlserve_worker_in_flight") == 0
    assert call(client, "sim").status_code == 200
