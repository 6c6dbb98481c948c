"""The ASGI application: FastAPI for everything but the predict routes, which it would only slow down."""

import logging
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import swagger_ui_bundle
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from dlserve.errors import ApiError, MethodError, NotFoundError, UnauthorizedError, UnexpectedError
from dlserve.front.api import kserve, ops
from dlserve.front.api.calls import Calls, Dialect
from dlserve.front.api.infer import Infer, is_infer
from dlserve.front.api.predict import PREFIX, Predict
from dlserve.front.api.services import reply
from dlserve.front.asgi import DisconnectedError, Receive, Scope, answer_error, check_key, error_body
from dlserve.front.http import Exchange

log = logging.getLogger(__name__)
_OPEN_PATHS = frozenset({"/healthz", "/readyz", *kserve.HEALTH})
"""What may be asked without the API key."""


class App:
    """Routes /predict, /predict/{service} and KServe's infer straight to `calls`, and all else to FastAPI."""

    def __init__(self, api: FastAPI, calls: Calls, predict: Predict, infer: Infer, api_key: str) -> None:
        self._api = api
        self._calls = calls
        self._predict = predict
        self._infer = infer
        self._key = api_key

    def __call__(self, scope: Scope, receive: Receive, send: Exchange) -> Awaitable[None]:
        """One request. ASGI 3, but no coroutine: to a predict call every one on its way is a cost."""
        dialect = self._dialect(scope["path"])
        if dialect is not None and scope["method"] == "POST":
            return self._calls.answer(dialect, scope, receive, send)
        return self._other(dialect, scope, receive, send)

    async def _other(self, dialect: Dialect | None, scope: Scope, receive: Receive, send: Exchange) -> None:
        path: str = scope["path"]
        if dialect is not None:
            answer_error(send, path, MethodError(f"{scope['method']} {path[:80]}: this is a POST"))
            return
        if self._key and path not in _OPEN_PATHS:
            try:
                check_key(dict(scope["headers"]), self._key)
            except UnauthorizedError as exc:
                answer_error(send, path, exc)
                return
        await self._api(scope, receive, send)

    def _dialect(self, path: str) -> Dialect | None:
        """Of a predict call; None: it is none."""
        if path.startswith(PREFIX) or path == "/predict":
            return self._predict
        return self._infer if is_infer(path) else None


def make_api(version: str) -> FastAPI:
    """FastAPI whose errors have the shape of the path's API and whose description holds the predict routes too."""
    api = FastAPI(title="dlserve", version=version, docs_url=None, redoc_url=None, redirect_slashes=False)
    api.openapi_version = "3.0.3"  # what the bundled Swagger UI can draw
    api.mount(ops.STATIC, StaticFiles(directory=Path(swagger_ui_bundle.swagger_ui_path)))
    describe = api.openapi

    def openapi() -> dict[str, Any]:
        schema = describe()
        schema["paths"] = ops.predict_paths() | schema["paths"]
        return schema

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend its schema
    api.add_exception_handler(ApiError, _on_api_error)
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_exception_handler(DisconnectedError, _on_disconnect)
    api.add_exception_handler(Exception, _on_defect)
    return api


def _reply(request: Request, error: ApiError) -> Response:
    response = reply(error_body(request.url.path, error), error.status)
    response.headers.update(error.headers)
    return response


async def _on_api_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, ApiError)
    return _reply(request, exc)


async def _on_http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    what = f"{request.method} {request.url.path[:200]}"
    if exc.status_code == MethodError.status:
        return _reply(request, MethodError(f"{what}: this path has other methods; see /docs"))
    return _reply(request, NotFoundError(f"{what}: there is no such path; see /docs"))


async def _on_disconnect(_request: Request, _exc: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


async def _on_defect(request: Request, exc: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path[:200], exc_info=exc)
    return _reply(request, UnexpectedError(f"{type(exc).__name__}; the server's log has the details"))
