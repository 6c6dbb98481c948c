"""A small DeepDetect-style server on real sockets, and the real Locust against it in a process of its own."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest
from dlclient.results import Record, Run, read_records, read_run
from dlclient.stability import FEWEST_IN_WINDOW

from tests.loadgen.fake_servers import Listener
from tests.ports import free_port

STREAM = Path(__file__).parents[2] / "loadgen" / "stream.py"
LOCUST = Path(sys.executable).with_name("locust")
END_S = 60.0
"""No locust of these tests may take longer."""


@dataclass(frozen=True)
class Call:
    """A predict request as the server got it. `number` counts them from 1, the ones for warming up too."""

    number: int
    service: str
    cache: str | None
    worker: int | None
    images: int
    raw: bool
    key: str | None


@dataclass(frozen=True)
class Reply:
    """What the server says instead of a good answer, or in it."""

    status: int = 200
    message: str = ""
    cache: str | None = None
    """Reported in place of the truth."""
    predictions: int | None = None
    """Their number, if it shall be wrong."""
    hang_up: bool = False
    """Close the connection without an answer."""


@dataclass
class FakeServer(Listener):
    """`dlserve`: tell what dlserve tells; otherwise be a plain DeepDetect. `react`: may change what a call gets."""

    dlserve: bool = True
    services: dict[str, int] = field(default_factory=lambda: {"alpha": 40_000_000, "beta": 100_000_000})
    """Name -> bytes of weights."""
    workers: int = 2
    budget_bytes: int = 1 << 30
    simulated: bool = False
    react: Callable[[Call], Reply | None] = lambda _: None
    on_info: Callable[[], None] = lambda: None
    """Called before /info is answered."""
    calls: list[Call] = field(default_factory=list)
    created: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    generation: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        server = self

        class Handler(_Handler):
            fake = server

        self.listen(Handler)

    def measured(self, cache: str | None) -> list[Call]:
        """Calls that were not pinned to a worker, as those for warming up are, with that wish for a temperature."""
        return [call for call in self.calls if call.worker is None and call.cache == cache]

    def info(self) -> dict[str, Any]:
        """Answer to /info."""
        self.on_info()
        extras = {name: {"weights_bytes": size, "simulated": self.simulated} for name, size in self.services.items()}
        head: dict[str, Any] = {
            "method": "/info",
            "version": "0.1.0",
            "services": [
                {"name": name, "mllib": "torch", **({"dlserve": extras[name]} if self.dlserve else {})}
                for name in self.services
            ],
        }
        if self.dlserve:
            worker = {"up": True, "budget_bytes": self.budget_bytes, "generation": self.generation}
            head["dlserve"] = {"workers": [{"worker": number, **worker} for number in range(self.workers)]}
        return {"status": {"code": 200, "msg": "OK"}, "head": head}

    def predict(
        self, service: str, cache: str | None, worker: int | None, images: int, raw: bool, key: str | None
    ) -> Any:
        """(status, answer), or None to hang up."""
        with self._lock:
            call = Call(len(self.calls) + 1, service, cache, worker, images, raw, key)
            self.calls.append(call)
        reply = self.react(call) or Reply()
        if reply.hang_up:
            return None
        if reply.status != 200:
            status = {"code": reply.status, "msg": "Error", "dd_code": 1006, "dd_msg": reply.message}
            return reply.status, {"status": status}
        head: dict[str, Any] = {"method": "/predict", "service": service, "time": 2.5}
        if self.dlserve:
            load_s = 0.020 if cache else 0.0
            timing = {"wire": 0.0001, "decode": 0.0002, "queue": 0.0, "load": load_s, "forward": 0.002, "post": 0.0001}
            head |= {"timing": timing, "cache": reply.cache or cache or "warm", "worker": 0, "batch_size": images}
        classes = [{"prob": 0.9, "cat": "n01 cat", "last": True}]
        count = images if reply.predictions is None else reply.predictions
        predictions = [{"uri": str(number), "classes": classes} for number in range(count)]
        return 200, {"status": {"code": 200, "msg": "OK"}, "head": head, "body": {"predictions": predictions}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeServer

    def do_GET(self) -> None:
        if self.path == "/info":
            self._answer(200, self.fake.info())
        else:
            self._answer(404, {"status": {"code": 404, "msg": "NotFound"}})

    def do_PUT(self) -> None:
        name = self.path.rpartition("/")[2]
        self.fake.created[name] = json.loads(self._body())
        self.fake.services[name] = 7_000_000
        self._answer(201, {"status": {"code": 201, "msg": "Created"}})

    def do_DELETE(self) -> None:
        name = self.path.rpartition("/")[2]
        found = self.fake.services.pop(name, None)
        if found is None:
            self._answer(404, {"status": {"code": 404, "msg": "NotFound"}})
            return
        self.fake.deleted.append(name)
        self._answer(200, {"status": {"code": 200, "msg": "OK"}})

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        body = self._body()
        key = self.headers.get("Authorization")
        raw = parts.path.startswith("/predict/")
        if raw:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            service, images = parts.path.rpartition("/")[2], 1
        else:
            call = json.loads(body)
            service, images = call["service"], len(call["data"])
            query = call["parameters"]["mllib"]
        worker = query.get("worker")
        answer = self.fake.predict(
            service, query.get("cache"), None if worker is None else int(worker), images, raw, key
        )
        if answer is None:
            self.close_connection = True
        else:
            self._answer(*answer)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, answer: object) -> None:
        content = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        try:
            self.wfile.write(head.encode() + content)
        except OSError:  # a client that was stopped while it waited
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's signature
        """Say nothing."""


@dataclass
class Locust:
    """One locust process that runs the stream, in a folder of its own."""

    process: subprocess.Popen[str]
    folder: Path

    def wait(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error, once it has ended."""
        out, err = self.process.communicate(timeout=END_S)
        return self.process.returncode, out, err

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """The process itself, none of those that it started."""
        self.process.send_signal(number)

    def interrupt_all(self, number: signal.Signals = signal.SIGINT) -> None:
        """As Ctrl-C in a terminal does: it and all that it started."""
        os.killpg(self.process.pid, number)

    def workers(self) -> list[psutil.Process]:
        """The processes of its --processes."""
        return list(psutil.Process(self.process.pid).children())

    def limit_files(self, most_bytes: int) -> None:
        """No file may grow beyond that: as on a disk that fills up. For it and all that it will start."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))


NO_TREND = 8 * FEWEST_IN_WINDOW - 1
"""Requests of a phase that are too few to show one: a fake that answers in half a millisecond is slower in its first ones."""
QUICK = ("--headless", "--no-report", "--results", "out", "--images", "pictures")


@pytest.fixture
def pictures(tmp_path: Path) -> None:
    """Three small files to stream; the fake server looks at none of them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(b"\xff\xd8" + name.encode() * 100)


