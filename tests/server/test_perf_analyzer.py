"""Triton's perf_analyzer, the real program out of tritonclient's wheel, drives a real dlserve over /v2.

It loads Debian's libb64 (package libb64-0d) and CUDA's runtime library, which a wheel carries: no GPU is needed. Where the
program is installed and a library is missing these tests fail; they are skipped only where there is no such program.
"""

import os
import platform
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import COMMANDS, DEADLINE_S, SMALL_NETWORKS, Server, sample, simulated

PROGRAM = COMMANDS / "perf_analyzer"
LIBRARIES = Path(sysconfig.get_path("platlib"), "nvidia/cuda_runtime/lib")
REQUESTS = 40
ATTEMPTS = 3
COUNT = ("--request-count", str(REQUESTS))
WINDOWS = (
    *("--measurement-mode", "count_windows", "--measurement-request-count", str(REQUESTS)),
    *("--max-trials", "3", "--stability-percentage", "999"),
)
"""Three windows a step (a sweep takes no --request-count), and no verdict on how steady a shared machine was."""
pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(),
    reason=f"tritonclient 2.50.0 has no perf_analyzer for Python {platform.python_version()} on {platform.machine()}",
)


def completed(server: Server, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run it to its end. One of some 250 runs at a rate never comes to it: it stops sending, with idle connections and all of its
    threads asleep. It is asked again then, once the server has shown that it owed it nothing: a client that leaves
    while its call is under way counts as an error.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return run(arguments)
        except subprocess.TimeoutExpired:
            with server.client() as client:
                assert sample(client, "dlserve_worker_in_flight") == 0
                assert sample(client, "dlserve_requests_total") == sample(client, "dlserve_requests_total", code="200")
    return run(arguments)


def run(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Raises TimeoutExpired; it is killed then."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env=os.environ | {"LD_LIBRARY_PATH": str(LIBRARIES)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S / 2,
        check=False,
    )


def drive(server: Server, model: str, *options: str) -> list[float]:
    """Run it, whatever `options` bound it with; the throughputs that it printed, in images per second."""
    done = completed(server, ["-m", model, "-u", server.url.removeprefix("http://"), *options])
    shown = done.stdout + done.stderr
    assert "error while loading shared libraries" not in shown, f"{shown}install Debian's libb64-0d, and `make install`"
    assert done.returncode == 0, shown
    assert re.search(r"Inference count: [1-9]", shown), shown  # what /stats said
    assert re.search(r"compute infer [1-9]\d* usec", shown), shown
    return [float(found) for found in re.findall(r"^ +Throughput: ([0-9.]+) infer/sec", shown, re.MULTILINE)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Two workers and a model of 2 ms."""
    server = Server("--workers", "2", "--devices", "cpu").wait_ready()
    with server.client() as client:
        simulated(client, "constant", forward_s=0.002, bytes=1_000_000)
        simulated(client, "decoding", forward_s=0.002, decode=True)
    yield server
    assert server.stop() == 0


def test_a_concurrency_sweep_completes(server: Server) -> None:
    with server.client() as client:
        before = sample(client, "dlserve_requests_total", service="constant", code="200")
        throughputs = drive(server, "constant", "--concurrency-range", "1:2", *WINDOWS)
        after = sample(client, "dlserve_requests_total", service="constant", code="200")
        assert after - before >= 2 * REQUESTS
        assert sample(client, "dlserve_requests_total") == sample(client, "dlserve_requests_total", code="200")
    assert len(throughputs) == 2
    assert min(throughputs) > 0


@pytest.mark.parametrize("distribution", ["constant", "poisson"])
def test_a_request_rate_run_completes(server: Server, distribution: str) -> None:
    (throughput,) = drive(
        server, "constant", "--request-rate-range", "40", "--request-distribution", distribution, *COUNT
    )
    assert throughput > 0


@pytest.mark.parametrize("form", ["binary", "json"])
def test_batches_of_several_images_go_in_both_forms(server: Server, form: str) -> None:
    forms = ["--input-tensor-format", form, "--output-tensor-format", form]
    (throughput,) = drive(
        server, "decoding", "-b", "2", "--concurrency-range", "1", "--shape", "input:32,32,3", *forms, *COUNT
    )
    assert throughput > 0


def test_a_real_network_answers_the_images_that_it_makes_up(
    start_server: Callable[..., Server], repository: Path
) -> None:
    server = start_server("--workers", "1", "--devices", "cpu", "--models-dir", str(repository)).wait_ready()
    (throughput,) = drive(server, SMALL_NETWORKS[-1], "--concurrency-range", "1", *COUNT)
    assert throughput > 0


def test_an_unknown_model_is_an_error_that_it_shows(server: Server) -> None:
    done = run(["-m", "none", "-u", server.url.removeprefix("http://")])
    assert done.returncode != 0
    assert "there is no service 'none'" in done.stdout + done.stderr
