"""How close the stream comes to the truth on this machine, and what it costs: `make fidelity`, which is
`python -m tests.loadgen.fidelity`. Prints what was claimed, what was measured (median of the rounds), and whether it was met.

What must hold on any machine is in test_fidelity.py. These figures are of a quiet one: run nothing beside it. The truth is
tests/loadgen/fidelity_server.py, in a process of its own; the stream is the real one, in the real Locust.
"""

import argparse
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from time import perf_counter

import numpy as np
import psutil
from dlclient.results import Latency, Record, Run, read_records, read_run
from dlclient.search_result import read_search

from tests.loadgen import queueing
from tests.loadgen.fidelity_server import ROOT, FidelityServer, Truth, replay, service_times

IMAGE_BYTES = 60_000
WARMING_UP = 2
"""Requests that the server gets before the first of the plan."""
FIGURES = ("p50", "p90", "p99", "mean")
SHAPES = {
    "constant": "constant:0.02",
    "lognormal": "lognormal:0.02:0.5",
    "bimodal": "bimodal:0.01:0.06:0.2",
}
LOADS = {
    "closed, 4 users": ("-u", "4"),
    "open, 100/s": ("--rate", "100"),
    "open, 2 processes": ("--rate", "100", "--processes", "2"),
}
STALL = "stall:0.005:100"
MOST_BUSY = 0.05
"""Of all cores, by other programs, before they are warned of."""
FAST = """
import gevent
from locust import FastHttpUser, task
from locust.exception import StopUser
image = open("image.jpg", "rb").read()
class Fast(FastHttpUser):
    host = "{url}"
    left = {requests}
    @task
    def ask(self):
        Fast.left -= 1
        if Fast.left >= 0:
            self.client.post("/predict/truth?best=5", data=image, headers={{"Content-Type": "image/jpeg"}})
            return
        if Fast.left == -1:
            gevent.spawn(self.environment.runner.quit)
        raise StopUser
"""
WRK = """
local file = io.open("image.jpg", "rb")
wrk.method, wrk.body, wrk.headers["Content-Type"] = "POST", file:read("*a"), "image/jpeg"
"""


@dataclass(frozen=True)
class Finding:
    """A claim and its values in one round. It is met where none is above its limit, whatever the sign; no limits: told only."""

    claim: str
    values: tuple[float, ...]
    limits: tuple[float, ...]
    unit: str
    goal: str
    every: bool = False
    """Each round must meet it: told is the worst of them, not the median."""


@dataclass(frozen=True)
class Ground:
    """Where to measure: a folder with the picture in it, how many requests a run has, and which round it is, from 1."""

    folder: Path
    requests: int
    round: int


@dataclass(frozen=True)
class Measured:
    """A run of the stream, and the truth of its requests in the order of the plan."""

    run: Run
    records: Sequence[Record]
    truths: Sequence[Truth]


def stream(url: str, folder: Path, requests: int, *options: str) -> None:
    """Run it against a server. An invalid run is a result too: what it shows is judged here."""
    ask = ["--phases", "warm", "--images", "pictures", "--results", "out", "--overwrite", "--no-report"]
    locust(folder, ROOT / "loadgen" / "stream.py", *ask, "-H", url, "--requests", str(requests), *options)


def locust(folder: Path, file: Path, *options: str) -> None:
    command = [str(Path(sys.executable).with_name("locust")), "-f", str(file), "--headless", *options]
    subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(ground: Ground, times: str, servers: int | None, *options: str, requests: int | None = None) -> Measured:
    with FidelityServer(ground.folder, times, servers) as server:
        stream(server.url, ground.folder, requests or ground.requests, *options)
    records = sorted(read_records(ground.folder / "out"), key=lambda record: record.index)
    by_number = {truth.number: truth for truth in server.truths}
    truths = [by_number[record.worker] for record in records if record.worker is not None]
    return Measured(read_run(ground.folder / "out"), records, truths)


def figures(samples: Sequence[float]) -> dict[str, float]:
    """Mean and nearest-rank percentiles of the truth."""
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    values = {name: float(np.quantile(samples, rank, method="inverted_cdf")) for name, rank in ranks.items()}
    return values | {"mean": fmean(samples)}


def beside(claim: str, told: Latency | None, truth_s: Sequence[float]) -> Finding:
    """How far reported figures are from those of the truth, in ms; a figure that is not reported is no number."""
    truth = figures(truth_s)
    errors = [
        (getattr(told, name, None) or float("nan")) - truth[name] for name in FIGURES
    ]  # a figure of 0 does not occur
    limits = [max(0.01 * truth[name], 0.0002) for name in FIGURES]
    return Finding(
        f"{claim}: {', '.join(FIGURES)}",
        tuple(error * 1e3 for error in errors),
        tuple(limit * 1e3 for limit in limits),
        "ms",
        "1 % or 0.2 ms",
    )


