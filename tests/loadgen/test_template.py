"""dlload.protocols.template, .answer and the URL templates of .raw: any server, by what its user writes down."""

import base64
import json

import pytest
from dlload.errors import OptionError
from dlload.protocols.answer import AnswerPath
from dlload.protocols.base import Protocol
from dlload.protocols.raw import RawTemplate, UrlTemplate
from dlload.protocols.template import JsonTemplate, Template
from dlload.protocols.torchserve import TorchServe

URL = "http://h:1"
ONE, TWO = base64.b64encode(b"one").decode(), base64.b64encode(b"two").decode()


def body(template: object, *images: bytes, cache: str | None = None, worker: int | None = None) -> object:
    protocol = Template(URL, None, "/x", json.dumps(template).encode())
    encoded = [protocol.encode(image) for image in images]
    return json.loads(protocol.request('a"b', encoded, cache, worker).partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ({"data": "{image_base64}"}, {"data": ONE}),
        ({"data": "data:image/jpeg;base64,{image_base64}"}, {"data": f"data:image/jpeg;base64,{ONE}"}),
        ({"i": "{image_base64}", "s": "{service}"}, {"i": ONE, "s": 'a"b'}),
        ({"i": "{image_base64}", "s": "<{service}>\n"}, {"i": ONE, "s": '<a"b>\n'}),
        ({"i": "{image_base64}", "{service}": 1}, {"i": ONE, 'a"b': 1}),
        ({"i": "{image_base64}", "c": "{cache}", "w": "{worker}"}, {"i": ONE, "c": None, "w": None}),
        ({"i": "{image_base64}", "c": "c={cache} w={worker}"}, {"i": ONE, "c": "c= w="}),
        ({"i": "{image_base64}", "n": "{batch_size}"}, {"i": ONE, "n": 1}),
        ({"i": "{image_base64}", "keep": [1, 2.5, None, True, {}, [], "{not one}", "é"]},
         {"i": ONE, "keep": [1, 2.5, None, True, {}, [], "{not one}", "é"]}),
        (["x", "{image_base64}"], ["x", ONE]),
    ],
)  # fmt: skip
def test_placeholders_become_values(template: object, filled: object) -> None:
    assert body(template, b"one") == filled


def test_what_is_wished_for_keeps_its_kind() -> None:
    template = {"i": "{image_base64}", "c": "{cache}", "w": "{worker}", "t": "{cache}/{worker}"}
    assert body(template, b"one", cache="disk", worker=3) == {"i": ONE, "c": "disk", "w": 3, "t": "disk/3"}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ({"instances": [{"b64": "{image_base64}"}]}, {"instances": [{"b64": ONE}, {"b64": TWO}]}),
        ({"inputs": [["{image_base64}"]]}, {"inputs": [[ONE, TWO]]}),
        ({"inputs": [{"data": ["{image_base64}"]}]}, {"inputs": [{"data": [ONE, TWO]}]}),
    ],
)
def test_a_list_of_one_image_takes_as_many_as_there_are(template: object, filled: object) -> None:
    assert Template(URL, None, "/x", json.dumps(template).encode()).one_image is False
    assert body(template, b"one", b"two") == filled


def test_a_template_without_such_a_list_carries_one_image() -> None:
    assert Template(URL, None, "/x", b'{"data": "{image_base64}"}').one_image


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"data": {image_base64}}', "--body-template: no JSON .*placeholders stand within strings"),
        (b"", "no JSON"),
        (b'{"data": "x"}', "no {image_base64} in it"),
        (
            b'{"data": "{image_base64}", "m": "{model}"}',
            "{model} is no placeholder; there are {image_base64}, {service}",
        ),
    ],
)
def test_a_template_that_cannot_be_used_says_why(content: bytes, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Template(URL, None, "/x", content)


def test_other_templates_know_other_placeholders() -> None:
    made = JsonTemplate(b'{"model": {"repository": "/m/{service}"}}', ("service",), "--create-body")
    assert made.fill({"service": "a"}) == b'{"model":{"repository":"/m/a"}}'
    with pytest.raises(OptionError, match=r"--create-body: {cache} is no placeholder"):
        JsonTemplate(b'["{cache}"]', ("service",), "--create-body")


def test_a_path_is_filled_and_quoted() -> None:
    made = UrlTemplate("/v1/{service}/predict?cache={cache}&on={worker}")
    assert made.fill("a/b", "disk", 0) == "/v1/a%2Fb/predict?cache=disk&on=0"
    assert made.fill("a", None, None) == "/v1/a/predict?cache=&on="


@pytest.mark.parametrize("template", ["predict", "/a b", "/é", "/{model}", "/{}", ""])
def test_a_path_that_is_none_is_refused(template: str) -> None:
    with pytest.raises(OptionError, match="--url-template"):
        UrlTemplate(template)


PATH = AnswerPath.read("predictions.0.label")
PROTOCOLS: tuple[Protocol, ...] = (
    RawTemplate(URL, None, "/p/{service}", None),
    Template(URL, None, "/p/{service}", b'["{image_base64}"]'),
    TorchServe(URL, None),
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (200, b"anything", ""),
        (201, b"\xff\x00", ""),
        (200, b"", "an answer without a body"),
        (404, b"no such\nthing", "HTTP 404: no such thing"),
        (500, b"", "HTTP 500"),
        (302, b"elsewhere", "HTTP 302: elsewhere"),
    ],
)
def test_any_good_status_with_a_body_is_good(protocol: Protocol, status: int, content: bytes, error: str) -> None:
    assert protocol.outcome(status, content, 1).error == error


CHECKED: tuple[Protocol, ...] = (
    RawTemplate(URL, None, "/p/{service}", PATH),
    Template(URL, None, "/p/{service}", b'["{image_base64}"]', PATH),
    TorchServe(URL, None, PATH),
)


@pytest.mark.parametrize("protocol", CHECKED)
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"predictions": [{"label": "cat"}]}', ""),
        (b'{"predictions": [{"label": 0}]}', ""),
        (b'{"predictions": [{"label": null}]}', "no predictions.0.label in the answer"),
        (b'{"predictions": []}', "no predictions.0.label in the answer"),
        (b'{"predictions": "cat"}', "no predictions.0.label in the answer"),
        (b'{"predictions": [{"label": "c', "no JSON answer"),
        (b"<html>", "no JSON answer"),
    ],
)
def test_what_must_be_in_the_answer_is_looked_for(protocol: Protocol, content: bytes, error: str) -> None:
    found = protocol.outcome(200, content, 1).error
    assert found.startswith(error)
    assert bool(found) == bool(error)


@pytest.mark.parametrize("text", ["", "a..b", "."])
def test_an_answer_path_with_holes_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--answer-path"):
        AnswerPath.read(text)


@pytest.mark.parametrize("protocol", [PROTOCOLS[0], PROTOCOLS[2]])
def test_the_image_is_the_body(protocol: Protocol) -> None:
    head, _, content = protocol.request("a b", [protocol.encode(b"\xff\xd8x")], "disk", 1).partition(b"\r\n\r\n")
    path = "/p/a%20b" if protocol.name == "raw" else "/predictions/a%20b"
    assert head.decode().splitlines()[0] == f"POST {path} HTTP/1.1"
    assert b"Content-Type: image/jpeg" in head
    assert content == b"\xff\xd8x"


def test_a_failure_of_torchserve_is_one_whatever_its_status() -> None:
    failure = b'{"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}'
    for status in (200, 503):
        found = TorchServe(URL, None).outcome(status, failure, 1).error
        assert found == f"HTTP {status}: ServiceUnavailableException: no worker"
