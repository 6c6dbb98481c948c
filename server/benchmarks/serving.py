"""What it costs to be a server: `make bench`. All figures are ratios measured in one run, medians over rounds.

1. A simulated model of zero cost and a raw body of 60 KB, beside a bare uvicorn ASGI app and a bare FastAPI app that read the
   same body and return the same JSON. The load is wrk's: one client for latency, eight for throughput.
2. A real network on two workers at eight clients, beside two processes that decode and run it in a loop with no server.
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
from dlclient import samples
from dlmodels import images
from dlmodels.engines import create_engine
from dlmodels.repository import read_model

COMMANDS = Path(sys.executable).parent
HERE = Path(__file__).parent
BODY_BYTES = 60_000
START_S = 120
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk measured: median latency and requests per second."""

    p50_s: float
    rate: float


def wrk(url: str, clients: int, seconds: float, script: Path) -> Load:
    """Load `url` with POSTs of the body. Raises RuntimeError if any answer was an error."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--latency", "-s", str(script), url]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + START_S).stdout  # noqa: S603
    if "Non-2xx" in shown or "Socket errors" in shown:
        raise RuntimeError(f"{url} answered with errors:\n{shown}")
    latency = re.search(r"50%\s+([\d.]+)(us|ms|s)\b", shown)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    assert latency is not None
    assert rate is not None
    return Load(float(latency[1]) * _UNITS[latency[2]], float(rate[1]))


def write_script(folder: Path, body: bytes) -> Path:
    """The Lua that makes wrk post `body` as a JPEG."""
    (folder / "body").write_bytes(body)
    script = folder / "post.lua"
    script.write_text(
        f'local file = io.open("{folder}/body", "rb")\n'
        'wrk.method, wrk.body = "POST", file:read("*a")\n'
        'wrk.headers["Content-Type"] = "image/jpeg"\n'
    )
    return script


@contextlib.contextmanager
def running(command: list[str], ready: str) -> Iterator[str]:
    """A server process, ended on leaving; yields what `ready` matched first on its standard error."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=HERE)  # noqa: S603  our own commands
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(ready, line):
                yield found[1]
                return
        raise RuntimeError(f"{' '.join(command)} did not start")
    finally:
        process.terminate()
        process.communicate(timeout=START_S)


def uvicorn(app: str) -> contextlib.AbstractContextManager[str]:
    """One of the bare apps, on a free port."""
    command = [sys.executable, "-m", "uvicorn", app, "--port", "0", "--no-access-log"]
    return running([*command, "--loop", "uvloop", "--http", "httptools"], r"running on (http://[\d.:]+)")


def dlserve(*options: str) -> contextlib.AbstractContextManager[str]:
    """A dlserve with two workers, on a free port."""
    command = [str(COMMANDS / "dlserve"), "--port", "0", "--workers", "2", "--devices", "cpu"]
    return running([*command, *options], r"ready: (http://\S+)")


def show(name: str, values: list[float], goal: str) -> None:
    """A line of the result: a ratio's median, its range over the rounds, and what the issue asks for."""
    values = sorted(values)
    print(f"  {name:<66} {statistics.median(values):6.2f} x   ({values[0]:.2f} to {values[-1]:.2f})   goal {goal}")


