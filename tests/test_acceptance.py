"""The main job, end to end: real Locust against a real dlserve with real networks and photographs."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import COMMANDS, DEADLINE_S, SMALL_NETWORKS, Server, sample, simulated

ROOT = Path(__file__).parent.parent
RUN_S = 600


def locust(server: Server, results: Path, *options: str) -> "subprocess.Popen[str]":
    """The stream, headless, from a folder that is not the checkout's."""
    command = [str(COMMANDS / "locust"), "-f", str(ROOT / "loadgen/stream.py"), "--headless", "--host", server.url]
    command += ["--results", str(results), *options]
    return subprocess.Popen(command, cwd=results.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finished(process: "subprocess.Popen[str]") -> str:
    """What it printed, once it has ended; its exit code stays in `returncode`."""
    try:
        return process.communicate(timeout=RUN_S)[0]
    finally:
        process.kill()


def records(results: Path) -> list[dict[str, Any]]:
    whole, _, _torn = (results / "requests.jsonl").read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


@pytest.mark.timeout(RUN_S)
def test_a_stream_of_2000_requests_is_all_warm_then_all_cold_and_repeats_itself(
    start_server: Callable[..., Server], repository: Path, tmp_path: Path
) -> None:
    server = start_server("--workers", "2", "--devices", "cpu", "--models-dir", str(repository)).wait_ready()
    with server.client() as client:
        first = tmp_path / "first"
        shown = finished(
            process := locust(server, first, "--users", "4", "--spawn-rate", "4", "--requests", "2000", "--seed", "5")
        )
        assert process.returncode == 0, shown
        run = json.loads((first / "run.json").read_text())
        assert run["verdict"] == "valid"
        assert [(phase["name"], phase["verdict"], phase["temperatures"]) for phase in run["phases"]] == [
            ("warm", "valid", {"warm": 2000}),
            ("disk", "valid", {"disk": 2000}),
        ]
        for phase in run["phases"]:
            assert set(phase["services"]) == set(SMALL_NETWORKS)
            assert (phase["total"]["requests"], phase["total"]["errors"]) == (2000, 0)
            assert phase["total"]["latency_s"]["p99"] > phase["total"]["latency_s"]["p50"] > 0
        sent = records(first)
        assert len(sent) == 4000
        assert {record["worker"] for record in sent} == {0, 1}
        _check_counters(client)
        assert (first / "report.html").stat().st_size > 10_000

        second = tmp_path / "second"
        process = locust(server, second, "--requests", "2000", "--seed", "5", "--phases", "warm")
        pause = threading.Event()
        while not (second / "requests.jsonl").exists() or not records(second):
            assert process.poll() is None, finished(process)
            pause.wait(0.05)
        process.send_signal(signal.SIGINT)
        shown = finished(process)
        assert process.returncode != 0, shown  # it could not send all of its plan
        assert (second / "plan.jsonl").read_bytes() == (first / "plan.jsonl").read_bytes()
        assert json.loads((second / "run.json").read_text())["interrupted"] is True


def _check_counters(client: httpx.Client) -> None:
    """/metrics agrees: 2000 found their weights warm, 2000 on disk; beside them only the warm-up's own."""
    warmups = 2 * len(SMALL_NETWORKS)
    warm = sample(client, "dlserve_cache_requests_total", temperature="warm")
    disk = sample(client, "dlserve_cache_requests_total", temperature="disk")
    assert 2000 <= warm <= 2000 + 2 * warmups
    assert 2000 <= disk <= 2000 + 2 * warmups
    assert 2000 <= sample(client, "dlserve_cache_loads_total", source="disk") == disk
    assert (
        sample(client, "dlserve_requests_total", code="200") == warm + disk == sample(client, "dlserve_requests_total")
    )


def test_a_worker_killed_in_mid_stream_costs_no_answer(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server("--workers", "2", "--devices", "cpu").wait_ready()
    with server.client() as client:
        for name in ("a", "b"):
            simulated(client, name, forward_s=0.01, bytes=1_000_000)
        results = tmp_path / "killed"
        process = locust(server, results, "--users", "8", "--spawn-rate", "8", "--requests", "500", "--phases", "warm")
        pause = threading.Event()
        while sample(client, "dlserve_requests_total") < 150:
            assert process.poll() is None, finished(process)
            pause.wait(0.02)
        victim = next(
            child for child in psutil.Process(server.process.pid).children() if "dlserve.worker" in child.cmdline()
        )
        os.kill(victim.pid, signal.SIGKILL)
        shown = finished(process)
        run = json.loads((results / "run.json").read_text())
        (phase,) = run["phases"]
        assert (phase["total"]["requests"], phase["total"]["errors"]) == (500, 0), shown
        assert all(record["status"] == 200 for record in records(results))
        server.wait_for(r"worker \d is back")
        assert sample(client, "dlserve_worker_restarts_total") == 1
        # Where the new worker had to load again, the phase was not all warm: it must not pass for a warm measurement.
        assert process.returncode == (0 if run["verdict"] == "valid" else 1)


def test_a_stop_in_mid_stream_loses_no_answer_that_was_accepted(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server("--workers", "2", "--devices", "cpu").wait_ready()
    with server.client() as client:
        for name in ("a", "b"):
            simulated(client, name, forward_s=0.02, bytes=1_000_000)
        options = ("--users", "8", "--spawn-rate", "8", "--phases", "warm", "--requests")
        finished(locust(server, tmp_path / "short", *options, "10"))
        before = sample(client, "dlserve_requests_total")
        beside_records = before - 10  # what warms the models up, before the clock
        results = tmp_path / "stopped"
        process = locust(server, results, *options, "5000")
        pause = threading.Event()
        while sample(client, "dlserve_requests_total") < before + 150:
            assert process.poll() is None, finished(process)
            pause.wait(0.02)
    assert server.stop() == 0
    shown = finished(process)
    assert process.returncode == 1, shown
    accounts = next(line for line in server.log if "drained: " in line)
    accepted, answered_all = re.findall(r"(\d+) (?:predict calls accepted|answered)", accounts)
    assert accepted == answered_all
    received = sum(record["status"] == 200 for record in records(results))
    assert int(accepted) == 10 + received + 2 * beside_records, (accounts, shown)


def make_demo(port: int) -> "subprocess.CompletedProcess[str]":
    command = ["make", "demo", f"PORT={port}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S, check=False)


@pytest.mark.timeout(RUN_S)
def test_the_demo_compares_warm_with_cold_and_leaves_its_results() -> None:
    done = make_demo(18080)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("run.json", "requests.jsonl", "plan.jsonl", "report.html"):
        assert (ROOT / "results/demo" / name).exists(), name
    assert "cold" in done.stdout
    assert "results/demo" in done.stdout
    taken = Server("--port", "18080", "--workers", "1").wait_ready()
    try:
        refused = make_demo(18080)
    finally:
        assert taken.stop() == 0
    assert refused.returncode != 0
    assert "port 18080 is taken" in refused.stderr


def test_an_interrupted_demo_leaves_nothing_running() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dlclient.demo", "--port", "18081"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "streaming" in line:
            break
    started = psutil.Process(process.pid).children(recursive=True)
    assert any("dlserve.worker" in child.cmdline() for child in started), lines
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does: everything in the terminal's foreground gets it
    shown = process.communicate(timeout=DEADLINE_S)[0]
    assert process.returncode == 130, shown
    _, alive = psutil.wait_procs(started, timeout=DEADLINE_S)
    assert not alive