def end(one: Locust, code: int, results: str = "out") -> tuple[Run, list[Record], str]:
    """Wait for the end; the result, and everything that was printed."""
    found, out, err = one.wait()
    assert found == code, out + err
    return read_run(one.folder / results), read_records(one.folder / results), out + err


def codes(run: Run) -> list[str]:
    """Of the reasons that make it invalid."""
    return [reason.code for reason in run.reasons]


def two() -> tuple[str, ...]:
    """Arguments for two processes that talk on a port of their own."""
    port = str(free_port())
    return "--processes", "2", "--master-bind-port", port, "--master-port", port


def with_page(start: Callable[..., Locust], *arguments: str) -> tuple[Locust, str]:
    """A locust with its web page, and the page's address, which answers."""
    port = free_port()
    one = start("--web-host", "127.0.0.1", "--web-port", str(port), "--no-report", "--results", "out", *arguments)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert one.process.poll() is None, one.wait()
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    wait_until(answers)
    return one, url


def wait_until(true: Callable[[], bool]) -> None:
    """For what another process does."""
    for _ in range(20 * int(END_S)):
        if true():
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"it did not happen within {END_S:g} s")


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    """Start fake servers: serve(dlserve=False, ...)."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(FakeServer(**settings))


@pytest.fixture
def locust(tmp_path: Path) -> Iterator[Callable[..., Locust]]:
    """Start the stream: locust("--headless", ...); it runs in tmp_path."""
    started: list[Locust] = []

    def start(*arguments: str) -> Locust:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LOCUST_")}
        process = subprocess.Popen(
            [LOCUST, "-f", STREAM, *arguments],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(Locust(process, tmp_path))
        return started[-1]

    yield start
    for one in started:
        with suppress(ProcessLookupError):
            one.interrupt_all(signal.SIGKILL)
        one.process.communicate(timeout=END_S)
