"""dlload.protocols: what goes over the wire, and what is read out of the answers."""

import base64
import json

import msgspec
import pytest
from dlload.protocols.base import Outcome, Protocol
from dlload.protocols.deepdetect import DeepDetect
from dlload.protocols.raw import Raw

JPEG = b"\xff\xd8 a jpeg"
PNG = b"\x89PNG a png"


def sent(protocol: Protocol, *images: bytes, cache: str | None = None, worker: int | None = None) -> tuple[str, bytes]:
    encoded = [protocol.encode(image) for image in images]
    head, _, body = protocol.request("a b", encoded, cache, worker).partition(b"\r\n\r\n")
    return head.decode(), body


def test_deepdetect_sends_json_with_base64() -> None:
    head, body = sent(DeepDetect("http://h:1", None), JPEG, PNG, cache="disk", worker=3)
    assert head.splitlines()[0] == "POST /predict HTTP/1.1"
    assert f"Content-Length: {len(body)}" in head.splitlines()
    assert "Host: h:1" in head.splitlines()
    assert json.loads(body) == {
        "service": "a b",
        "parameters": {"mllib": {"cache": "disk", "worker": 3}, "output": {"best": 5}},
        "data": [base64.b64encode(JPEG).decode(), base64.b64encode(PNG).decode()],
    }


def test_deepdetect_asks_for_nothing_that_only_dlserve_knows_unless_told_to() -> None:
    _, body = sent(DeepDetect("http://h:1", None), JPEG)
    assert json.loads(body)["parameters"] == {"mllib": {}, "output": {"best": 5}}


@pytest.mark.parametrize(
    ("image", "content_type"),
    [(JPEG, "image/jpeg"), (PNG, "image/png"), (b"RIFF....WEBP", "application/octet-stream")],
)
def test_raw_sends_the_image_as_it_is(image: bytes, content_type: str) -> None:
    head, body = sent(Raw("http://h:1", None), image, cache="disk", worker=0)
    assert head.splitlines()[0] == "POST /predict/a%20b?best=5&cache=disk&worker=0 HTTP/1.1"
    assert f"Content-Type: {content_type}" in head.splitlines()
    assert body == image


def test_a_key_and_a_path_before_the_api_are_used() -> None:
    head, _ = sent(Raw("http://user@h:1/dd/", "secret"), JPEG)
    assert head.splitlines()[0] == "POST /dd/predict/a%20b?best=5 HTTP/1.1"
    assert "Authorization: Bearer secret" in head.splitlines()
    assert "Host: h:1" in head.splitlines()


def answer(head: object = None, predictions: object = None, **status: object) -> bytes:
    body = {"predictions": [{"uri": "0", "classes": []}] if predictions is None else predictions}
    return json.dumps({"status": status, "head": head or {}, "body": body}).encode()


@pytest.mark.parametrize("protocol", [DeepDetect("http://h:1", None), Raw("http://h:1", None)])
def test_everything_that_dlserve_tells_is_taken_over(protocol: Protocol) -> None:
    head = {"time": 12.5, "timing": {"load": 0.01}, "cache": "disk", "worker": 1, "batch_size": 3, "method": "/predict"}
    assert protocol.outcome(200, answer(head), 1) == Outcome(
        worker=1, cache="disk", batch_size=3, server_s=0.0125, stages={"load": 0.01}
    )


def test_what_a_server_does_not_tell_is_missing() -> None:
    assert DeepDetect("http://h:1", None).outcome(200, answer({"time": 28.0}), 1) == Outcome(server_s=0.028)


@pytest.mark.parametrize(
    "head",
    [
        {"timing": "fast", "worker": "w0", "cache": 3, "batch_size": 1.5, "time": "28"},
        {"timing": {"load": "x"}, "worker": True, "cache": ["disk"], "batch_size": None, "time": []},
    ],
)
def test_what_another_server_means_by_the_same_names_is_no_failure(head: dict[str, object]) -> None:
    assert DeepDetect("http://h:1", None).outcome(200, answer(head), 1) == Outcome()


@pytest.mark.parametrize(
    ("status", "body", "images", "error"),
    [
        (200, answer(predictions=[{}, {}]), 3, "2 predictions for 3 images"),
        (200, answer(predictions=[]), 1, "0 predictions for 1 images"),
        (200, answer(predictions={"uri": "0"}), 1, ""),
        (200, b"<html>", 1, "no DeepDetect answer"),
        (200, b"", 1, "no DeepDetect answer"),
        (400, answer(dd_msg="Service Input Error: bad"), 1, "HTTP 400: Service Input Error: bad"),
        (429, answer(msg="Too many"), 1, "HTTP 429: Too many"),
        (500, b"{}", 1, "HTTP 500: no reason given"),
        (502, b"<html>", 1, "HTTP 502"),
    ],
)
def test_an_answer_that_is_no_good_says_so(status: int, body: bytes, images: int, error: str) -> None:
    found = DeepDetect("http://h:1", None).outcome(status, body, images).error
    assert found.startswith(error)
    assert bool(found) == bool(error)


def test_predictions_are_counted_without_being_built() -> None:
    many = [{"uri": str(number), "classes": [{"prob": 0.5, "cat": "x" * 50}] * 5} for number in range(64)]
    body = msgspec.json.encode({"head": {}, "body": {"predictions": many}})
    assert DeepDetect("http://h:1", None).outcome(200, body, 64).error == ""
