"""POST /predict and POST /predict/{service} as plain ASGI: nothing else is as hot as these two."""

import asyncio
import logging
from time import perf_counter
from typing import Any

from dlserve.config import Config
from dlserve.errors import ApiError, InputError, NoWorkerError, QueueFullError, RequestError, UnexpectedError
from dlserve.front import parameters
from dlserve.front.api import deepdetect, raw
from dlserve.front.asgi import (
    Bodies,
    DisconnectedError,
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    check_key,
    left,
    to_json,
)
from dlserve.front.dispatch import ClientLeftError, Dispatcher, Outcome, PredictCall
from dlserve.front.fetch import Fetcher
from dlserve.front.metrics import Metrics
from dlserve.front.services import Registry, Service

log = logging.getLogger(__name__)
PREFIX = "/predict/"
CLIENT_LEFT = 499
"""The status that metrics show for a call whose client did not wait (nginx's custom); nobody receives it."""


class Predict:
    """Both ways in over one dispatcher; they differ only in how a call is read."""

    def __init__(
        self,
        config: Config,
        bodies: Bodies,
        registry: Registry,
        dispatcher: Dispatcher,
        metrics: Metrics,
        fetcher: Fetcher,
    ) -> None:
        self._key = config.api_key
        self._registry = registry
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._data = deepdetect.DataReader(config, fetcher)
        self._bodies = bodies
        self.accepted = 0
        """Calls whose body was read."""
        self.answered = 0
        """Of those, the ones whose answer or error was sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call, whatever happens to it."""
        began = perf_counter()
        try:
            headers = dict(scope["headers"])
            if self._key:
                check_key(headers, self._key)
            pieces = await self._bodies.read(headers, receive)
            self.accepted += 1
            try:
                service, outcome, rendered = await self._predict(scope, headers, pieces, receive, began)
            finally:
                self._bodies.release(pieces)
        except ApiError as exc:
            if isinstance(exc, QueueFullError):
                self._metrics.rejected(exc.reason)
            await answer_error(send, exc)
            self.answered += 1
        except (ClientLeftError, DisconnectedError):
            log.debug("a client left before its answer")
        except asyncio.CancelledError:
            await answer_error(send, NoWorkerError("the server stopped before this call was answered"))
            raise
        else:
            await answer(send, 200, rendered)
            self.answered += 1
            self._succeeded(service, outcome, began)  # while the client reads; before any other request is looked at

    async def _predict(
        self, scope: Scope, headers: dict[bytes, bytes], pieces: list[bytes], receive: Receive, began: float
    ) -> tuple[Service, Outcome, bytes]:
        given: dict[str, Any] = {}
        name = scope["path"][len(PREFIX) :]
        if not name:
            given = deepdetect.document(self._bodies.decoded(headers, pieces))
            name = deepdetect.service_name(given)
        service = self._registry.find(name)
        try:
            call = PredictCall(service, began, lambda: left(receive))
            if given:
                await self._read_json(call, given)
            else:
                raw.check_type(headers)
                call.execution, call.output = raw.options(scope["query_string"], service.output)
                call.items, call.body = (raw.item(pieces),), pieces
            outcome = await self._dispatcher.predict(call)
            rendered = to_json(_render(service, call, outcome))
        except (ApiError, ClientLeftError) as exc:
            self._failed(service, exc.status if isinstance(exc, ApiError) else CLIENT_LEFT, began)
            raise
        except Exception as exc:
            log.exception("a call of service %s failed", service.name)
            self._failed(service, UnexpectedError.status, began)
            raise UnexpectedError(f"{type(exc).__name__}; the server's log has the details") from exc
        return service, outcome, rendered

    async def _read_json(self, call: PredictCall, given: dict[str, Any]) -> None:
        asked = parameters.section(given, "parameters")
        spec = parameters.input_spec(call.service.spec.input, parameters.section(asked, "input", InputError))
        call.input = None if spec is call.service.spec.input else spec
        call.execution = parameters.execution(parameters.section(asked, "mllib", RequestError), call.service.datatype)
        call.output = parameters.output(parameters.section(asked, "output", RequestError), call.service.output)
        call.items, call.body = await self._data.read(given)

    def _failed(self, service: Service, status: int, began: float) -> None:
        total_s = perf_counter() - began
        service.statistics.failure += 1
        service.statistics.predict_s += total_s
        self._metrics.answered(service.name, status, total_s)

    def _succeeded(self, service: Service, outcome: Outcome, began: float) -> None:
        statistics = service.statistics
        statistics.success += 1
        statistics.images += len(outcome.reply.predictions)
        statistics.predict_s += outcome.total_s
        statistics.transform_s += outcome.timing["decode"]
        self._metrics.ran(service, outcome)
        self._metrics.answered(service.name, 200, perf_counter() - began)


def _render(service: Service, call: PredictCall, outcome: Outcome) -> dict[str, Any]:
    """The answer in DeepDetect's shape; `head` also says where the time went and what was found warm."""
    reply, labels = outcome.reply, service.labels
    uris = reply.uris if reply.uris is not None else [item.uri for item in call.items]
    predictions = []
    for uri, classes in zip(uris, reply.predictions, strict=True):
        rows: list[dict[str, Any]] = [
            {"prob": probability, "cat": labels[index] if labels else str(index)} for index, probability in classes
        ]
        if rows:
            rows[-1]["last"] = True
        predictions.append({"uri": uri, "classes": rows})
    return {
        "status": {"code": 200, "msg": "OK"},
        "head": {
            "method": "/predict",
            "service": service.name,
            "time": outcome.total_s * 1e3,
            "timing": outcome.timing,
            "cache": reply.cache,
            "worker": outcome.worker,
            "batch_size": reply.batch_size,
        },
        "body": {"predictions": predictions},
    }
