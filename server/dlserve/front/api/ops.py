"""For whoever runs the server: health, readiness, metrics, and the description of the API."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.openapi.docs import get_swagger_ui_html
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse

from dlserve.front.api import raw
from dlserve.front.api.services import reply
from dlserve.front.metrics import Metrics
from dlserve.front.pool import WorkerPool

STATIC = "/docs/static"
_ERROR = {"description": "DeepDetect's error shape: status.code, status.msg, status.dd_code, status.dd_msg"}
_ANSWER = {
    "status": {"code": 200, "msg": "OK"},
    "head": {
        "method": "/predict",
        "service": "resnet18",
        "time": 31.5,
        "timing": {
            "wire": 0.0003,
            "decode": 0.002,
            "queue": 0,
            "demote": 0,
            "load": 0,
            "forward": 0.029,
            "post": 0.0001,
        },
        "cache": "warm",
        "worker": 0,
        "batch_size": 1,
    },
    "body": {"predictions": [{"uri": "0", "classes": [{"prob": 0.91, "cat": "n02123045 tabby", "last": True}]}]},
}
_QUERY = {
    "best": ("integer", "Classes to return, most probable first; -1: all"),
    "confidence_threshold": ("number", "Leave out classes of a lower probability"),
    "cache": ("string", "Start from this temperature: warm, host or disk"),
    "worker": ("integer", "Insist on this worker"),
}


def router(pool: WorkerPool, metrics: Metrics) -> APIRouter:
    """/healthz, /readyz, /metrics and /docs."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/healthz", summary="200 while the front end runs")
    async def healthz() -> Response:
        return reply({"status": {"code": 200, "msg": "OK"}})

    @routes.get("/readyz", summary="200 while at least one worker takes requests, else 503")
    async def readyz() -> Response:
        code, message = (200, "OK") if pool.views else (503, "Service Unavailable")
        return reply({"status": {"code": code, "msg": message}, "head": pool.describe()}, code)

    @routes.get("/metrics", summary="Prometheus metrics")
    async def prometheus(
        names: Annotated[list[str], Query(alias="name[]", description="Only samples of these names")] = [],  # noqa: B006
    ) -> Response:
        return Response(metrics.expose(frozenset(names)), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="dlserve",
            swagger_js_url=f"{STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{STATIC}/favicon-32x32.png",
        )

    return routes


def predict_paths() -> dict[str, Any]:
    """What the two predict routes take and give, for the OpenAPI description (they bypass FastAPI)."""
    responses = {
        "200": {"description": "Predictions", "content": {"application/json": {"example": _ANSWER}}},
        "default": _ERROR,
    }
    call = {
        "service": "resnet18",
        "parameters": {"input": {}, "mllib": {"cache": "warm"}, "output": {"best": 5}},
        "data": ["<base64>", "/a/path/below/--data-root.jpg", "http://allowed.host/a.jpg"],
    }
    parameters = [{"name": "service", "in": "path", "required": True, "schema": {"type": "string"}}]
    parameters += [
        {"name": name, "in": "query", "schema": {"type": kind}, "description": text}
        for name, (kind, text) in _QUERY.items()
    ]
    image = {"schema": {"type": "string", "format": "binary"}}
    return {
        "/predict": {
            "post": {
                "tags": ["predict"],
                "summary": "Classify images (DeepDetect's JSON); n images run as one batch",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"type": "object"}, "example": call}},
                },
                "responses": responses,
            }
        },
        "/predict/{service}": {
            "post": {
                "tags": ["predict"],
                "summary": "Classify one image, sent as it is: the fast way in",
                "parameters": parameters,
                "requestBody": {"required": True, "content": dict.fromkeys(raw.TYPES, image)},
                "responses": responses,
            }
        },
    }
