"""dlclient.bench.calls: what is sent, and what counts as a good answer."""

import base64
import json
from typing import Any

import pytest
from dlclient.bench.calls import Call, Way, failure_kind, predict_call, said
from dlclient.bench.photographs import Photograph
from dlclient.exchange import Exchange

PICTURES = [Photograph("a.jpg", b"\xff\xd8a", "/data/a.jpg"), Photograph("b.jpg", b"\xff\xd8b", "/data/b.jpg")]


def call(way: Way, *pictures: Photograph, mllib: dict[str, object] | None = None, api_key: str = "") -> Call:
    return predict_call("http://server:8080/", "Net", pictures or PICTURES, way, mllib or {}, api_key)


def parts(request: bytes) -> tuple[list[str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


def answered(content: object, to: Call, status: int = 200) -> Any:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return said(Exchange(1.0, 1.2, 1.25, status, body, ""), to)


def prediction(uri: str, prob: float = 0.9) -> dict[str, Any]:
    return {"uri": uri, "classes": [{"prob": prob, "cat": "cat"}, {"prob": 0.05, "cat": "dog", "last": True}]}


def good(*predictions: dict[str, Any], **head: Any) -> dict[str, Any]:
    return {"status": {"code": 200}, "head": {"time": 28.5} | head, "body": {"predictions": list(predictions)}}


@pytest.mark.parametrize(
    ("way", "data"),
    [
        ("base64", [base64.b64encode(one.content).decode() for one in PICTURES]),
        ("path", ["/data/a.jpg", "/data/b.jpg"]),
    ],
)
def test_a_call_is_deepdetects_predict(way: Way, data: list[str]) -> None:
    head, body = parts(call(way, mllib={"gpu": True, "gpuid": 1}, api_key="secret").request)
    assert head[0] == "POST /predict HTTP/1.1"
    assert {"Host: server:8080", "Authorization: Bearer secret", f"Content-Length: {len(body)}"} <= set(head)
    assert json.loads(body) == {
        "service": "Net",
        "parameters": {"input": {}, "mllib": {"gpu": True, "gpuid": 1}, "output": {"best": 5}},
        "data": data,
    }


def test_one_image_may_go_as_it_is() -> None:
    head, body = parts(call("raw", PICTURES[0]).request)
    assert head[0] == "POST /predict/Net?best=5 HTTP/1.1"
    assert body == PICTURES[0].content


def test_the_servers_times_and_the_clients_are_told_apart() -> None:
    told = answered(
        good(prediction("0"), prediction("1"), timing={"decode": 0.004, "forward": 0.02}), call("base64")
    ).told
    assert (told.error, told.server_s, told.transform_s) == ("", 0.0285, 0.004)
    assert told.took_s == pytest.approx(0.25)


def test_a_server_that_tells_no_time_has_none() -> None:
    told = answered(good(prediction("0"), prediction("1"), time=None), call("base64")).told
    assert (told.error, told.server_s, told.transform_s) == ("", None, None)


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        ({"status": {"code": 500, "dd_msg": "CUDA out of memory"}}, 500, "the server answered 500: CUDA out of memory"),
        ({"status": {"code": 404, "msg": "NotFound"}}, 404, "the server answered 404: NotFound"),
        (b"<html>", 502, "HTTP 502 with something that is no answer of a DeepDetect-style server"),
        (good(prediction("0")), 200, "the server answered 1 of 2 images"),
        ({"status": {"code": 200}}, 200, "the server answered 0 of 2 images"),
    ],
)
def test_what_is_no_good_answer_is_an_error(content: object, status: int, error: str) -> None:
    assert answered(content, call("base64"), status).told.error.startswith(error)


def test_no_answer_is_an_error() -> None:
    told = said(Exchange(1.0, None, 2.0, 0, b"", "no complete answer within 1 s"), call("base64")).told
    assert told.error == "no answer: no complete answer within 1 s"


def test_equal_paths_may_be_answered_once_as_deepdetect_does() -> None:
    twice = call("path", PICTURES[0], PICTURES[0])
    assert answered(good(prediction("/data/a.jpg")), twice).told.error == ""
    assert answered(good(prediction("/data/a.jpg"), prediction("/data/a.jpg")), twice).told.error == ""


def test_another_answer_than_before_is_an_error() -> None:
    known = call("base64")
    known.expected = {"0": 0.9, "1": 0.5}
    assert answered(good(prediction("1", 0.51), prediction("0", 0.9)), known).told.error == ""
    swapped = answered(good(prediction("0", 0.5), prediction("1", 0.9)), known).told.error
    assert swapped == "the server answered 0 otherwise than before the clock (0.5, not 0.9): it mixes answers up"


@pytest.mark.parametrize(
    ("error", "kind"),
    [("CUDA out of memory", "out-of-memory"), ("std::bad_alloc", "out-of-memory"), ("queue full", "error")],
)
def test_lack_of_memory_is_told_by_its_words(error: str, kind: str) -> None:
    assert failure_kind(error) == kind
