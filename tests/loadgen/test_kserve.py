"""dlload.protocols.kserve: what goes over the wire in JSON and binary, and what is read out of the answers."""

import base64
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from dlload.protocols.base import Outcome
from dlload.protocols.kserve import KServe, ModelForm
from dlload.protocols.tensors import InputForm, Normalization
from PIL import Image

URL = "http://h:1/base"
FILES = ModelForm(InputForm("image", "BYTES", (-1, 1)), frozenset({"scores"}))
PLANES = ModelForm(InputForm("x", "FP32", (-1, 3, 1, 2)), frozenset({"scores"}))
PIXELS = ModelForm(InputForm("x", "UINT8", (1, 2, 3)))


def png(*pixels: tuple[int, int, int]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.array([pixels], np.uint8)).save(content, "PNG")
    return content.getvalue()


TWO = png((255, 0, 51), (0, 102, 255))


def speaker(model: ModelForm, *, binary: bool, normalization: Normalization = Normalization()) -> KServe:  # noqa: B008  frozen
    return KServe(URL, "key", {"a b": model}, binary=binary, normalization=normalization)


def sent(
    protocol: KServe, *images: bytes, cache: str | None = None, worker: int | None = None
) -> tuple[list[str], dict[str, Any], bytes]:
    """Head's lines, the JSON, and what follows it."""
    encoded = [protocol.encode(image, "a b") for image in images]
    head, _, body = protocol.request("a b", encoded, cache, worker).partition(b"\r\n\r\n")
    lines = head.decode().splitlines()
    assert f"Content-Length: {len(body)}" in lines
    lengths = [int(line.split()[1]) for line in lines if line.startswith("Inference-Header-Content-Length")]
    end = lengths[0] if lengths else len(body)
    return lines, json.loads(body[:end]), body[end:]


def test_files_go_as_they_are_in_binary_tensors() -> None:
    lines, call, data = sent(speaker(FILES, binary=True), b"one", b"three", cache="disk", worker=2)
    assert lines[0] == "POST /base/v2/models/a%20b/infer HTTP/1.1"
    assert "Content-Type: application/octet-stream" in lines
    assert "Authorization: Bearer key" in lines
    assert call == {
        "parameters": {"cache": "disk", "worker": 2, "binary_data_output": True},
        "inputs": [{"name": "image", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 16}}],
    }
    assert data == struct.pack("<I", 3) + b"one" + struct.pack("<I", 5) + b"three"


def test_files_go_as_base64_in_json() -> None:
    lines, call, _ = sent(speaker(FILES, binary=False), b"one", b"three", cache="disk")
    assert "Content-Type: application/json" in lines
    assert call == {
        "parameters": {"cache": "disk"},
        "inputs": [
            {
                "name": "image",
                "shape": [2, 1],
                "datatype": "BYTES",
                "parameters": {"content_type": "base64"},
                "data": [base64.b64encode(b"one").decode(), base64.b64encode(b"three").decode()],
            }
        ],
    }


def test_nothing_is_wished_for_unless_told_to() -> None:
    assert list(sent(speaker(FILES, binary=False), b"one")[1]) == ["inputs"]


def test_planes_are_normalised_and_little_endian() -> None:
    normal = Normalization(scale=1 / 255, mean=(0.5,), std=(0.5, 1.0, 0.25))
    _, call, data = sent(speaker(PLANES, binary=True, normalization=normal), TWO, TWO)
    assert call["inputs"][0]["shape"] == [2, 3, 1, 2]
    expected = [[[1, -1]], [[-0.5, -0.1]], [[-1.2, 2]]]
    assert np.frombuffer(data, "<f4").reshape(2, 3, 1, 2) == pytest.approx(np.array([expected, expected]), abs=1e-6)


def test_planes_in_json_hold_the_same_values_exactly() -> None:
    normal = Normalization(scale=1 / 255)
    _, call, _ = sent(speaker(PLANES, binary=False, normalization=normal), TWO)
    _, _, data = sent(speaker(PLANES, binary=True, normalization=normal), TWO)
    assert np.array(call["inputs"][0]["data"], np.float32).tobytes() == data


