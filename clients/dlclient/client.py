"""A REST client for DeepDetect-style servers, to script with.

    with Client("http://127.0.0.1:8080") as client:
        answer = client.predict("resnet18", [Path("cat.jpg")], best=3)
        print(answer.predictions[0].classes[0].cat)

It keeps its connection, retries nothing, and raises the errors of dlclient.errors. It is not for measuring: httpx costs
about a millisecond of CPU a call, the stream load tester a fraction of that.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from dlclient.errors import BadAnswerError, ConnectionFailedError, RequestTimeoutError, ServerError

Json = dict[str, Any]
"""A JSON object that the API does not fix the content of."""

Input = bytes | Path | str
"""bytes: an image's file content; Path: a file on this machine, whose content is sent; str: taken as it is, a URL or a
path on the server."""


class Category(msgspec.Struct, frozen=True):
    """One class of a prediction."""

    prob: float
    cat: str


class Prediction(msgspec.Struct, frozen=True):
    """What the server says of one image: its most probable classes, best first."""

    uri: str = ""
    classes: tuple[Category, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a predict call. What a server does not tell is None."""

    service: str
    predictions: tuple[Prediction, ...]
    server_s: float | None
    """The server's own time for the call."""
    stages: dict[str, float] | None
    """Where that time went, in seconds."""
    cache: str | None
    """Where the weights were found: warm, host or disk."""
    worker: int | None
    batch_size: int | None


class _Status(msgspec.Struct):
    code: int = 0
    msg: str = ""
    dd_code: int | None = None
    dd_msg: str = ""


class _Envelope(msgspec.Struct):
    status: _Status | None = None


class _Head(msgspec.Struct):
    service: str = ""
    time: float | None = None
    timing: dict[str, float] | None = None
    cache: str | None = None
    worker: int | None = None
    batch_size: int | None = None


class _Body(msgspec.Struct):
    predictions: tuple[Prediction, ...]


class _Predicted(msgspec.Struct):
    head: _Head
    body: _Body


class _Described(msgspec.Struct):
    body: Json


class _Informed(msgspec.Struct):
    head: Json


_Shape = TypeVar("_Shape", bound=msgspec.Struct)