def shapes(ground: Ground) -> Iterator[Finding]:
    """Service times beside the server's own; response times beside what the plan alone makes."""
    for load, options in LOADS.items():
        for shape, times in SHAPES.items():
            measured = measure(ground, times, None, *options)
            total = measured.run.phases[0].total
            server_s = [truth.server_s for truth in measured.truths]
            yield beside(f"service time, {load}, {shape}", total.service_s, server_s)
            stated_s = [truth.due - truth.arrived for truth in measured.truths]
            yield beside(f"response time, {load}, {shape}", total.latency_s, stated_s)


def stall(ground: Ground) -> Iterator[Finding]:
    """A server that stalls once for 1 s under 100 requests a second; who sees it."""
    runs = {
        "open": ("--rate", "100"),
        "open, 2 processes": ("--rate", "100", "--processes", "2"),
        "open, 3 senders": ("--rate", "100", "-u", "3"),
        "closed, 3 users": ("-u", "3"),
    }
    for title, options in runs.items():
        measured = measure(ground, STALL, 1, *options)
        total = measured.run.phases[0].total
        for name, told in (("response", total.latency_s), ("service", total.service_s)):
            values = tuple((getattr(told, figure, None) or float("nan")) * 1e3 for figure in ("p99", "mean"))
            yield Finding(f"1 s stall, {title}: {name} time, p99, mean", values, (), "ms", "")
        if "--rate" not in options:
            continue
        due = [record.due_s for record in measured.records]
        done = replay(due, islice(service_times(STALL), WARMING_UP, None), 1)
        theory_s = [end - start for start, end in zip(due, done, strict=True)]
        yield beside(f"1 s stall, {title}: response time beside theory", total.latency_s, theory_s)


def acceptance(ground: Ground) -> Iterator[Finding]:
    """300 requests a second, Poisson, 60 KB, constant 5 ms."""
    measured = measure(ground, "constant:0.005", None, "--rate", "300", requests=3 * ground.requests)
    total = measured.run.phases[0].total
    lag = total.send_lag_s.p99 if total.send_lag_s else None
    yield Finding("send lag, 300/s: p99", ((lag or float("nan")) * 1e3,), (1.0,), "ms", "under 1 ms")
    truth = figures([one.server_s for one in measured.truths])
    errors = [(getattr(total.service_s, name, None) or float("nan")) - truth[name] for name in ("p50", "p99")]
    values = tuple(error * 1e3 for error in errors)
    yield Finding("service time, 300/s: p50, p99", values, (0.3, 1.0), "ms", "0.3 ms, 1 ms")


