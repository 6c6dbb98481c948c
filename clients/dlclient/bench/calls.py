"""Predict calls of DeepDetect's API as ready-made bytes, and what their answers say. Pure."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import msgspec

from dlclient.bench.photographs import Photograph
from dlclient.bench.subject import Told
from dlclient.bench_result import FailureKind
from dlclient.exchange import Exchange
from dlclient.request_writer import RequestWriter

BEST = 5
SAME_WITHIN = 0.05
"""By how much, as a part of it and beside 0.01, an image's highest probability may differ from one call to the next: a server
that forms batches computes the same image in one company or another.
"""

_NO_MEMORY = re.compile(r"out of memory|bad_alloc|alloc_failed|cannot allocate|can't allocate|no memory", re.IGNORECASE)

Way = Literal["base64", "raw", "path"]


@dataclass(slots=True, eq=False)
class Call:
    """A complete request, and what is known of its answer."""

    request: bytes
    images: int
    distinct: int
    """Of those: DeepDetect answers equal paths once."""
    expected: Mapping[str, float] | None = None
    """Each uri's highest probability; None: not known yet."""


class Category(msgspec.Struct):
    """A class of an answer."""

    prob: float
    cat: str


class Prediction(msgspec.Struct):
    """What is said of an image."""

    uri: str = ""
    classes: list[Category] = []


class _Head(msgspec.Struct):
    time: float | None = None
    timing: dict[str, float] | None = None


class _Body(msgspec.Struct):
    predictions: list[Prediction] = []


class _Status(msgspec.Struct):
    msg: str = ""
    dd_msg: str = ""


class _Answer(msgspec.Struct):
    head: _Head = msgspec.field(default_factory=_Head)
    body: _Body | None = None
    status: _Status = msgspec.field(default_factory=_Status)


_ANSWER = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a call: `told.error` says what is wrong with it."""

    told: Told
    predictions: Sequence[Prediction] = ()


def predict_call(
    url: str, service: str, photographs: Sequence[Photograph], way: Way, mllib: Mapping[str, object], api_key: str
) -> Call:
    """The call for these images. `way` "raw" takes one."""
    if way == "raw":
        target, kind = f"/predict/{quote(service, safe='')}?best={BEST}", "image/jpeg"
        body, distinct = photographs[0].content, 1
    else:
        data = [_datum(photograph, way) for photograph in photographs]
        distinct = len(set(data)) if way == "path" else len(data)
        target, kind = "/predict", "application/json"
        parameters = {"input": {}, "mllib": mllib, "output": {"best": BEST}}
        body = msgspec.json.encode({"service": service, "parameters": parameters, "data": data})
    request = RequestWriter(url, api_key or None).write("POST", target, kind, body)
    return Call(request, len(photographs), distinct)


def _datum(photograph: Photograph, way: Way) -> str:
    return photograph.path if way == "path" else base64.b64encode(photograph.content).decode()


def said(exchange: Exchange, call: Call) -> Said:
    """What the answer tells, held against what is known of it."""
    took_s = exchange.done - exchange.sent
    if exchange.error:
        return Said(Told(error=f"no answer: {exchange.error}", took_s=took_s))
    try:
        answer = _ANSWER.decode(exchange.body)
    except msgspec.DecodeError as exc:
        problem = f"HTTP {exchange.status} with something that is no answer of a DeepDetect-style server ({exc})"
        return Said(Told(error=problem, took_s=took_s))
    if exchange.status != 200:
        text = answer.status.dd_msg or answer.status.msg or "no reason given"
        return Said(Told(error=f"the server answered {exchange.status}: {text}", took_s=took_s))
    predictions = answer.body.predictions if answer.body else []
    head = answer.head
    told = Told(
        server_s=None if head.time is None else head.time / 1e3,
        transform_s=None if head.timing is None else head.timing.get("decode"),
        error=_wrong(predictions, call),
        took_s=took_s,
    )
    return Said(told, predictions)


def failure_kind(error: str) -> FailureKind:
    """What kind of failure a call's error is: DeepDetect's API has no code for lack of memory, only words."""
    return "out-of-memory" if _NO_MEMORY.search(error) else "error"


def highest(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Each uri's highest probability."""
    return {one.uri: max((found.prob for found in one.classes), default=0.0) for one in predictions}


def _wrong(predictions: Sequence[Prediction], call: Call) -> str:
    if len(predictions) not in (call.images, call.distinct):
        return f"the server answered {len(predictions)} of {call.images} images"
    if call.expected is None:
        return ""
    found = highest(predictions)
    for uri, before in call.expected.items():
        now = found.get(uri, 0.0)
        if abs(now - before) > 0.01 + SAME_WITHIN * before:
            return f"the server answered {uri[:80]} otherwise than before the clock ({now:.3g}, not {before:.3g}): it mixes answers up"
    return ""
