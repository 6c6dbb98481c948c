"""KServe's way in: POST /v2/models/{model}[/versions/1]/infer."""

from typing import Any

from dlserve.config import Limits
from dlserve.errors import NotFoundError, RequestError
from dlserve.front import parameters
from dlserve.front.api import tensors
from dlserve.front.api.calls import Headers, Question, Rendered
from dlserve.front.asgi import Bodies, Scope, to_json
from dlserve.front.dispatch import Outcome, PredictCall
from dlserve.front.http import JSON, Piece
from dlserve.front.parameters import Output

PREFIX = "/v2/models/"
SUFFIX = "/infer"
_BINARY = b"application/octet-stream"
_IGNORED = ("binary_data_output", "priority", "timeout", "content_type", "headers")
"""Of a request's parameters: read elsewhere, or known to other servers and of no effect on the answer."""
_ENGINE = ("cache", "worker")
_TIMEOUT = "timeout_ms"
_STATEFUL = ("sequence_id", "sequence_start", "sequence_end")


def is_infer(path: str) -> bool:
    """Whether a path is this one."""
    return path.startswith(PREFIX) and path.endswith(SUFFIX)


def check_version(model: str, version: str) -> None:
    """Raises NotFoundError for a version that no model has."""
    if version != tensors.VERSION:
        raise NotFoundError(f"model {model!r:.80} has no version {version!r:.40}: there is {tensors.VERSION} only")


class Infer:
    """The dialect."""

    def __init__(self, limits: Limits, bodies: Bodies) -> None:
        self._limits = limits
        self._bodies = bodies

    def __call__(self, scope: Scope, headers: Headers, pieces: list[Piece]) -> Question:
        """What is asked. Raises ApiError."""
        path: str = scope["path"]
        name, _, rest = path[len(PREFIX) : -len(SUFFIX)].partition("/")
        if rest:
            word, _, version = rest.partition("/")
            if word != "versions":
                raise NotFoundError(f"POST {path[:200]}: there is no such path; see /docs")
            check_version(name, version)
        body = self._bodies.decoded(headers, pieces)
        return _Infer(name, body, headers.get(tensors.HEADER_LENGTH), self._limits)


class _Infer:
    """One request."""

    def __init__(self, service: str, body: bytes, header_length: bytes | None, limits: Limits) -> None:
        self.service = service
        self._body = body
        self._header_length = header_length
        self._limits = limits
        self._id: str | None = None
        self._wanted = tensors.Wanted(binary=False, classes=0)

    async def read(self, call: PredictCall) -> None:
        spec = call.service.spec
        request, binary = tensors.read_request(self._body, self._header_length, spec.input)
        self._id = request.id
        given = request.parameters or {}
        call.must_end_in(parameters.timeout_s(given))
        call.execution = parameters.execution(_execution(given), call.service.datatype)
        self._wanted = tensors.read_outputs(request, spec.classes)
        classes = self._wanted.classes
        call.output = Output(classes, 0.0, whole=not classes)
        call.items, call.body = tensors.read_items(request, binary, spec.input, self._limits)

    def render(self, call: PredictCall, outcome: Outcome) -> Rendered:
        reply = outcome.reply
        output, binary = tensors.write_output(self._wanted, reply.rows, reply.predictions, call.service.labels)
        content: dict[str, object] = {
            "model_name": call.service.name,
            "model_version": tensors.VERSION,
            "parameters": _told(outcome),
            "outputs": [output],
        }
        if self._id is not None:
            content["id"] = self._id
        text = to_json(content)
        if not self._wanted.binary:
            return Rendered(text, JSON)
        return Rendered(text + binary, _BINARY, ((tensors.HEADER_LENGTH, str(len(text)).encode()),))


def _execution(given: dict[str, Any]) -> dict[str, Any]:
    """`cache` and `worker`. What is misspelt is an error: a cold start that was not made would be a wrong number."""
    for key, value in given.items():
        if key in _STATEFUL and value:
            raise RequestError(f"parameters.{key} is not supported: the models keep no state between calls")
        if key not in (*_ENGINE, _TIMEOUT, *_IGNORED, *_STATEFUL) and not key.startswith("triton_"):
            raise RequestError(
                f"unknown parameter {key!r:.80}; there are: {', '.join((*_ENGINE, _TIMEOUT, 'binary_data_output'))}"
            )
    return {key: given[key] for key in _ENGINE if key in given}


def _told(outcome: Outcome) -> dict[str, object]:
    """What DeepDetect's head says. The protocol has no objects in `parameters`, so `timing` is one as a JSON string."""
    return {
        "time": outcome.total_s * 1e3,
        "timing": to_json(outcome.timing).decode(),
        "cache": outcome.reply.cache,
        "worker": outcome.worker,
        "batch_size": outcome.reply.batch_size,
    }
