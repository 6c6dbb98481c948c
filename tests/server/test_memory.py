"""What a server holds in memory over a thousand loads, and what a start from disk really reads."""

import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
from dlmodels.engines.host import allocating
from dlserve.front.dispatch import SWEEP_S

from tests.conftest import Server, sample, simulated, status_of
from tests.server.conftest import NETWORK, photograph

JPEG = {"Content-Type": "image/jpeg"}
IMAGE = photograph(1, 64, 64)
MIB = 1 << 20
CYCLES, EARLY, MODELS = 1000, 50, 8


@pytest.fixture
def models_dir(repository: Path, tmp_path: Path) -> Path:
    """A models folder with one small network."""
    shutil.copytree(repository / NETWORK, tmp_path / "models" / NETWORK)
    return tmp_path / "models"


def post(client: httpx.Client, service: str, query: str = "") -> httpx.Response:
    return client.post(f"/predict/{service}{query}", content=IMAGE, headers=JPEG)


def worker_of(server: Server) -> psutil.Process:
    (worker,) = [
        child for child in psutil.Process(server.process.pid).children() if "dlserve.worker" in child.cmdline()
    ]
    return worker


def test_the_body_of_a_long_call_is_gone_once_it_is_answered(start_server: Callable[..., Server]) -> None:
    """Not at the next collection of cycles: a long call's client is watched by a task that knows the call."""
    server = start_server("--workers", "1", "--devices", "cpu").wait_ready()
    (front,) = [one for one in psutil.Process(server.process.pid).children() if "dlserve.front" in one.cmdline()]
    body = bytes(8 * MIB)
    with server.client() as client:
        simulated(client, "slow", forward_s=2 * SWEEP_S)
        assert client.post("/predict/slow", content=body, headers=JPEG).status_code == 200
        before = front.memory_info().rss
        for _ in range(20):
            assert client.post("/predict/slow", content=body, headers=JPEG).status_code == 200
    assert front.memory_info().rss - before < 4 * len(body)


def test_a_thousand_loads_of_8_models_leave_memory_where_it_was_after_50(
    start_server: Callable[..., Server], models_dir: Path
) -> None:
    """Acceptance 7: resident memory within 5 %, and never more weights on the device than the budget for 3 of them."""
    weights = (models_dir / NETWORK / "weights.safetensors").stat().st_size
    budget_mb = 3 * weights // MIB + 1
    assert 3 * weights <= budget_mb * MIB < 4 * weights
    options = ("--workers", "1", "--devices", "cpu", "--cache-mb", str(budget_mb), "--eviction", "lru")
    server = start_server(*options, "--models-dir", str(models_dir)).wait_ready()
    with server.client() as client:
        creation = {
            "mllib": "torch",
            "model": {"repository": NETWORK},
            "parameters": {"input": {"width": 64, "height": 64}},
        }
        for number in range(MODELS):
            assert client.put(f"/services/m{number}", json=creation).status_code == 201
        worker, early = worker_of(server), 0
        assert (
            worker.environ()["GLIBC_TUNABLES"] in allocating(os.environ)["GLIBC_TUNABLES"]
        )  # glibc cuts it up as it reads
        for cycle in range(CYCLES):
            answer = post(client, f"m{cycle % MODELS}")
            assert answer.json()["head"]["cache"] == "disk", "8 in turn, 3 fit, the least recent leaves: each is a load"
            if cycle % 20 == 0:
                assert 0 < sample(client, "dlserve_cache_used_bytes") <= budget_mb * MIB
            if cycle == EARLY:
                early = worker.memory_info().rss
        late = worker.memory_info().rss
        assert sample(client, "dlserve_cache_loads_total") == CYCLES
        assert sample(client, "dlserve_cache_evictions_total") == CYCLES - 3
    assert abs(late - early) <= 0.05 * early, f"{early / MIB:.0f} MiB after {EARLY}, {late / MIB:.0f} after {CYCLES}"


def test_with_drop_page_cache_a_start_from_disk_reads_the_disk_and_so_does_its_image(
    start_server: Callable[..., Server], models_dir: Path, images: Path
) -> None:
    options = ("--workers", "1", "--devices", "cpu", "--models-dir", str(models_dir), "--data-root", str(images))
    server = start_server(*options, "--drop-page-cache").wait_ready()
    weights = (models_dir / NETWORK / "weights.safetensors").read_bytes()
    tensors = len(weights) - 8 - int.from_bytes(weights[:8], "little")  # the header was read when it was prepared
    image = images / "image-1.jpg"
    with server.client() as client:
        assert client.get("/info").json()["head"]["dlserve"]["drop_page_cache"] is True
        worker = worker_of(server)

        def read_by(query: dict[str, str]) -> int:
            before = worker.io_counters().read_bytes
            body = {"service": NETWORK, "parameters": {"mllib": query}, "data": [str(image)]}
            answer = client.post("/predict", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.json()["head"]["cache"] == query.get("cache", "warm")
            return int(worker.io_counters().read_bytes - before)

        read_by({"cache": "disk"})
        assert read_by({}) == 0, "what is warm reads nothing"
        for _ in range(3):
            assert read_by({"cache": "disk"}) >= tensors + image.stat().st_size


def test_a_file_that_cannot_leave_the_page_cache_fails_the_request_and_says_why(
    start_server: Callable[..., Server], models_dir: Path
) -> None:
    options = ("--workers", "1", "--devices", "cpu", "--models-dir", str(models_dir), "--drop-page-cache")
    server = start_server(*options).wait_ready()
    weights = models_dir / NETWORK / "weights.safetensors"
    with (
        server.client() as client,
        weights.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as held,
    ):
        assert sum(held[:: mmap.PAGESIZE]) > 0  # every page is mapped now, so the page cache cannot let go of it
        status = status_of(post(client, NETWORK, "?cache=disk"))
        assert (status["code"], status["dd_code"]) == (400, 1006)
        assert "the page cache keeps 100.0% of weights.safetensors" in status["dd_msg"]
        assert post(client, NETWORK).status_code == 200, "and nothing else fails"
