"""dlclient.client through httpx's own seam: what goes out, what comes back, and what each failure becomes."""

import base64
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import dlclient.errors
import httpx
import pytest
from dlclient.client import Answer, Category, Client, Prediction
from dlclient.errors import BadAnswerError, ClientError, ConnectionFailedError, RequestTimeoutError, ServerError

JPEG = b"\xff\xd8 image"
GOOD = {
    "status": {"code": 200, "msg": "OK"},
    "head": {
        "method": "/predict",
        "service": "resnet18",
        "time": 12.5,
        "timing": {"load": 0.002, "forward": 0.01},
        "cache": "warm",
        "worker": 1,
        "batch_size": 1,
    },
    "body": {
        "predictions": [
            {"uri": "0", "classes": [{"prob": 0.9, "cat": "cat"}, {"prob": 0.1, "cat": "dog", "last": True}]}
        ]
    },
}


class Server:
    """Answers everything the same way and keeps what it was asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return self._answer(request)

    @property
    def body(self) -> object:
        return json.loads(self.requests[-1].content)


def connect(server: Server, api_key: str | None = None) -> Client:
    return Client("http://server:8080/", api_key, transport=httpx.MockTransport(server))


def always(status: int, content: object) -> Server:
    return Server(lambda _: httpx.Response(status, json=content))


def test_predict_sends_deepdetects_request_and_reads_its_answer(tmp_path: Path) -> None:
    file = tmp_path / "cat.jpg"
    file.write_bytes(JPEG)
    server = always(200, GOOD)
    with connect(server) as client:
        answer = client.predict(
            "resnet18",
            [JPEG, file, "http://images/cat.jpg"],
            best=2,
            cache="disk",
            worker=1,
            parameters={"input": {"width": 224}, "mllib": {"gpu": True}},
        )
    encoded = base64.b64encode(JPEG).decode()
    assert server.requests[0].url == "http://server:8080/predict"
    assert server.body == {
        "service": "resnet18",
        "parameters": {
            "input": {"width": 224},
            "mllib": {"gpu": True, "cache": "disk", "worker": 1},
            "output": {"best": 2},
        },
        "data": [encoded, encoded, "http://images/cat.jpg"],
    }
    assert answer == Answer(
        service="resnet18",
        predictions=(Prediction("0", (Category(0.9, "cat"), Category(0.1, "dog"))),),
        server_s=0.0125,
        stages={"load": 0.002, "forward": 0.01},
        cache="warm",
        worker=1,
        batch_size=1,
    )


def test_predict_asks_a_plain_deepdetect_for_nothing_it_does_not_know() -> None:
    server = always(200, {"head": {"service": "a"}, "body": {"predictions": []}})
    answer = connect(server).predict("a", [JPEG])
    assert server.body == {
        "service": "a",
        "parameters": {"mllib": {}, "output": {"best": 5}},
        "data": [base64.b64encode(JPEG).decode()],
    }
    assert (answer.server_s, answer.stages, answer.cache, answer.worker, answer.batch_size) == (None,) * 5


def test_predict_raw_sends_the_bytes_themselves() -> None:
    server = always(200, GOOD)
    connect(server).predict_raw("a/b", JPEG, best=1, cache="disk", worker=0)
    (request,) = server.requests
    assert request.url.raw_path == b"/predict/a%2Fb?best=1&cache=disk&worker=0"
    assert request.content == JPEG
    assert request.headers["Content-Type"] == "application/octet-stream"


def test_services_are_created_read_and_deleted() -> None:
    server = always(200, {"status": {"code": 200}, "body": {"name": "a"}})
    client = connect(server)
    client.create_service(
        "a", mllib="torch", model={"repository": "/m/a"}, input={"width": 32}, parameters={"nclasses": 3}
    )
    assert client.get_service("a") == {"name": "a"}
    client.delete_service("a", clear="mem")
    client.delete_service("a")
    asked = [(request.method, str(request.url)) for request in server.requests]
    url = "http://server:8080/services/a"
    assert asked == [("PUT", url), ("GET", url), ("DELETE", url + "?clear=mem"), ("DELETE", url)]
    assert json.loads(server.requests[0].content) == {
        "mllib": "torch",
        "description": "",
        "type": "supervised",
        "model": {"repository": "/m/a"},
        "parameters": {"input": {"connector": "image", "width": 32}, "mllib": {"nclasses": 3}, "output": {}},
    }


def test_info_is_the_head_of_its_answer() -> None:
    assert connect(always(200, {"head": {"services": [], "version": "1"}})).info() == {"services": [], "version": "1"}


def test_the_key_goes_with_every_request() -> None:
    server = always(200, {"head": {}})
    connect(server, "secret").info()
    connect(server).info()
    assert server.requests[0].headers["Authorization"] == "Bearer secret"
    assert "Authorization" not in server.requests[1].headers


def test_an_error_of_the_server_keeps_what_it_said() -> None:
    status = {"code": 404, "msg": "NotFound", "dd_code": 1002, "dd_msg": "Service Not Found"}
    with pytest.raises(
        ServerError, match=r"POST http://server:8080/predict: .* answered 404: Service Not Found"
    ) as caught:
        connect(always(404, {"status": status})).predict("a", [JPEG])
    assert (caught.value.status, caught.value.dd_code, caught.value.dd_msg) == (404, 1002, "Service Not Found")


@pytest.mark.parametrize("content", ["<html>bad gateway", '{"status": 5}', "{}", ""])
def test_an_error_that_is_not_deepdetects_is_one_of_the_server_all_the_same(content: str) -> None:
    server = Server(lambda _: httpx.Response(502, text=content))
    with pytest.raises(ServerError, match="answered 502: Bad Gateway") as caught:
        connect(server).info()
    assert (caught.value.status, caught.value.dd_code, caught.value.dd_msg) == (502, None, "")


@pytest.mark.parametrize("content", ["<html>", "[]", "{}", '{"head": 3}', '{"head": {}, "body": {}}'])
def test_a_good_status_with_a_bad_answer_is_told(content: str) -> None:
    server = Server(lambda _: httpx.Response(200, text=content))
    with pytest.raises(BadAnswerError, match="see what listens there"):
        connect(server).predict("a", [JPEG])


@pytest.mark.parametrize(
    ("failure", "error", "says"),
    [
        (httpx.ConnectError, ConnectionFailedError, "see whether a server runs there"),
        (httpx.ReadError, ConnectionFailedError, "see whether a server runs there"),
        (httpx.RemoteProtocolError, ConnectionFailedError, "see whether a server runs there"),
        (httpx.TooManyRedirects, ConnectionFailedError, "see whether a server runs there"),
        (httpx.DecodingError, BadAnswerError, "see what listens there"),
        (httpx.ConnectTimeout, RequestTimeoutError, "within 60 s"),
        (httpx.ReadTimeout, RequestTimeoutError, "within 60 s"),
    ],
)
def test_what_goes_wrong_on_the_way_is_told_and_not_tried_again(
    failure: type[httpx.RequestError], error: type[ClientError], says: str
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure("it broke", request=request)

    server = Server(fail)
    with pytest.raises(error, match=says):
        connect(server).info()
    assert len(server.requests) == 1


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(ConnectionFailedError, match="URL is right"):
        Client("server").info()


def test_every_error_is_in_the_tree_of_the_docstring() -> None:
    errors = [name for name, kind in vars(dlclient.errors).items() if inspect.isclass(kind)]
    assert all(issubclass(getattr(dlclient.errors, name), ClientError) for name in errors)
    assert dlclient.errors.__doc__ is not None
    assert [name for name in errors if name not in dlclient.errors.__doc__] == []


def test_the_client_offers_what_it_promises() -> None:
    offered = {name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")}
    assert offered == {
        *("close", "info", "create_service", "get_service", "delete_service", "predict", "predict_raw"),
    }
