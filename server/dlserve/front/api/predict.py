"""DeepDetect's two ways in, POST /predict and POST /predict/{service}: they differ only in how a call is read."""

from typing import Any

from dlmodels.engines.base import Temperature
from msgspec import Struct

from dlserve.config import Config
from dlserve.errors import InputError, RequestError
from dlserve.front import parameters
from dlserve.front.api import deepdetect, raw
from dlserve.front.api.calls import Headers, Question, Rendered, uris
from dlserve.front.asgi import Bodies, Scope, to_json
from dlserve.front.dispatch import Outcome, PredictCall
from dlserve.front.fetch import Fetcher
from dlserve.front.http import Piece
from dlserve.front.statistics import Timing

PREFIX = "/predict/"


class Predict:
    """The dialect of both."""

    def __init__(self, config: Config, bodies: Bodies, fetcher: Fetcher) -> None:
        self._bodies = bodies
        self._data = deepdetect.DataReader(config, fetcher)

    def __call__(self, scope: Scope, headers: Headers, pieces: list[Piece]) -> Question:
        """What is asked. Raises ApiError."""
        name = scope["path"][len(PREFIX) :]
        if name:
            return _Raw(name, headers, scope["query_string"], pieces)
        given = deepdetect.document(self._bodies.decoded(headers, pieces))
        return _Json(deepdetect.service_name(given), given, self._data)


class _Json:
    """DeepDetect's body."""

    def __init__(self, service: str, given: dict[str, Any], data: deepdetect.DataReader) -> None:
        self.service = service
        self._given = given
        self._data = data

    async def read(self, call: PredictCall) -> None:
        asked = parameters.section(self._given, "parameters")
        call.must_end_in(parameters.timeout_s(asked))
        spec = parameters.input_spec(call.service.spec.input, parameters.section(asked, "input", InputError))
        call.input = None if spec is call.service.spec.input else spec
        call.execution = parameters.execution(parameters.section(asked, "mllib", RequestError), call.service.datatype)
        call.output = parameters.output(parameters.section(asked, "output", RequestError), call.service.output)
        call.items, call.body = await self._data.read(self._given)

    def render(self, call: PredictCall, outcome: Outcome) -> Rendered:
        return _render(call, outcome)


class _Raw:
    """The bytes of one image."""

    def __init__(self, service: str, headers: Headers, query: bytes, pieces: list[Piece]) -> None:
        self.service = service
        self._headers = headers
        self._query = query
        self._pieces = pieces

    async def read(self, call: PredictCall) -> None:
        raw.check_type(self._headers)
        call.execution, call.output = raw.options(self._query, call.service.output)
        call.items, call.body = (raw.item(self._pieces),), self._pieces

    def render(self, call: PredictCall, outcome: Outcome) -> Rendered:
        return _render(call, outcome)


class _Class(Struct, omit_defaults=True, gc=False):
    prob: float
    cat: str
    last: bool = False


class _Prediction(Struct):
    uri: str
    classes: list[_Class]


class _Head(Struct):
    """DeepDetect's, and what is ours: `timing` and what was found warm. `time`: in milliseconds."""

    method: str
    service: str
    time: float
    timing: Timing
    cache: Temperature
    worker: int
    batch_size: int


class _Body(Struct):
    predictions: list[_Prediction]


class _Status(Struct):
    code: int
    msg: str


class _Answer(Struct):
    status: _Status
    head: _Head
    body: _Body


_OK = _Status(200, "OK")


def _render(call: PredictCall, outcome: Outcome) -> Rendered:
    """The answer in DeepDetect's shape."""
    labels, service, reply = call.service.labels, call.service.name, outcome.reply
    predictions = []
    for uri, classes in zip(uris(call, outcome), reply.predictions, strict=True):
        rows = [_Class(probability, labels[index] if labels else str(index)) for index, probability in classes]
        if rows:
            rows[-1].last = True
        predictions.append(_Prediction(uri, rows))
    told = _Head(
        "/predict",
        service,
        outcome.total_s * 1e3,
        outcome.timing,
        reply.cache,
        outcome.worker,
        reply.batch_size,
    )
    return Rendered(to_json(_Answer(_OK, told, _Body(predictions))))
