"""A real worker process with the other ends of its two lines, a front end and a supervisor; and a model that only counts."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from dlmodels.engines.base import Batch, Model, Temperature
from dlmodels.images import InputSpec
from dlmodels.spec import ModelSpec
from dlserve.messages import (
    HEADER,
    Define,
    Evicted,
    Failure,
    Hello,
    Item,
    ItemKind,
    Job,
    Loaded,
    Message,
    Prepare,
    Prepared,
    Reply,
    ToFront,
    frame,
)
from numpy.typing import NDArray

DEADLINE_S = 60.0
"""How long anything that must happen may take; far above what it takes, so that a slow machine fails no test."""
Kind = TypeVar("Kind", bound=Message)


class Front:
    """The front end's end of one connection; reads are in order, answers may be asked for in any."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(DEADLINE_S)
        self._stream = connection.makefile("rb")
        self._decode = msgspec.msgpack.Decoder(ToFront).decode
        self._last_id = 0
        self.lone = False
        """What it says of its jobs: that each is the only one in the server."""
        self.received: list[ToFront] = []
        """Everything that the worker has sent, in order."""

    def close(self) -> None:
        """Drop the connection, as a front end does that dies."""
        self._stream.close()
        self.connection.close()

    def read(self) -> ToFront | None:
        """The next message; None when the worker has closed."""
        header = self._stream.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        meta_size, body_size = HEADER.unpack(header)
        assert body_size == 0
        self.received.append(self._decode(self._stream.read(meta_size)))
        return self.received[-1]

    def read_to_end(self) -> None:
        """Take all that comes until the worker closes."""
        while self.read() is not None:
            pass

    def await_(self, kind: type[Kind], wanted: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """The first message of that kind that fits, among those received or still to come."""
        for message in self.received:
            if isinstance(message, kind) and wanted(message):
                return message
        while (received := self.read()) is not None:
            if isinstance(received, kind) and wanted(received):
                return received
        pytest.fail(f"the worker closed without a {kind.__name__}")

    def all(self, kind: type[Kind]) -> list[Kind]:
        """Every message of that kind so far."""
        return [message for message in self.received if isinstance(message, kind)]

    def moves(self) -> list[tuple[str, int, str]]:
        """Loads and evictions so far: (what, service, source or reason)."""
        return [
            ("loaded", message.service, message.source)
            if isinstance(message, Loaded)
            else ("evicted", message.service, message.reason)
            for message in self.received
            if isinstance(message, Loaded | Evicted)
        ]

    def next_id(self) -> int:
        """A number for a question."""
        self._last_id += 1
        return self._last_id

    def tell(self, *messages: Message) -> None:
        """Send messages without a body, in one piece."""
        self.connection.sendall(b"".join(map(frame, messages)))

    def define(self, service: int, *, classes: int = 1000, **profile: Any) -> None:
        """Make a simulated service known."""
        self.tell(Define(service, ModelSpec(f"model{service}", "simulated", classes=classes, parameters=profile)))

    def prepare(self, service: int, load: bool = True) -> Prepared:
        """Have a service prepared."""
        question = Prepare(self.next_id(), service, load)
        self.tell(question)
        return self.await_(Prepared, lambda answer: answer.id == question.id)

    def send(self, *calls: tuple[Job, bytes]) -> list[int]:
        """Send jobs in one piece; their numbers."""
        self.connection.sendall(b"".join(frame(job, len(body)) + body for job, body in calls))
        return [job.id for job, _ in calls]

    def call(
        self,
        service: int,
        *payloads: bytes,
        kind: ItemKind = "bytes",
        cache: Temperature | None = None,
        best: int = 1,
        threshold: float = 0.0,
        spec: InputSpec | None = None,
    ) -> tuple[Job, bytes]:
        """A job with these inputs and its body; items are named by their place, paths by themselves."""
        items = tuple(
            Item(kind, len(payload), payload.decode("utf-8", "replace") if kind == "path" else str(place))
            for place, payload in enumerate(payloads)
        )
        job = Job(self.next_id(), service, items, spec, cache, best, threshold, 0.0, self.lone)
        return job, b"".join(payloads)

    def answer(self, job_id: int) -> Reply | Failure:
        """The answer to a job."""
        for message in self.received:
            if isinstance(message, Reply | Failure) and message.id == job_id:
                return message
        while (received := self.read()) is not None:
            if isinstance(received, Reply | Failure) and received.id == job_id:
                return received
        pytest.fail(f"the worker closed without an answer to job {job_id}")

    def reply(self, job_id: int) -> Reply:
        """The answer to a job, which must be a reply."""
        answer = self.answer(job_id)
        assert isinstance(answer, Reply), answer
        return answer

    def failure(self, job_id: int) -> Failure:
        """The answer to a job, which must be a failure."""
        answer = self.answer(job_id)
        assert isinstance(answer, Failure), answer
        return answer

    def predict(self, service: int, *payloads: bytes, **options: Any) -> Reply:
        """One job, answered."""
        (job_id,) = self.send(self.call(service, *payloads, **options))
        return self.reply(job_id)

    def refused(self, service: int, *payloads: bytes, **options: Any) -> Failure:
        """One job, failed."""
        (job_id,) = self.send(self.call(service, *payloads, **options))
        return self.failure(job_id)


class WorkerProcess:
    """A real worker with its supervisor's line; `accept` is the front end that it connects to."""

    def __init__(self, folder: Path, body_fds: Sequence[int] = (), **settings: Any) -> None:
        self.path = str(folder / "front.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(DEADLINE_S)
        self.settings = {
            "worker": 0,
            "generation": 2,
            "device": "cpu",
            "threads": 1,
            "decode_threads": 2,
            "budget_bytes": 1000,
            "max_batch": 64,
            "max_pixels": 600 * 600,
            "max_images": 100,
            "max_body_bytes": 1 << 24,
            "front_sockets": [self.path],
            "data_roots": [],
            "body_fds": body_fds,
            "engines": ["simulated"],
            "log_format": "text",
        } | settings
        self.control, theirs = socket.socketpair()
        self.control.settimeout(DEADLINE_S)
        self._lines = self.control.makefile("rb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dlserve.worker", "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno(), *body_fds],
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        self.fronts: list[Front] = []

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self.log += self.process.stderr

    def start(self) -> Front:
        """Send the settings, be the front end, and wait for ready."""
        self.command(self.settings)
        front = self.accept()
        assert self.event() == {"event": "ready"}
        return front

    def accept(self) -> Front:
        """The next connection of the worker, after its Hello."""
        connection, _ = self.listener.accept()
        front = Front(connection)
        self.fronts.append(front)
        assert isinstance(front.read(), Hello)
        return front

    def command(self, line: dict[str, Any]) -> None:
        """Send a line to the worker, as its supervisor."""
        self.control.sendall(json.dumps(line).encode() + b"\n")

    def event(self) -> dict[str, Any]:
        """The next event; {} when the worker has closed the line."""
        line = self._lines.readline()
        event: dict[str, Any] = json.loads(line) if line else {}
        return event

    def hang_up(self) -> None:
        """Close the supervisor's end, as its death does."""
        self._lines.close()
        self.control.close()

    def exit_code(self) -> int:
        """Wait for the end; the log is then complete."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def end(self) -> None:
        """Release everything; a worker that still runs must stop when asked to."""
        running = self.process.poll() is None
        if running:
            with contextlib.suppress(OSError):
                self.command({"command": "stop"})
        try:
            code = self.exit_code()
        finally:
            self.process.kill()
            for front in self.fronts:
                front.close()
            self.hang_up()
            self.listener.close()
            assert self.process.stderr is not None
            self.process.stderr.close()
        assert not running or code == 0, "".join(self.log)


class Roomy:
    """A device as the batcher sees it: room for every model, but where a test says otherwise."""

    def __init__(self) -> None:
        self.waits_s: dict[int, float] = {}
        """Model -> seconds until there is room for it."""

    def __contains__(self, model: int) -> bool:
        return model not in self.waits_s

    def wait_s(self, model: int) -> float:
        """As told."""
        return self.waits_s.get(model, 0.0)


class Weights(Model):
    """A model of a given size; `before_load` may raise or wait. `host`: it has a host tier."""

    def __init__(
        self, name: str, size: int, before_load: Callable[[], None] | None = None, *, host: bool = False
    ) -> None:
        super().__init__(ModelSpec(name, "test"))
        self.size = size
        self.before_load = before_load
        self.before_stage: Callable[[], None] = lambda: None
        self.loads = 0
        self.stages = 0
        self.loaded = False
        self._staged = False
        if host:
            self.reload_tiers = ("host", "disk")

    @property
    def weights_bytes(self) -> int:
        return self.size

    def load(self) -> None:
        self.loads += 1
        self.loaded = True  # so that a failing load has something to give back
        if self.before_load is not None:
            self.before_load()

    def unload(self) -> None:
        self.loaded = False

    @property
    def staged(self) -> bool:
        return self._staged

    def stage(self) -> None:
        self.stages += 1
        self._staged = True  # so that a failing one has something to give back
        self.before_stage()

    def unstage(self) -> None:
        self._staged = False

    def run(self, batch: Batch) -> NDArray[np.float32]:
        raise NotImplementedError


StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker with some settings changed; it ends with the test. Its settings are not sent yet."""
    workers: list[WorkerProcess] = []

    def start(folder: Path = tmp_path, **settings: Any) -> WorkerProcess:
        workers.append(WorkerProcess(folder, **settings))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


@pytest.fixture(scope="module")
def shared_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker with the usual settings, waiting for a front end; see `front`."""
    worker = WorkerProcess(tmp_path_factory.mktemp("worker"))
    worker.start().close()
    yield worker
    worker.end()


@pytest.fixture
def front(shared_worker: WorkerProcess) -> Iterator[Front]:
    """A front end of its own for each test: the worker keeps nothing from the one before but its engines."""
    front = shared_worker.accept()
    yield front
    front.close()
