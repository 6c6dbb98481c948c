"""Every row of the error table that dlserve can answer, in DeepDetect's shape and with a message that helps."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dlserve import errors

from tests.conftest import Server, simulated, status_of
from tests.server.conftest import photograph

IMAGE = base64.b64encode(photograph(1)).decode()


@pytest.fixture(scope="module")
def client(images: Path, repository: Path) -> Iterator[httpx.Client]:
    """A server with one worker, small limits and one simulated service beside the real ones."""
    server = Server(
        "--workers", "1", "--devices", "cpu", "--models-dir", str(repository), "--data-root", str(images), "--max-body-mb", "1", "--max-images", "4"
    ).wait_ready()  # fmt: skip
    with server.client() as client:
        simulated(client, "sim")
        yield client
    assert server.stop() == 0


def creation(**changes: Any) -> dict[str, Any]:
    return {
        "mllib": "torch",
        "parameters": {"input": {"connector": "image"}},
        "model": {"repository": "resnet18"},
    } | changes


def call(service: Any = "sim", data: Any = None, **parameters: Any) -> dict[str, Any]:
    return {"service": service, "parameters": parameters, "data": [IMAGE] if data is None else data}


ROWS: list[tuple[str, str, Any, int, str, int | None]] = [
    # method, path, body, HTTP status, status.msg, dd_code
    ("POST", "/predict", b"{not json", 400, "BadRequest", None),
    ("POST", "/predict", b"\xff\xfe\x00", 400, "BadRequest", None),
    ("POST", "/predict", b"[1, 2]", 400, "BadRequest", None),
    ("POST", "/predict", b"", 400, "BadRequest", None),
    ("POST", "/predict", {"data": [IMAGE]}, 400, "BadRequest", 400),
    ("POST", "/predict", call(service=7), 400, "BadRequest", 400),
    ("POST", "/predict", call(service="nobody"), 404, "NotFound", 1002),
    ("POST", "/predict", {"service": "sim"}, 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=[]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data="abc"), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=[None]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["äöü"]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["AAA="], service="resnet18"), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=[IMAGE[:-1]]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["data:image/jpeg;base64," + IMAGE]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["/etc/passwd"]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["../image-0.jpg"]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["http://127.0.0.1:9/a.jpg"]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["file:///etc/passwd"]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["eA=="] * 5), 400, "BadRequest", 1005),
    ("POST", "/predict", call(input={"width": "wide"}), 400, "BadRequest", 1005),
    ("POST", "/predict", call(input=[1]), 400, "BadRequest", 1005),
    ("POST", "/predict", call(mllib={"cache": "hot"}), 400, "BadRequest", 1006),
    ("POST", "/predict", call(mllib={"worker": 7}), 400, "BadRequest", 1006),
    ("POST", "/predict", call(output={"template": "{{x}}"}), 400, "BadRequest", 1006),
    ("POST", "/predict", call(output={"best": 10**30, "confidence_threshold": 10**400}), 400, "BadRequest", 1006),
    ("POST", "/predict", call(input={"scale": 10**400}), 400, "BadRequest", 1005),
    ("POST", "/predict", call(input={"mean": [10**400, 0, 0]}), 400, "BadRequest", 1005),
    ("POST", "/predict", call(data=["http://xn--/a.jpg"]), 400, "BadRequest", 1005),
    ("POST", "/predict", call("resnet18", [IMAGE] * 2, input={"width": 8192, "height": 8192}), 400, "BadRequest", 1005),
    ("POST", "/predict", b'{"service": "sim", "parameters": ' + b'{"a":' * 600 + b"1" + b"}" * 601, 400, "BadRequest", None),
    ("POST", "/predict", call(data=["eA==" * (1 << 19)]), 413, "Payload Too Large", None),
    ("GET", "/predict", None, 405, "Method Not Allowed", None),
    ("POST", "/info", None, 405, "Method Not Allowed", None),
    ("GET", "/nowhere", None, 404, "NotFound", None),
    ("GET", "/services/nobody", None, 404, "NotFound", 1002),
    ("GET", "/services/sim?status=perhaps", None, 400, "Bad request", 400),
    ("GET", "/services/sim?labels=2", None, 400, "Bad request", 400),
    ("GET", "/info?status=x", None, 400, "Bad request", 400),
    ("DELETE", "/services/nobody", None, 404, "NotFound", None),
    ("DELETE", "/services/sim?clear=everything", None, 400, "Bad request", 400),
    ("PUT", "/services/sim", b"even a body that is not JSON", 409, "Conflict", 1014),
    ("PUT", "/services/new", b"{", 400, "BadRequest", None),
    ("PUT", "/services/new", {"model": {"repository": "resnet18"}}, 400, "BadRequest", 400),
    ("PUT", "/services/new", creation(mllib=3), 400, "BadRequest", 400),
    ("PUT", "/services/new", {"mllib": "torch", "parameters": {"input": {"connector": "image"}}}, 400, "BadRequest", 400),
    ("PUT", "/services/new", creation(mllib=""), 404, "NotFound", 1000),
    ("PUT", "/services/new", creation(mllib="wishful"), 404, "NotFound", 1000),
    ("PUT", "/services/new", creation(mllib="caffe"), 400, "BadRequest", 1006),
    ("PUT", "/services/new", creation(mllib="tensorflow"), 400, "BadRequest", 1006),
    ("PUT", "/services/new", creation(parameters={"input": {"connector": "csv"}}), 404, "NotFound", 1004),
    ("PUT", "/services/new", creation(parameters={"input": {"connector": "image", "mean": [1, 2]}}), 400, "BadRequest", 1005),
    ("PUT", "/services/new", creation(parameters={"mllib": {"gpu": True}}), 400, "BadRequest", 1006),
    ("PUT", "/services/new", creation(parameters={"mllib": {"datatype": "fp64"}}), 400, "BadRequest", 1006),
    ("PUT", "/services/new", creation(type="unsupervised"), 400, "BadRequest", 1006),
    ("PUT", "/services/new", creation(model={"repository": "not-there"}), 400, "BadRequest", 1006),
    ("PUT", "/services/new", creation(model={"repository": "../.."}), 400, "BadRequest", 1006),
    ("PUT", "/services/new", creation(model={"repository": "/etc"}), 400, "BadRequest", 1006),
    ("PUT", "/services/new", {"mllib": "simulated", "parameters": {"mllib": {"forward": 1}}}, 400, "BadRequest", 1006),
    ("PUT", "/services/new", {"mllib": "simulated", "parameters": {"mllib": {"forward_s": -1}}}, 400, "BadRequest", 1006),
    ("PUT", "/services/new", {"mllib": "simulated", "parameters": {"mllib": {"bytes": 1 << 60}}}, 400, "BadRequest", 1006),
    ("PUT", "/services/..%2Fnew", creation(), 404, "NotFound", None),
    ("PUT", "/services/-new", creation(), 400, "BadRequest", 400),
    ("POST", "/train", {"service": "sim"}, 400, "BadRequest", 1006),
    ("POST", "/train", {"service": "nobody"}, 404, "NotFound", 1002),
    ("GET", "/train?service=sim&job=1", None, 400, "BadRequest", 1006),
    ("DELETE", "/train?service=nobody&job=1", None, 404, "NotFound", 1002),
    ("POST", "/chain/any", {"chain": {"calls": []}}, 400, "BadRequest", 1006),
    ("PUT", "/resources/any", {"type": "video"}, 400, "BadRequest", 1006),
    ("GET", "/stream/any", None, 400, "BadRequest", 1006),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "msg", "dd_code"), ROWS)
def test_a_bad_request_gets_its_row_of_the_table(
    client: httpx.Client, method: str, path: str, body: Any, status: int, msg: str, dd_code: int | None
) -> None:
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    answer = client.request(method, path, content=content)
    found = status_of(answer)
    assert (found["code"], found["msg"], found.get("dd_code")) == (status, msg, dd_code), answer.text
    assert len(found["dd_msg"]) > 15
    assert "Traceback" not in answer.text
    assert client.get("/services/sim").status_code == 200


@pytest.mark.parametrize(
    ("path", "kind", "status", "dd_code"),
    [
        ("/predict/nobody", "image/jpeg", 404, 1002),
        ("/predict/sim", "text/plain", 415, None),
        ("/predict/sim", "application/json", 415, None),
        ("/predict/sim?best=many", "image/jpeg", 400, 400),
        ("/predict/sim?bets=1", "image/jpeg", 400, 400),
        ("/predict/sim?cache=hot", "image/jpeg", 400, 1006),
        ("/predict/a/b", "image/jpeg", 404, 1002),
    ],
)
def test_a_bad_raw_call_gets_a_clear_error(
    client: httpx.Client, path: str, kind: str, status: int, dd_code: int | None
) -> None:
    found = status_of(client.post(path, content=photograph(1), headers={"Content-Type": kind}))
    assert (found["code"], found.get("dd_code")) == (status, dd_code)


def test_a_best_beyond_all_numbers_is_all_classes(client: httpx.Client) -> None:
    answer = client.post("/predict", json=call(output={"best": 10**18}))
    assert len(answer.json()["body"]["predictions"][0]["classes"]) == 1000


def test_an_answer_too_large_for_a_frame_is_refused_and_costs_nothing_else(client: httpx.Client) -> None:
    simulated(client, "wide", nclasses=2_000_000)
    found = status_of(client.post("/predict", json=call("wide", ["eA=="] * 4, output={"best": -1})))
    assert found["dd_code"] == 1006
    assert "best" in found["dd_msg"]
    assert client.post("/predict", json=call("wide", ["eA=="])).json()["head"]["cache"] == "warm"
    assert client.delete("/services/wide").status_code == 200


def test_one_bad_image_fails_its_call_and_names_itself(client: httpx.Client) -> None:
    found = status_of(client.post("/predict", json=call(service="resnet18", data=[IMAGE, "eA==", IMAGE])))
    assert found["dd_code"] == 1005
    assert found["dd_msg"].startswith("Service Input Error: ")
    assert "1" in found["dd_msg"]


def test_every_error_class_is_in_the_table_of_the_docstring() -> None:
    for kind in errors.ApiError.__subclasses__():
        row = next(line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line)
        numbers = [int(word) for word in row.split() if word.isdigit()]
        assert numbers[0] == kind.status
        assert kind.dd_code == (numbers[1] if len(numbers) > 1 and numbers[1] >= 400 else 0)
