"""DeepDetect's REST API: POST /predict, JSON with base64 images. What dlserve adds to it is optional."""

import base64
from collections.abc import Sequence

import msgspec

from dlload.protocols.base import Outcome, Protocol
from dlload.protocols.facts import number, stages, text, whole

BEST = 5
"""Classes asked for per image. DeepDetect's torch backend would else answer with all of them."""


class _Status(msgspec.Struct):
    code: int = 0
    msg: str = ""
    dd_msg: str = ""


class _Head(msgspec.Struct):
    """Anything may stand here: another server may mean something else by a name, and its answer is good all the same."""

    time: object = None
    timing: object = None
    cache: object = None
    worker: object = None
    batch_size: object = None


class _Body(msgspec.Struct):
    predictions: list[msgspec.Raw] | dict[str, msgspec.Raw] = []
    """A single prediction is an object, not a list, in servers of before 2016."""


class _Answer(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)
    head: _Head = msgspec.field(default_factory=_Head)
    body: _Body = msgspec.field(default_factory=_Body)


class _Class(msgspec.Struct):
    cat: str = ""


class _Prediction(msgspec.Struct):
    classes: list[_Class] = []


class _Content(msgspec.Struct):
    predictions: list[_Prediction] | _Prediction = []


class _ContentAnswer(msgspec.Struct):
    body: _Content = msgspec.field(default_factory=_Content)


_answers = msgspec.json.Decoder(_Answer)
_contents = msgspec.json.Decoder(_ContentAnswer)


class DeepDetect(Protocol):
    """Any number of images a request; works with every DeepDetect-style server."""

    name = "deepdetect"

    def encode(self, image: bytes, service: str = "") -> bytes:  # noqa: ARG002  the same for all
        """As a JSON string: base64 needs no escapes."""
        return b'"' + base64.b64encode(image) + b'"'

    def request(self, service: str, images: Sequence[bytes], cache: str | None, worker: int | None) -> bytes:
        """POST /predict."""
        asked = {"cache": cache, "worker": worker}
        parameters = {
            "mllib": {key: value for key, value in asked.items() if value is not None},
            "output": {"best": BEST},
        }
        opening = msgspec.json.encode({"service": service, "parameters": parameters})[:-1]
        return self._post("/predict", "application/json", opening + b',"data":[' + b",".join(images) + b"]}")

    def outcome(self, status: int, body: bytes, images: int) -> Outcome:
        """Judge status, shape and number of predictions; take over what the head tells."""
        return judge(status, body, images)

    def content(self, body: bytes) -> str | None:
        """The most probable class of each image."""
        return top_classes(body)


def top_classes(body: bytes) -> str | None:
    """Of a good DeepDetect answer, with | between images; None where it has no classes."""
    try:
        predictions = _contents.decode(body).body.predictions
    except msgspec.DecodeError:
        return None
    found = predictions if isinstance(predictions, list) else [predictions]
    return "|".join(one.classes[0].cat for one in found) if all(one.classes for one in found) else None


def judge(status: int, body: bytes, images: int) -> Outcome:
    """What a DeepDetect answer says, whatever way the request took."""
    try:
        answer = _answers.decode(body)
    except msgspec.DecodeError as exc:
        if status == 200:
            return Outcome(error=f"no DeepDetect answer: {exc}")
        return Outcome(error=f"HTTP {status}")
    if status != 200:
        return Outcome(error=f"HTTP {status}: {answer.status.dd_msg or answer.status.msg or 'no reason given'}")
    predictions = len(answer.body.predictions) if isinstance(answer.body.predictions, list) else 1
    if predictions != images:
        return Outcome(error=f"{predictions} predictions for {images} images")
    head = answer.head
    server_ms = number(head.time)
    return Outcome(
        worker=whole(head.worker),
        cache=text(head.cache),
        batch_size=whole(head.batch_size),
        server_s=None if server_ms is None else server_ms / 1000,
        stages=stages(head.timing),
    )
