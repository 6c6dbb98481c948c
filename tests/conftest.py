"""What every room's tests share: real servers in processes of their own, and a small repository of real models."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from filelock import FileLock

LONG = (
    "test_suites.py",
    "test_acceptance.py",
    "test_readme.py",
    "test_find_rate.py",
    "test_memory.py",
    "test_stream_processes.py",
)
"""Begun first, so that no process of pytest-xdist is left with one of them when the others have nothing more to do."""
DEADLINE_S = 120.0
"""How long anything that must happen may take; far above what it takes, so that a slow machine fails no test."""
COMMANDS = Path(sys.executable).parent
SMALL_NETWORKS = ("mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1")


class Server:
    """A real dlserve, started as people start it, on a free port; without a folder to start in, in an empty one of its own, so
    that it finds none of the models that a demo left in the checkout.
    """

    def __init__(self, *options: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dlserve-test-")
        fronts = options[options.index("--front-ends") + 1] if "--front-ends" in options else "1"
        self.front_ends = int(fronts) if fronts.isdigit() else 0  # 0: it does not come to any
        self.process = subprocess.Popen(
            [COMMANDS / "dlserve", "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd or self._folder.name,
            env=os.environ | (env or {}),
        )
        self.log: list[str] = []
        self._news: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._news.put(line)
        self._news.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line of the log, from here on, that matches. Fails the test if the server ends first."""
        while True:
            line = self._news.get(timeout=DEADLINE_S)
            if line is None:
                pytest.fail(f"the server ended without a line like {pattern!r}:\n{''.join(self.log)}")
            self.log.append(line)
            if found := re.search(pattern, line):
                return found

    def wait_ready(self) -> "Server":
        """Return once every worker takes requests."""
        self.url = self.wait_for(r"ready: (http://\S+)")[1]
        return self

    def client(self, **options: Any) -> httpx.Client:
        """A client of this server; each of its requests goes to another front end, where there are several."""
        if self.front_ends > 1:
            most = options["limits"].max_connections if "limits" in options else None
            options["limits"] = httpx.Limits(max_connections=most, max_keepalive_connections=0)
        return httpx.Client(base_url=self.url, timeout=DEADLINE_S, trust_env=False, **options)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> int:
        """Wait for the process to end by itself; the exit code."""
        try:
            code = self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
        self._reader.join(DEADLINE_S)
        while (line := self._news.get()) is not None:
            self.log.append(line)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._folder.cleanup()
        return code


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    def start(*options: str, **more: Any) -> Server:
        servers.append(Server(*options, **more))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.returncode is None:
            server.stop()


@pytest.fixture(params=[1, 2], ids=["one-front-end", "two-front-ends"])
def start_either(request: pytest.FixtureRequest, start_server: Callable[..., Server]) -> Callable[..., Server]:
    """Start servers with one front end, and in the test's second round with two."""
    return lambda *options, **more: start_server("--front-ends", str(request.param), *options, **more)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder for this session, filled by `make` in the first of pytest-xdist's processes to ask and copied by the others."""
    folder = factory.mktemp(name)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(folder)
        return folder
    shared = factory.getbasetemp().parent / name
    with FileLock(f"{shared}.lock", timeout=2 * DEADLINE_S):
        if not shared.exists():
            make(folder)
            shutil.copytree(folder, unfinished := shared.with_name(f"{name}-unfinished"))
            unfinished.rename(shared)
            return folder
    shutil.copytree(shared, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small networks with seeded random weights, built as people build them."""

    def build(folder: Path) -> None:
        subprocess.run(
            [COMMANDS / "dlmodels", "build", *SMALL_NETWORKS, "--repository", str(folder)],
            check=True,
            capture_output=True,
            timeout=DEADLINE_S,
        )

    return made_once(tmp_path_factory, "repository", build)


def simulated(client: httpx.Client, name: str, **profile: Any) -> None:
    """Create a service of the simulated engine."""
    answer = client.put(f"/services/{name}", json={"mllib": "simulated", "parameters": {"mllib": profile}})
    assert answer.status_code == 201, answer.text


def sample(client: httpx.Client, metric: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in client.get("/metrics").text.splitlines():
        if match := re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line):
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
            if match[1] == metric and all(found.get(key) == value for key, value in labels.items()):
                total += float(match[3])
    return total


def status_of(answer: httpx.Response) -> dict[str, Any]:
    """DeepDetect's status object, checked against the HTTP status."""
    status: dict[str, Any] = json.loads(answer.text)["status"]
    assert status["code"] == answer.status_code
    return status
