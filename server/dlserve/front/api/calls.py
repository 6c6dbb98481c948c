"""The way of a predict call through the front end, whatever API it came by: as plain ASGI, for nothing else is as hot.

An API is a `Dialect`: it finds out which service a request is for, what is to be run, and how the answer is written. All
else is the same for every one of them: the key, the body's limits, the worker, clients that leave, errors, metrics and
the service's statistics.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Protocol

import msgspec

from dlserve.errors import ApiError, NoWorkerError, QueueFullError, UnexpectedError
from dlserve.front.asgi import Bodies, DisconnectedError, Receive, Scope, answer_error, check_key, left
from dlserve.front.dispatch import ClientLeftError, Dispatcher, Outcome, PredictCall
from dlserve.front.http import JSON, Exchange, Piece
from dlserve.front.metrics import Metrics
from dlserve.front.parameters import header_timeout_s
from dlserve.front.services import Registry, Service

log = logging.getLogger(__name__)
CLIENT_LEFT = 499
"""The status that metrics show for a call whose client did not wait (nginx's custom); nobody receives it."""
_TIMEOUT = b"x-timeout-ms"
Headers = dict[bytes, bytes]


class Rendered(msgspec.Struct, frozen=True):
    """An answer as it is sent."""

    body: bytes
    kind: bytes = JSON
    """Content-Type."""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Question(Protocol):
    """One request, in the terms of its API."""

    @property
    def service(self) -> str:
        """The name of the service that it is for."""

    async def read(self, call: PredictCall) -> None:
        """Fill in what is to be run. Raises ApiError."""

    def render(self, call: PredictCall, outcome: Outcome) -> Rendered:
        """The answer."""


Dialect = Callable[[Scope, Headers, list[Piece]], Question]
"""(scope, headers, the body as it came) -> what is asked. Raises ApiError where that names no service."""


class Calls:
    """Answers predict calls of every dialect over one dispatcher."""

    def __init__(
        self, api_key: str, bodies: Bodies, registry: Registry, dispatcher: Dispatcher, metrics: Metrics
    ) -> None:
        self._key = api_key
        self._bodies = bodies
        self._registry = registry
        self._dispatcher = dispatcher
        self._metrics = metrics
        self.accepted = 0
        """Calls whose body was read."""
        self.answered = 0
        """Of those, the ones whose answer or error was sent."""

    async def answer(self, dialect: Dialect, scope: Scope, receive: Receive, send: Exchange) -> None:
        """Answer one call, whatever happens to it. In one coroutine: each one on a call's way is a cost."""
        began = perf_counter()
        path: str = scope["path"]
        service: Service | None = None
        try:
            headers = dict(scope["headers"])
            if self._key:
                check_key(headers, self._key)
            pieces = self._bodies.whole(send) or await self._bodies.read(headers, receive)
            self.accepted += 1
            try:
                question = dialect(scope, headers, pieces)
                service = self._registry.find(question.service)
                call = PredictCall(service, began, lambda: left(receive))
                if _TIMEOUT in headers:
                    call.must_end_in(header_timeout_s(headers[_TIMEOUT]))
                await question.read(call)
                outcome = await self._dispatcher.predict(call)
                rendered = question.render(call, outcome)
            except Exception as exc:
                if service is not None:
                    self._failed(service, exc, began)
                raise
            finally:
                self._bodies.release(pieces)
        except ApiError as exc:
            if isinstance(exc, QueueFullError):
                self._metrics.rejected(exc.reason)
            answer_error(send, path, exc)
            self.answered += 1
        except (ClientLeftError, DisconnectedError):
            log.debug("a client left before its answer")
        except asyncio.CancelledError:
            answer_error(send, path, NoWorkerError("the server stopped before this call was answered"))
            raise
        else:
            send.respond(200, rendered.body, rendered.headers, rendered.kind)
            self.answered += 1
            self._succeeded(service, outcome, began)  # while the client reads; before any other request is looked at

    def _failed(self, service: Service, exc: Exception, began: float) -> None:
        """Count a call that ended so. Raises UnexpectedError in place of what is no answer."""
        known = isinstance(exc, (ApiError, ClientLeftError))
        status = exc.status if isinstance(exc, ApiError) else CLIENT_LEFT if known else UnexpectedError.status
        service.served.failed(service.statistics, status, perf_counter() - began)
        if not known:
            log.error("a call of service %s failed", service.name, exc_info=exc)
            raise UnexpectedError(f"{type(exc).__name__}; the server's log has the details") from exc

    def _succeeded(self, service: Service, outcome: Outcome, began: float) -> None:
        reply, predicted_s = outcome.reply, outcome.predicted_s
        self._dispatcher.learn(outcome)
        row = (
            len(reply.predictions),
            reply.batch_size,
            reply.cache,
            outcome.worker,
            abs(predicted_s / reply.stages.in_worker_s - 1) if predicted_s else None,
            outcome.total_s,
            perf_counter() - began,
            outcome.timing,
        )
        service.served.succeeded(service.statistics, row)


def uris(call: PredictCall, outcome: Outcome) -> Sequence[str]:
    """What the answer calls each image."""
    found = outcome.reply.uris
    return found if found is not None else [item.uri for item in call.items]