def cost(ground: Ground) -> Iterator[Finding]:
    """CPU of the client per request, beside Locust's FastHttpUser; what of a latency is the client's own."""
    folder = ground.folder
    requests = 10 * ground.requests
    with FidelityServer(folder, "constant:0") as server:
        plainly_s = median(ask_plainly(server.url, folder, requests // 2))
        for users in (1, 8):

            def ours(count: int, users: int = users) -> None:
                stream(server.url, folder, count, "-u", str(users))

            def theirs(count: int, users: int = users) -> None:
                (folder / "fast.py").write_text(FAST.format(url=server.url, requests=count))
                locust(folder, folder / "fast.py", "-u", str(users), "-r", str(users), "--only-summary")

            own_s, other_s = cpu_per_request(ours, requests), cpu_per_request(theirs, requests)
            yield Finding(f"CPU a request, {users} users: stream", (own_s * 1e3,), (), "ms", "")
            yield Finding(f"CPU a request, {users} users: FastHttpUser", (other_s * 1e3,), (), "ms", "")
            yield Finding(f"CPU a request, {users} users: the ratio", (own_s / other_s,), (1.0,), "", "at most 1.0")
        stream(server.url, folder, requests // 2, "-u", "1")
    services_s = [record.service_s for record in read_records(folder / "out")]
    yield Finding("service time above a plain socket's: p50", ((median(services_s) - plainly_s) * 1e3,), (), "ms", "")


def cpu_per_request(run: Callable[[int], None], requests: int) -> float:
    """Seconds; what starting costs is taken off."""
    marks = [cpu_s()]
    for count in (10, requests):
        run(count)
        marks.append(cpu_s())
    return (marks[2] - 2 * marks[1] + marks[0]) / (requests - 10)


def cpu_s() -> float:
    """Of this process and all of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def ask_plainly(url: str, folder: Path, requests: int) -> list[float]:
    """Latencies of a blocking socket in a loop: the least that Python can do."""
    host, port = url.removeprefix("http://").split(":")
    image = (folder / "image.jpg").read_bytes()
    request = b"POST /predict/truth HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(image) + image
    times: list[float] = []
    with socket.create_connection((host, int(port))) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _number in range(requests):
            began = perf_counter()
            connected.sendall(request)
            answer = connected.recv(65536)
            while not answer.endswith(b"]}}"):
                answer += connected.recv(65536)
            times.append(perf_counter() - began)
    return times


def cross_check(ground: Ground) -> Iterator[Finding]:
    """The median of a closed loop of 4 beside that of wrk."""
    (ground.folder / "post.lua").write_text(WRK)
    with FidelityServer(ground.folder, "constant:0.005") as server:
        stream(server.url, ground.folder, 2 * ground.requests, "-u", "4")
        seconds = max(1, round(2 * ground.requests * 0.005 / 4))
        command = ["wrk", "-t1", "-c4", f"-d{seconds}s", "--latency", "-s", "post.lua", f"{server.url}/predict/truth"]
        said = subprocess.run(command, cwd=ground.folder, check=True, capture_output=True, text=True).stdout
    found = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    if found is None or "Non-2xx" in said:
        raise RuntimeError(f"wrk did not measure what it should:\n{said}")
    theirs_s = float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]]
    ours_s = median(record.latency_s for record in read_records(ground.folder / "out"))
    yield Finding("p50 of a closed loop of 4: stream, wrk", (ours_s * 1e3, theirs_s * 1e3), (), "ms", "")
    yield Finding("p50 beside wrk's", ((ours_s / theirs_s - 1) * 100,), (5.0,), "%", "5 %")


def capacity(ground: Ground) -> Iterator[Finding]:
    """The highest Poisson rate at which two servers of 10 ms keep a p90 of 50 ms, as --find-rate finds it."""
    service_s, servers = 0.01, 2
    search = ["--find-rate", "100:400", "--slo", "p90<50ms", "--seed", str(ground.round)]
    with FidelityServer(ground.folder, f"constant:{service_s}", servers) as server:
        locust(
            ground.folder,
            ROOT / "loadgen" / "stream.py",
            *("--images", "pictures", "--results", "search", "--overwrite", "--no-report", "-H", server.url, *search),
        )
    found = read_search(ground.folder / "search").rate_per_s or float("nan")
    theory = queueing.capacity(0.9, 0.05, service_s, servers)
    off = (found / theory - 1) * 100
    yield Finding(f"--find-rate beside M/D/2 ({theory:.1f}/s), worst round", (off,), (5.0,), "%", "5 %", every=True)


PARTS = {
    "acceptance": acceptance,
    "shapes": shapes,
    "stall": stall,
    "wrk": cross_check,
    "cost": cost,
    "capacity": capacity,
}


def row(rounds: Sequence[Finding]) -> tuple[tuple[str, str, str, str], bool]:
    """A claim's line of the table, and whether it is met."""
    first = rounds[0]
    values = [
        column[int(np.argmax(np.abs(column)))] if first.every else float(np.median(column))  # of both, nan is the worst
        for column in zip(*(one.values for one in rounds), strict=True)
    ]
    met = all(abs(value) <= limit for value, limit in zip(values, first.limits, strict=False))
    shown = " ".join(f"{value:+.3f}" if first.limits else f"{value:.3f}" for value in values)
    return (first.claim, f"{shown} {first.unit}", first.goal, ("yes" if met else "NO") if first.limits else ""), met


def main() -> int:
    """Measure, print; 1 where something was not met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--rounds", type=int, default=3, help="Of which the medians are told. Default: 3.")
    parser.add_argument(
        "--requests", type=int, default=1000, help="Of a run; a p99 needs 662. Some parts take several times as many."
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="This part; may be given again. Default: all.")
    options = parser.parse_args()
    busy = psutil.cpu_percent(2.0) / 100
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.2f}, {busy:.0%} in use before we begin")
    if busy > MOST_BUSY:
        print("WARNING: other programs use the CPU; read nothing into what is not met")
    rounds: dict[str, list[Finding]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        (folder / "pictures" / "image.jpg").write_bytes(b"\xff\xd8" + os.urandom(IMAGE_BYTES))
        (folder / "image.jpg").symlink_to(folder / "pictures" / "image.jpg")
        for number in range(options.rounds):
            ground = Ground(folder, options.requests, number + 1)
            for part in options.only or PARTS:
                print(f"round {number + 1} of {options.rounds}: {part}", file=sys.stderr, flush=True)
                for finding in PARTS[part](ground):
                    rounds.setdefault(finding.claim, []).append(finding)
    lines = [row(found) for found in rounds.values()]
    table = [("claim", "measured", "goal", "met"), *(cells for cells, _ in lines)]
    widths = [max(len(cells[column]) for cells in table) for column in range(4)]
    for cells in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    return 0 if all(met for _, met in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
