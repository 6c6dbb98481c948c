"""For whoever runs the server: health, readiness, metrics, and the description of the API."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.openapi.docs import get_swagger_ui_html
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse

from dlserve.front.api import raw
from dlserve.front.api.services import reply
from dlserve.front.api.tensors import INPUT, OUTPUT, VERSION
from dlserve.front.fellows import Fellows
from dlserve.front.metrics import Metrics
from dlserve.front.pool import WorkerPool

STATIC = "/docs/static"
_ERROR = {"description": "DeepDetect's error shape: status.code, status.msg, status.dd_code, status.dd_msg"}
_HEAD = {
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
}
_ANSWER = {
    "status": {"code": 200, "msg": "OK"},
    "head": {"method": "/predict", "service": "resnet18", **_HEAD},
    "body": {"predictions": [{"uri": "0", "classes": [{"prob": 0.91, "cat": "n02123045 tabby", "last": True}]}]},
}
_QUERY = {
    "best": ("integer", "Classes to return, most probable first; -1: all"),
    "confidence_threshold": ("number", "Leave out classes of a lower probability"),
    "cache": ("string", "Start from this temperature: warm, host or disk"),
    "worker": ("integer", "Insist on this worker"),
}


def router(pool: WorkerPool, metrics: Metrics, fellows: Fellows) -> APIRouter:
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
        others = await fellows.tallies()
        pool.refresh([worker.view for worker in pool.workers])
        return Response(metrics.expose(frozenset(names), others), media_type=CONTENT_TYPE_LATEST)

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
    """What the predict routes take and give, for the OpenAPI description (they bypass FastAPI)."""
    responses = {
        "200": {"description": "Predictions", "content": {"application/json": {"example": _ANSWER}}},
        "default": _ERROR,
    }
    call = {
        "service": "resnet18",
        "parameters": {"input": {}, "mllib": {"cache": "warm"}, "output": {"best": 5}, "timeout_ms": 500},
        "data": ["<base64>", "/a/path/below/--data-root.jpg", "http://allowed.host/a.jpg"],
    }
    timeout = {
        "name": "X-Timeout-Ms",
        "in": "header",
        "schema": {"type": "number"},
        "description": "Refuse the call (429) or drop it (504) where it can't be answered in so many milliseconds",
    }
    parameters = [timeout, {"name": "service", "in": "path", "required": True, "schema": {"type": "string"}}]
    parameters += [
        {"name": name, "in": "query", "schema": {"type": kind}, "description": text}
        for name, (kind, text) in _QUERY.items()
    ]
    image = {"schema": {"type": "string", "format": "binary"}}
    return {
        "/predict": {
            "post": {
                "tags": ["predict"],
                "parameters": [timeout],
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
        "/v2/models/{model}/infer": _infer_path("model"),
        "/v2/models/{model}/versions/{version}/infer": _infer_path("model", "version"),
    }


def _infer_path(*names: str) -> dict[str, Any]:
    """KServe's infer."""
    tensor = {"name": INPUT, "shape": [1], "datatype": "BYTES", "data": ["<base64>"]}
    output = {"name": OUTPUT, "parameters": {"classification": 5}}
    call = {"id": "1", "parameters": {"cache": "warm"}, "inputs": [tensor], "outputs": [output]}
    classes = {"name": OUTPUT, "shape": [1, 5], "datatype": "BYTES", "data": ["0.91:281:n02123045 tabby", "..."]}
    head: dict[str, Any] = {**_HEAD, "timing": '{"wire":0.0003,...}'}
    found = {"model_name": "resnet18", "model_version": VERSION, "id": "1", "parameters": head, "outputs": [classes]}
    binary = {"schema": {"type": "string", "format": "binary"}}
    length = {"in": "header", "schema": {"type": "integer"}, "description": "Bytes of JSON before the binary data"}
    return {
        "post": {
            "tags": ["kserve"],
            "summary": "Classify images sent as a tensor (FP32, UINT8 or BYTES), in JSON or binary",
            "parameters": [
                *({"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names),
                {"name": "Inference-Header-Content-Length", **length},
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"type": "object"}, "example": call},
                    "application/octet-stream": binary,
                },
            },
            "responses": {
                "200": {"description": "The output", "content": {"application/json": {"example": found}}},
                "default": {"description": 'KServe\'s error shape: {"error": "what is wrong, and the cure"}'},
            },
        }
    }
