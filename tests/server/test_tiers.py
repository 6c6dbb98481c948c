"""The cache, its policies and hints, through real servers on simulated models whose times and bytes are known."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import DEADLINE_S, Server, sample, simulated, status_of
from tests.server.conftest import photograph, until

JPEG = {"Content-Type": "image/jpeg"}
IMAGE = photograph(1)
MIB = 1 << 20
Start = Callable[..., Server]


def post(client: httpx.Client, service: str, query: str = "") -> dict[str, Any]:
    answer = client.post(f"/predict/{service}{query}", content=IMAGE, headers=JPEG)
    assert answer.status_code == 200, answer.text
    head: dict[str, Any] = answer.json()["head"]
    return head


def test_a_model_that_leaves_the_device_is_found_in_host_memory_and_metrics_say_so(start_server: Start) -> None:
    options = ("--workers", "1", "--devices", "cpu", "--cache-mb", "1", "--host-cache-mb", "2")
    server = start_server(*options).wait_ready()
    with server.client() as client:
        for name in ("a", "b"):
            simulated(client, name, bytes=700_000, load_s=0.03, host_load_s=0.01)
        simulated(client, "neither", bytes=1000)
        assert [post(client, name)["cache"] for name in ("a", "a", "b")] == ["disk", "warm", "disk"]
        for asked in ("host", "disk", "host"):
            assert post(client, "a", f"?cache={asked}")["cache"] == asked
        refused = client.post("/predict/neither?cache=host", content=IMAGE, headers=JPEG)
        assert status_of(refused)["dd_code"] == 1006
        assert "--host-cache-mb" in status_of(refused)["dd_msg"]
        assert sample(client, "dlserve_cache_stagings_total", service="a") == 2
        assert sample(client, "dlserve_cache_stagings_total", service="b") == 1
        assert sample(client, "dlserve_cache_loads_total", service="a", source="host") == 2
        assert sample(client, "dlserve_cache_evictions_total", service="a", tier="host", reason="asked") == 1
        assert sample(client, "dlserve_cache_host_used_bytes") == 1_400_000
        assert sample(client, "dlserve_cache_host_budget_bytes") == 2 * MIB
        info = client.get("/info").json()["head"]
        (worker,) = info["dlserve"]["workers"]
        assert (worker["host_bytes"], worker["host_used_bytes"]) == (2 * MIB, 1_400_000)
        (facts,) = [service["dlserve"] for service in info["services"] if service["name"] == "a"]
        assert facts["reload_tiers"] == ["host", "disk"]
        assert facts["settings"]["host_load_s"] == 0.01


def test_a_pinned_model_is_preloaded_and_stays(start_server: Start, small_models: Callable[..., Any]) -> None:
    folder = small_models("kept", "one", "two", bytes=400_000)
    options = ("--workers", "2", "--devices", "cpu", "--cache-mb", "1", "--pin", "kept", "--models-dir", str(folder))
    server = start_server(*options).wait_ready()
    with server.client() as client:
        for worker in (0, 1):
            assert post(client, "kept", f"?worker={worker}")["cache"] == "warm"
            for name in ("one", "two", "one", "two"):
                post(client, name, f"?worker={worker}")
            assert post(client, "kept", f"?worker={worker}")["cache"] == "warm"
        assert sample(client, "dlserve_cache_evictions_total", service="kept") == 0
        assert sample(client, "dlserve_cache_evictions_total") > 0
        assert client.get("/info").json()["head"]["dlserve"]["pinned"] == ["kept"]


def test_a_long_load_on_one_worker_stalls_neither_the_other_nor_the_front_end(start_server: Start) -> None:
    server = start_server("--workers", "2", "--devices", "cpu").wait_ready()
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        simulated(client, "slow", load_s=4.0, bytes=1000)
        simulated(client, "quick", bytes=1000)
        loading = pool.submit(post, client, "slow", "?worker=0")
        until(lambda: sample(client, "dlserve_worker_in_flight", worker="0") == 1)
        for _ in range(20):
            assert post(client, "quick", "?worker=1")["worker"] == 1
        assert client.get("/info").status_code == 200
        assert not loading.done(), "20 answers and /info came while it loaded"
        assert loading.result(DEADLINE_S)["timing"]["load"] >= 4.0


CALLS, MODELS = 300, 8


def zipf_stream(start_server: Start, eviction: str) -> tuple[float, float]:
    """Zipf(1.1) calls over 8 equal models of which 3 fit, one after the other: hit rate, and seconds spent loading."""
    options = ("--workers", "1", "--devices", "cpu", "--cache-mb", "3", "--eviction", eviction)
    server = start_server(*options).wait_ready()
    draws = random.Random(2)
    weights = [1 / rank**1.1 for rank in range(1, MODELS + 1)]
    with server.client() as client:
        for model in range(MODELS):
            simulated(client, f"m{model}", bytes=MIB, load_s=0.02, forward_s=0.001)
        heads = [
            post(client, f"m{model}") for model in draws.choices(draws.sample(range(MODELS), MODELS), weights, k=CALLS)
        ]
        hits = sum(head["cache"] == "warm" for head in heads)
        assert sample(client, "dlserve_cache_loads_total") == CALLS - hits
        assert sample(client, "dlserve_cache_used_bytes") <= 3 * MIB
        loading_s = sample(client, "dlserve_stage_seconds_sum", stage="load")
    assert server.stop() == 0
    return hits / CALLS, loading_s


def test_value_s_hit_rate_is_at_least_as_good_as_lru_s_in_a_real_server(start_server: Start) -> None:
    """Acceptance 6, live; the p99 is compared in tests/server/worker/test_residency.py, where no client takes part."""
    value_hits, value_s = zipf_stream(start_server, "value")
    lru_hits, lru_s = zipf_stream(start_server, "lru")
    assert value_hits >= lru_hits
    assert value_s <= lru_s


def test_an_idle_worker_is_given_a_hot_model_before_it_is_asked_for_it(start_server: Start) -> None:
    server = start_server("--workers", "2", "--devices", "cpu", "--max-batch", "1").wait_ready()
    with server.client() as client, ThreadPoolExecutor(9) as pool:
        # The last waits 1.6 s: long enough for a hint (half a load), and too short to be worth a load of its own.
        simulated(client, "hot", bytes=1000, load_s=2.4, forward_s=0.2)
        for _ in range(3):
            assert post(client, "hot")["worker"] == 0
        calls = [pool.submit(post, client, "hot") for _ in range(9)]
        until(lambda: sample(client, "dlserve_prefetches_total", service="hot", outcome="loaded") == 1)
        assert {call.result(DEADLINE_S)["cache"] for call in calls} == {"warm"}
        assert sample(client, "dlserve_prefetches_used_total", service="hot") in (0, 1)
        assert post(client, "hot", "?worker=1")["cache"] == "warm"
        assert sample(client, "dlserve_prefetches_used_total", service="hot") == 1
        assert sample(client, "dlserve_cache_loads_total", service="hot") == 2


def test_hints_can_be_switched_off(start_server: Start) -> None:
    server = start_server("--workers", "2", "--devices", "cpu", "--max-batch", "1", "--no-prefetch").wait_ready()
    with server.client() as client, ThreadPoolExecutor(9) as pool:
        assert client.get("/info").json()["head"]["dlserve"]["prefetch"] is False
        simulated(client, "hot", bytes=1000, load_s=2.4, forward_s=0.2)
        for _ in range(3):
            post(client, "hot")
        calls = [pool.submit(post, client, "hot") for _ in range(9)]
        assert {call.result(DEADLINE_S)["worker"] for call in calls} == {0}
        assert sample(client, "dlserve_prefetches_total") == 0
        assert sample(client, "dlserve_cache_loads_total", service="hot") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pin", "nobody"], "--pin nobody: there is no such model; there are: mobilenet_v3_small, resnet18"),
        (["--pin", "resnet18", "--cache-mb", "48"], "that --pin keeps there"),
        (["--eviction", "fifo"], "invalid choice"),
    ],
)
def test_what_cannot_be_kept_is_said_at_the_start(
    start_server: Start, repository: Path, options: list[str], said: str
) -> None:
    server = start_server(*options, "--models-dir", str(repository))
    assert server.end() in (1, 2)
    assert said in server.log[-1]