class Client:
    """One server. Not to be shared between threads. Every method raises the errors of dlclient.errors."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`timeout_s` limits each wait (connect, send, read). `transport`: httpx's seam, for tests."""
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            timeout=timeout_s,
            transport=transport,
            verify=not self.url.startswith("http:"),  # reading all certificates takes long, and plain HTTP needs none
            trust_env=False,  # a proxy set for the internet must not carry a benchmark
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def info(self) -> Json:
        """`head` of GET /info: version, services, and whatever else the server tells of itself."""
        return self._call(_Informed, "GET", "/info").head

    def get_service(self, name: str) -> Json:
        """`body` of GET /services/{name}."""
        return self._call(_Described, "GET", _service_path(name)).body

    def create_service(
        self,
        name: str,
        *,
        mllib: str,
        model: Mapping[str, object],
        description: str = "",
        input: Mapping[str, object] | None = None,  # noqa: A002  the API's word
        parameters: Mapping[str, object] | None = None,
        output: Mapping[str, object] | None = None,
    ) -> None:
        """PUT /services/{name}. `model`: e.g. {"repository": "/models/resnet18"}; `parameters`: those of the mllib."""
        body = {
            "mllib": mllib,
            "description": description,
            "type": "supervised",
            "model": dict(model),
            "parameters": {
                "input": {"connector": "image", **(input or {})},
                "mllib": dict(parameters or {}),
                "output": dict(output or {}),
            },
        }
        self._call(_Envelope, "PUT", _service_path(name), json=body)

    def delete_service(self, name: str, clear: str | None = None) -> None:
        """DELETE /services/{name}; `clear` as in DeepDetect: mem, lib, full, dir."""
        self._call(_Envelope, "DELETE", _service_path(name), query={"clear": clear})

    def predict(
        self,
        service: str,
        images: Sequence[Input],
        *,
        best: int = 5,
        cache: str | None = None,
        worker: int | None = None,
        parameters: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Answer:
        """POST /predict, with file contents as base64. dlserve alone knows `cache` and `worker`.

        `cache`: start from weights no warmer than "host" or "disk". `worker`: run on this one. `parameters`: more of
        DeepDetect's, by part ("input", "mllib", "output").
        """
        given = parameters or {}
        asked = {"cache": cache, "worker": worker}
        mllib = {**given.get("mllib", {}), **{key: value for key, value in asked.items() if value is not None}}
        body = {
            "service": service,
            "parameters": {**given, "mllib": mllib, "output": {"best": best, **given.get("output", {})}},
            "data": [_datum(image) for image in images],
        }
        return _answer(self._call(_Predicted, "POST", "/predict", json=body))

    def predict_raw(
        self,
        service: str,
        image: bytes | Path,
        *,
        best: int = 5,
        cache: str | None = None,
        worker: int | None = None,
    ) -> Answer:
        """POST /predict/{service} with the image's bytes as the body: dlserve's fast way in, one image a call."""
        content = image.read_bytes() if isinstance(image, Path) else image
        query = {"best": best, "cache": cache, "worker": worker}
        path = f"/predict/{quote(service, safe='')}"
        return _answer(self._call(_Predicted, "POST", path, query=query, content=content))

    def _call(
        self,
        shape: type[_Shape],
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        query: Mapping[str, str | int | None] | None = None,
    ) -> _Shape:
        """One request; the one place where what went wrong becomes one of our errors."""
        kind = "application/json"
        if json is not None:
            content = msgspec.json.encode(json)
        elif content is not None:
            kind = "application/octet-stream"
        params = {key: value for key, value in (query or {}).items() if value is not None}
        try:
            response = self._http.request(
                method, path, content=content, params=params, headers={"Content-Type": kind} if content else None
            )
        except httpx.TimeoutException as exc:
            raise RequestTimeoutError(
                f"{method} {self.url}{path}: no complete answer within {self._timeout_s:g} s; "
                "see whether the server is busy, or give the client a longer timeout_s"
            ) from exc
        except httpx.DecodingError as exc:
            raise BadAnswerError(
                f"{method} {self.url}{path}: an answer that cannot be unpacked ({exc}); see what listens there"
            ) from exc
        except (httpx.RequestError, httpx.InvalidURL) as exc:
            raise ConnectionFailedError(
                f"{method} {self.url}{path}: {exc}; see whether a server runs there and the URL is right"
            ) from exc
        if response.is_error:
            raise _server_error(response, f"{method} {self.url}{path}")
        try:
            return msgspec.json.decode(response.content, type=shape)
        except msgspec.DecodeError as exc:
            raise BadAnswerError(
                f"{method} {self.url}{path}: no answer of a DeepDetect-style server ({exc}); see what listens there"
            ) from exc


def _service_path(name: str) -> str:
    return f"/services/{quote(name, safe='')}"


def _datum(image: Input) -> str:
    if isinstance(image, Path):
        image = image.read_bytes()
    return base64.b64encode(image).decode("ascii") if isinstance(image, bytes) else image


def _answer(predicted: _Predicted) -> Answer:
    head = predicted.head
    return Answer(
        service=head.service,
        predictions=predicted.body.predictions,
        server_s=None if head.time is None else head.time / 1000,
        stages=head.timing,
        cache=head.cache,
        worker=head.worker,
        batch_size=head.batch_size,
    )


def _server_error(response: httpx.Response, call: str) -> ServerError:
    try:
        status = msgspec.json.decode(response.content, type=_Envelope).status or _Status()
    except msgspec.DecodeError:
        status = _Status()
    said = status.dd_msg or status.msg or response.reason_phrase or "no reason given"
    return ServerError(
        f"{call}: the server answered {response.status_code}: {said}",
        status=response.status_code,
        dd_code=status.dd_code,
        dd_msg=status.dd_msg,
    )