@pytest.mark.parametrize(("is_bgr", "pixels"), [(False, [255, 0, 51, 0, 102, 255]), (True, [51, 0, 255, 255, 102, 0])])
def test_pixels_of_a_model_without_batches_lie_in_their_order(is_bgr: bool, pixels: list[int]) -> None:
    protocol = speaker(PIXELS, binary=True, normalization=Normalization(is_bgr=is_bgr))
    _, call, data = sent(protocol, TWO)
    assert call["inputs"][0]["shape"] == [1, 2, 3]
    assert list(data) == pixels
    assert sent(speaker(PIXELS, binary=False), TWO)[1]["inputs"][0]["data"] == [255, 0, 51, 0, 102, 255]


def test_models_of_one_input_share_their_images_whatever_its_name() -> None:
    other = ModelForm(InputForm("y", "FP32", (4, 3, 1, 2)))
    protocol = KServe(URL, None, {"a": FILES, "b": PLANES, "c": other}, binary=True, normalization=Normalization())
    assert protocol.form("b") == protocol.form("c") != protocol.form("a")


def scores(images: int = 1, data: object = None, **more: object) -> dict[str, object]:
    output = {"name": "scores", "datatype": "FP32", "shape": [images, 2]}
    return output | {"data": [0.5] * 2 * images if data is None else data} | more


def answer(*outputs: object, **more: object) -> bytes:
    return json.dumps({"model_name": "a b", "outputs": outputs, **more}).encode()


def binary_answer(size: int, told: int) -> bytes:
    output = {"name": "scores", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": told}}
    return answer(output) + b'\xff"}{\x00\xfe\x80!'[:size].ljust(size, b"x")


def test_everything_that_dlserve_tells_is_taken_over() -> None:
    told = {"time": 12.5, "timing": '{"load": 0.01}', "cache": "disk", "worker": 1, "batch_size": 3}
    wanted = Outcome(worker=1, cache="disk", batch_size=3, server_s=0.0125, stages={"load": 0.01})
    protocol = speaker(FILES, binary=True)
    assert protocol.outcome(200, answer(scores(), parameters=told), 1) == wanted
    assert protocol.outcome(200, answer(scores(), parameters={**told, "timing": {"load": 0.01}}), 1) == wanted


def test_what_another_server_means_by_the_same_names_is_no_failure() -> None:
    told = {"time": "noon", "timing": "fast", "cache": 1, "worker": True, "batch_size": 2.5}
    assert speaker(FILES, binary=True).outcome(200, answer(scores(), parameters=told), 1) == Outcome()


@pytest.mark.parametrize(
    ("status", "body", "images", "error"),
    [
        (200, answer(scores()), 1, ""),
        (200, answer(scores(4)), 4, ""),
        (200, answer(scores(data=[[0.1, 0.9]])), 1, ""),
        (200, binary_answer(8, 8), 1, ""),
        (200, answer(scores(), {"name": "boxes", "datatype": "FP32", "shape": [7, 1], "data": [0.0] * 7}), 1, ""),
        (200, answer(scores(3)), 4, "output scores has shape [3, 2] for 4 images"),
        (200, answer(scores(data=[0.5])), 1, "output scores has 1 values, its shape [1, 2] means 2"),
        (200, answer({"name": "scores", "datatype": "FP32", "shape": [1, 2]}), 1, "output scores has 0 values"),
        (200, answer(), 1, "an answer without outputs"),
        (200, binary_answer(7, 8), 1, "7 bytes of binary data where the outputs tell of 8"),
        (200, binary_answer(4, 4), 1, "output scores has 1 values, its shape [1, 2] means 2"),
        (200, answer(scores()) + b"garbage", 1, "7 bytes of binary data where the outputs tell of 0"),
        (200, answer(scores())[:-9], 1, "no answer of the Open Inference Protocol"),
        (200, b"\x80\xff\x00garbage", 1, "no answer of the Open Inference Protocol"),
        (200, b"", 1, "no answer of the Open Inference Protocol"),
        (200, b"{}", 1, "no answer of the Open Inference Protocol"),
        (200, b"[" * 100_000, 1, "no answer of the Open Inference Protocol"),
        (400, b'{"error": "bad shape"}', 1, "HTTP 400: bad shape"),
        (404, b'{"detail": "Not Found"}', 1, 'HTTP 404: {"detail": "Not Found"}'),
        (503, b"", 1, "HTTP 503: no reason given"),
    ],
)
def test_an_answer_that_is_no_good_says_so(status: int, body: bytes, images: int, error: str) -> None:
    found = speaker(FILES, binary=True).outcome(status, body, images).error
    assert found.startswith(error)
    assert bool(found) == bool(error)
