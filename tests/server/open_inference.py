"""A client of the Open Inference Protocol as small as can be: tensors in JSON and binary, and what comes back."""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
LENGTH = "Inference-Header-Content-Length"
TYPES = {"uint8": "UINT8", "float32": "FP32"}


@dataclass(frozen=True)
class Tensor:
    """An input with its data in both forms."""

    datatype: str
    shape: tuple[int, ...]
    data: list[Any]
    binary: bytes

    def head(self, **more: Any) -> Json:
        """Its JSON without data."""
        return {"name": "input", "shape": list(self.shape), "datatype": self.datatype, **more}


def numbers(array: NDArray[Any]) -> Tensor:
    """UINT8 or FP32."""
    return Tensor(TYPES[array.dtype.name], array.shape, array.tolist(), array.tobytes())


def files(images: Sequence[bytes]) -> Tensor:
    """BYTES."""
    binary = b"".join(struct.pack("<I", len(image)) + image for image in images)
    return Tensor("BYTES", (len(images),), [base64.b64encode(image).decode() for image in images], binary)


def send(
    client: httpx.Client, path: str, head: Json, binary: bytes = b"", length: int | str | None = None
) -> httpx.Response:
    """POST a request; with binary data, or a header length that is given, as the binary extension has it."""
    text = httpx.Request("POST", "http://x", json=head).content
    headers = {"Content-Type": "application/json"}
    if binary or length is not None:
        headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(text) if length is None else length)}
    return client.post(path, content=text + binary, headers=headers)


def infer(client: httpx.Client, model: str, tensor: Tensor, *, binary: bool, **more: Any) -> httpx.Response:
    """POST a tensor to a model."""
    path = f"/v2/models/{model}/infer"
    if binary:
        head = {"inputs": [tensor.head(parameters={"binary_data_size": len(tensor.binary)})], **more}
        return send(client, path, head, tensor.binary)
    return send(client, path, {"inputs": [tensor.head(data=tensor.data)], **more})


def output(answer: httpx.Response) -> tuple[Json, Json, Any]:
    """(the answer's JSON, its output, the output's data: an array, or lists of strings), checked against each other."""
    assert answer.status_code == 200, answer.text[:500]
    if LENGTH not in answer.headers:
        content: Json = answer.json()
        (only,) = content["outputs"]
        return content, only, _shaped(only, only["data"])
    assert answer.headers["content-type"] == "application/octet-stream"
    size = int(answer.headers[LENGTH])
    content = httpx.Response(200, content=answer.content[:size]).json()
    (only,) = content["outputs"]
    data = answer.content[size:]
    assert only["parameters"]["binary_data_size"] == len(data)
    if only["datatype"] == "FP32":
        return content, only, _shaped(only, np.frombuffer(data, "<f4"))
    texts = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return content, only, _shaped(only, texts)


def _shaped(only: Json, data: Any) -> Any:
    if only["datatype"] == "FP32":
        return np.asarray(data, np.float32).reshape(only["shape"])
    count, width = only["shape"]
    assert len(data) == count * width
    return [data[row * width : (row + 1) * width] for row in range(count)]


def error_of(answer: httpx.Response) -> str:
    """An error's sentence, in KServe's shape and no other."""
    content = answer.json()
    assert answer.status_code >= 400
    assert list(content) == ["error"], content
    text: str = content["error"]
    assert text
    return text