def zero_cost(rounds: int, seconds: float, folder: Path) -> None:
    """Part 1: the server alone."""
    script = write_script(folder, os.urandom(BODY_BYTES))
    with uvicorn("bare:asgi") as bare, uvicorn("bare:api") as fastapi, dlserve() as url:
        profile = {"mllib": "simulated", "parameters": {"mllib": {"decode": False}}}
        httpx.put(f"{url}/services/zero", json=profile, timeout=START_S).raise_for_status()
        targets = {"uvicorn": f"{bare}/", "fastapi": f"{fastapi}/", "dlserve": f"{url}/predict/zero"}
        for target in targets.values():
            wrk(target, 8, 1, script)
        results: list[dict[tuple[str, int], Load]] = []
        for number in range(rounds):
            results.append(
                {
                    (name, clients): wrk(target, clients, seconds, script)
                    for clients in (1, 8)
                    for name, target in targets.items()
                }
            )
            print(f"  round {number + 1} of {rounds} done", file=sys.stderr)
    print(f"\nzero-cost simulated model, raw body of {BODY_BYTES} bytes, 2 workers, {rounds} rounds of {seconds:g} s")
    for name in targets:
        one = statistics.median(result[name, 1].p50_s for result in results)
        eight = statistics.median(result[name, 8].rate for result in results)
        print(f"  {name:<10} one client: p50 {one * 1e3:6.3f} ms      eight clients: {eight:7.0f} requests/s")
    ratio = [result["dlserve", 1].p50_s / result["uvicorn", 1].p50_s for result in results]
    show("p50 of one client, dlserve / bare uvicorn", ratio, "at most 2")
    ratio = [result["dlserve", 8].rate / result["fastapi", 8].rate for result in results]
    show("requests/s of eight clients, dlserve / bare FastAPI", ratio, "at least 0.7")


def loop(folder: str, image: bytes, seconds: float, together: Barrier, report: Callable[[float], None]) -> None:
    """Decode and run, again and again, in this process: images per second."""
    engine = create_engine("torch", "cpu", 1)
    engine.start()
    model = engine.prepare(read_model(Path(folder)))
    model.load()
    spec = model.spec.input

    def once() -> None:
        model.run(images.normalize(images.decode(image, spec, 1 << 26), spec)[None])

    for _ in range(3):
        once()
    together.wait(START_S)
    count, began = 0, perf_counter()
    while perf_counter() - began < seconds:
        once()
        count += 1
    report(count / (perf_counter() - began))


def two_loops(folder: Path, image: bytes, seconds: float) -> float:
    """Two processes with no server: images per second together."""
    context = get_context("spawn")
    together = context.Barrier(2)
    rates: Any = context.SimpleQueue()
    processes = [
        context.Process(target=loop, args=(str(folder), image, seconds, together, rates.put)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(START_S + seconds)
        if process.exitcode != 0:
            raise RuntimeError(f"a loop without a server ended with {process.exitcode}")
    return float(rates.get() + rates.get())


def real_network(name: str, rounds: int, seconds: float, folder: Path) -> None:
    """Part 2: the server with a real network."""
    repository = folder / "models"
    build = [str(COMMANDS / "dlmodels"), "build", name, "--repository", str(repository)]
    subprocess.run(build, check=True, capture_output=True, timeout=START_S)  # noqa: S603
    image = samples.sample_images((500,))["astronaut-500.jpg"]
    script = write_script(folder, image)
    served, looped = [], []
    with dlserve("--models-dir", str(repository), "--preload", name) as url:
        wrk(f"{url}/predict/{name}", 8, 3, script)
        for number in range(rounds):
            looped.append(two_loops(repository / name, image, seconds))
            served.append(wrk(f"{url}/predict/{name}", 8, seconds, script).rate)
            print(f"  round {number + 1} of {rounds} done", file=sys.stderr)
    print(f"\n{name} on 2 workers with one thread each, a JPEG of {len(image)} bytes, {rounds} rounds of {seconds:g} s")
    print(
        f"  two loops, no server {statistics.median(looped):7.1f} images/s   dlserve {statistics.median(served):7.1f} images/s"
    )
    ratio = [ours / theirs for ours, theirs in zip(served, looped, strict=True)]
    show("images/s of eight clients, dlserve / two loops with no server", ratio, "at least 0.95")


def main() -> int:
    """Run both parts."""
    options = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument(
        "--seconds", type=float, default=3.0, help="of each measurement; the real network takes thrice that"
    )
    options.add_argument("--network", default="resnet18")
    given = options.parse_args()
    if shutil.which("wrk") is None:
        print("make bench: wrk is missing; install Debian's package: apt-get install wrk", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        zero_cost(given.rounds, given.seconds, Path(folder))
        real_network(given.network, given.rounds, 3 * given.seconds, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
