"""Open Inference Protocol v2 over HTTP, with tensors in JSON or binary: Triton, MLServer, OpenVINO Model Server, dlserve.

https://github.com/kserve/open-inference-protocol and, for binary tensors, Triton's extension_binary_data.
"""

import base64
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder
from types import MappingProxyType
from urllib.parse import quote

import msgspec
import numpy as np
from numpy.typing import NDArray

from dlload.protocols.answer import quoted
from dlload.protocols.base import Outcome, Protocol
from dlload.protocols.facts import number, stages, text, whole
from dlload.protocols.tensors import InputForm, Normalization, element, tensor

_BYTES_OF: Mapping[str, int] = MappingProxyType(
    {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2}
    | {"UINT32": 4, "INT32": 4, "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8}
)
_prefix = JSONDecoder()


@dataclass(frozen=True, slots=True)
class ModelForm:
    """What the protocol must know of a model."""

    input: InputForm
    counted: frozenset[str] = frozenset()
    """Outputs whose first dimension is the number of images."""


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    data: object = None
    parameters: dict[str, object] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Output]
    model_name: str = ""
    parameters: dict[str, object] | None = None


class _Failure(msgspec.Struct):
    error: str


_answers = msgspec.json.Decoder(_Answer)


class KServe(Protocol):
    """`models`: by service. `binary`: send tensors so, and ask for answers so."""

    name = "kserve"

    def __init__(
        self,
        url: str,
        api_key: str | None,
        models: Mapping[str, ModelForm],
        *,
        binary: bool,
        normalization: Normalization,
    ) -> None:
        super().__init__(url, api_key)
        self._models = models
        self._binary = binary
        self._normalization = normalization

    def form(self, service: str) -> Hashable:
        """Equal for services with equal inputs but for their names."""
        form = self._models[service].input
        return form.datatype if form.datatype == "BYTES" else (form.datatype, form.shape[-3:])

    def encode(self, image: bytes, service: str = "") -> bytes:
        """One element of the tensor: binary, or as it is written in a JSON list."""
        form = self._models[service].input
        if self._binary:
            return element(image, form, self._normalization)
        if form.datatype == "BYTES":
            return b'"' + base64.b64encode(image) + b'"'
        values = tensor(image, form, self._normalization).ravel()
        return ",".join(map(str, values)).encode("ascii")  # numpy's str of a float32 has the digits that it needs

    def request(self, service: str, images: Sequence[bytes], cache: str | None, worker: int | None) -> bytes:
        """POST /v2/models/{model}/infer."""
        form = self._models[service].input
        asked: dict[str, object] = {"cache": cache, "worker": worker, "binary_data_output": self._binary or None}
        parameters = {key: value for key, value in asked.items() if value is not None}
        tensor_head: dict[str, object] = {
            "name": form.name,
            "shape": form.shape_of(len(images)),
            "datatype": form.datatype,
        }
        path = f"/v2/models/{quote(service, safe='')}/infer"
        if self._binary:
            tensor_head["parameters"] = {"binary_data_size": sum(map(len, images))}
            head = msgspec.json.encode(_with(parameters, inputs=[tensor_head]))
            length = {"Inference-Header-Content-Length": str(len(head))}
            return self._writer.write("POST", path, "application/octet-stream", b"".join((head, *images)), length)
        if form.datatype == "BYTES":
            tensor_head["parameters"] = {"content_type": "base64"}  # MLServer's word for it
        opening = msgspec.json.encode(_with(parameters)).removesuffix(b"}")
        opening += (b"," if parameters else b"") + b'"inputs":[' + msgspec.json.encode(tensor_head)[:-1]
        return self._post(path, "application/json", opening + b',"data":[' + b",".join(images) + b"]}]}")

    def content(self, body: bytes) -> str | None:
        """The number of the most probable class of each image, of a first output of scores by image and class."""
        answer, rest = _split(body)
        scores = _scores(answer, body[len(body) - rest :])
        return None if scores is None else "|".join(map(str, scores.argmax(axis=1).tolist()))

    def outcome(self, status: int, body: bytes, images: int) -> Outcome:
        """Judge status, outputs, their shapes and amounts of data; take over what `parameters` tell."""
        if status != 200:
            return Outcome(error=f"HTTP {status}: {failure_of(body)}")
        try:
            answer, rest = _split(body)
        except (msgspec.DecodeError, JSONDecodeError, RecursionError) as exc:
            return Outcome(error=f"no answer of the Open Inference Protocol: {exc}")
        model = self._models.get(answer.model_name)
        if error := _problem(answer, rest, images, model.counted if model else frozenset()):
            return Outcome(error=error)
        told = answer.parameters or {}
        server_ms = number(told.get("time"))
        return Outcome(
            worker=whole(told.get("worker")),
            cache=text(told.get("cache")),
            batch_size=whole(told.get("batch_size")),
            server_s=None if server_ms is None else server_ms / 1000,
            stages=stages(told.get("timing")),
        )


def _scores(answer: _Answer, data: bytes) -> NDArray[np.float32] | None:
    """The first output as (images, classes), if it has that shape. `data`: the binary part of the answer."""
    output = answer.outputs[0]
    if output.datatype != "FP32" or len(output.shape) != 2:
        return None
    size = whole((output.parameters or {}).get("binary_data_size"))
    values = np.asarray(output.data, np.float32) if size is None else np.frombuffer(data, "<f4", size // 4)
    return values.reshape(output.shape)


def failure_of(body: bytes) -> str:
    """What an answer with an error status says."""
    try:
        return msgspec.json.decode(body, type=_Failure).error or "no reason given"
    except (msgspec.DecodeError, RecursionError):
        return quoted(body) or "no reason given"


def _with(parameters: Mapping[str, object], **more: object) -> dict[str, object]:
    return ({"parameters": parameters} if parameters else {}) | more


def _split(body: bytes) -> tuple[_Answer, int]:
    """The JSON, and how many bytes follow it. (How long it is stands in a header; but JSON shows where it ends.)"""
    try:
        return _answers.decode(body), 0
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        _, end = _prefix.raw_decode(body.decode("latin-1"))  # byte by byte: what follows is no text
        return _answers.decode(body[:end]), len(body) - end


def _problem(answer: _Answer, rest: int, images: int, counted: frozenset[str]) -> str:
    if not answer.outputs:
        return "an answer without outputs"
    binary = 0
    for output in answer.outputs:
        wanted = math.prod(output.shape)
        size = whole((output.parameters or {}).get("binary_data_size"))
        if size is not None:
            binary += size
            found = size // _BYTES_OF[output.datatype] if output.datatype in _BYTES_OF else wanted
        else:
            found = _count(output.data)
        if found != wanted:
            return f"output {output.name} has {found} values, its shape {output.shape} means {wanted}"
        if output.name in counted and output.shape[:1] != [images]:
            return f"output {output.name} has shape {output.shape} for {images} images"
    if binary != rest:
        return f"{rest} bytes of binary data where the outputs tell of {binary}"
    return ""


def _count(data: object) -> int:
    """Of the values in a list, which may be nested."""
    if not isinstance(data, list):
        return 0 if data is None else 1
    return sum(map(_count, data)) if data and isinstance(data[0], list) else len(data)
