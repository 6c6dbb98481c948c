"""Small servers of other people's APIs on real sockets: Open Inference Protocol v2 (as Triton or MLServer), TorchServe."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, bytes]


@dataclass(frozen=True)
class Asked:
    """One request as a server got it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Listener:
    """A server on a free port, from `with` to its end."""

    def listen(self, handler: type[BaseHTTPRequestHandler]) -> None:
        """Take the port; `with` starts to answer."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class FakeApi(Listener):
    """`answer` says what each request gets, None hangs up."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.lock = threading.Lock()
        server = self

        class Handler(_Handler):
            fake = server

        self.listen(Handler)

    def lines(self) -> list[str]:
        """What was asked, as "GET /v2"."""
        return [f"{one.method} {one.path}" for one in self.asked]

    def answer(self, asked: Asked) -> Answer | None:
        """Of this API."""
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeApi

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        asked = Asked(self.command, self.path, dict(self.headers), body)
        with self.fake.lock:
            self.fake.asked.append(asked)
        answer = self.fake.answer(asked)
        if answer is None:
            self.close_connection = True
            return
        status, content = answer
        try:
            self.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        except OSError:  # a client that was stopped while it waited
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _do  # noqa: N815  http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's signature
        """Say nothing."""


def as_json(status: int, content: object) -> Answer:
    """An answer."""
    return status, json.dumps(content).encode()


class FakeKServe(FakeApi):
    """Models of the Open Inference Protocol; `binary` as Triton does, else JSON as MLServer does."""

    def __init__(
        self,
        models: Mapping[str, tuple[str, list[int]]] | None = None,
        *,
        binary: bool = True,
        lists: bool = True,
        name: str = "fake",
        react: Callable[[Asked], Answer | None] = lambda _: None,
    ) -> None:
        """`models`: name -> type and shape of its input. `react`: an answer in place of the good one."""
        super().__init__()
        self.models = models or {"alpha": ("BYTES", [-1, 1]), "Beta": ("FP32", [-1, 3, 8, 8])}
        self.binary, self.lists, self.name, self.react = binary, lists, name, react
        self.loaded = set(self.models)
        self.unload_lag = 0
        """How many questions after an unload are still told that the model is ready, as Triton may."""
        self._lag = 0

    def answer(self, asked: Asked) -> Answer | None:
        """Server, repository and models."""
        if (other := self.react(asked)) is not None:
            return other
        path = urlsplit(asked.path).path
        if path == "/v2":
            extensions = ["model_repository", *(["binary_tensor_data"] if self.binary else [])]
            return as_json(200, {"name": self.name, "version": "1", "extensions": extensions})
        if path == "/v2/repository/index" and self.lists:
            return as_json(200, [self._indexed(name) for name in self.models])
        pieces = path.split("/")
        if path.startswith("/v2/repository/models/") and pieces[4] in self.models:
            return self._repository(pieces[4], pieces[5])
        if path.startswith("/v2/models/") and pieces[3] in self.models:
            return self._model(pieces[3], pieces[4:], asked)
        return as_json(404, {"error": f"unknown {path}"})

    def _indexed(self, name: str) -> dict[str, str]:
        if name in self.loaded:
            return {"name": name, "version": "1", "state": "READY", "reason": ""}
        return {"name": name, "state": "UNAVAILABLE", "reason": "unloaded"}

    def _repository(self, name: str, do: str) -> Answer:
        with self.lock:
            if do == "load":
                self.loaded.add(name)
            else:
                self.loaded.discard(name)
                self._lag = self.unload_lag
        return 200, b""

    def _model(self, name: str, rest: list[str], asked: Asked) -> Answer:
        datatype, shape = self.models[name]
        if rest == ["ready"]:
            with self.lock:
                self._lag -= 1
                return (200 if name in self.loaded or self._lag >= 0 else 400), b""
        if name not in self.loaded:
            return as_json(400, {"error": f"Request for unknown model: '{name}' is not found"})
        if rest == ["infer"]:
            return 200, infer(name, asked)
        told = {"name": "image", "datatype": datatype, "shape": shape}
        outputs = [{"name": "scores", "datatype": "FP32", "shape": [-1, 2]}]
        return as_json(200, {"name": name, "versions": ["1"], "inputs": [told], "outputs": outputs})


def infer(name: str, asked: Asked) -> bytes:
    """A good answer, binary if the request asks for it, two scores an image."""
    length = {key.lower(): value for key, value in asked.headers.items()}.get("inference-header-content-length")
    call = json.loads(asked.body[: int(length)] if length else asked.body)
    images: int = call["inputs"][0]["shape"][0]
    output: dict[str, Any] = {"name": "scores", "datatype": "FP32", "shape": [images, 2]}
    if not call.get("parameters", {}).get("binary_data_output"):
        return json.dumps({"model_name": name, "outputs": [output | {"data": [0.5] * 2 * images}]}).encode()
    output["parameters"] = {"binary_data_size": 8 * images}
    return json.dumps({"model_name": name, "outputs": [output]}).encode() + b"\x00\xff{}" * 2 * images


@dataclass
class FakeTorchServe(FakeApi):
    """Inference and management at one address."""

    models: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "alpha": {"modelUrl": "alpha.mar", "minWorkers": 2, "batchSize": 1, "maxBatchDelay": 100}
        }
    )
    page: int = 1
    """Models in one answer."""

    def __post_init__(self) -> None:
        super().__init__()

    def answer(self, asked: Asked) -> Answer | None:
        """Ping, models, predictions."""
        parts = urlsplit(asked.path)
        name = parts.path.rpartition("/")[2]
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/ping":
            return as_json(200, {"status": "Healthy"})
        if parts.path == "/models":
            return self._register(query) if asked.method == "POST" else self._list(query)
        if name not in self.models:
            return as_json(404, {"code": 404, "type": "ModelNotFoundException", "message": f"Model not found: {name}"})
        if parts.path.startswith("/predictions/"):
            return as_json(200, {"cat": 0.9})
        if asked.method == "DELETE":
            del self.models[name]
            return as_json(200, {"status": f'Model "{name}" unregistered'})
        workers = [{"id": "9000", "status": "READY"}] * self.models[name].get("minWorkers", 0)
        return as_json(200, [{"modelName": name, **self.models[name], "workers": workers}])

    def _list(self, query: Mapping[str, str]) -> Answer:
        first = int(query.get("next_page_token", "0"))
        names = list(self.models)[first : first + self.page]
        page: dict[str, Any] = {"models": [{"modelName": name, "modelUrl": f"{name}.mar"} for name in names]}
        if first + self.page < len(self.models):
            page["nextPageToken"] = str(first + self.page)
        return as_json(200, page)

    def _register(self, query: Mapping[str, str]) -> Answer:
        self.models[query["model_name"]] = {"modelUrl": query["url"], "minWorkers": int(query["initial_workers"])}
        return as_json(200, {"status": "registered"})
