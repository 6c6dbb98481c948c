"""DeepDetect's other routes: /info, /services, and those that dlserve does not support."""

import importlib.metadata
from typing import Any

from fastapi import APIRouter, Request, Response

from dlserve.errors import FieldError, QueryError, RequestError
from dlserve.front.api import deepdetect
from dlserve.front.asgi import Bodies, to_json
from dlserve.front.creation import Creator
from dlserve.front.fellows import Fellows
from dlserve.front.http import JSON
from dlserve.front.pool import WorkerPool
from dlserve.front.services import Registry
from dlserve.front.tally import statistics_of

OK = {"code": 200, "msg": "OK"}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def reply(content: dict[str, Any] | list[dict[str, str]], status: int = 200) -> Response:
    """A JSON answer; the HTTP status is the body's code."""
    return Response(to_json(content), status, media_type=JSON.decode())


def _flag(request: Request, name: str, default: bool) -> bool:
    value = request.query_params.get(name)
    if value is None:
        return default
    if value.lower() not in _TRUTH:
        raise QueryError(f"{name}={value!r:.80} is not true or false")
    return _TRUTH[value.lower()]


def router(
    registry: Registry,
    pool: WorkerPool,
    creator: Creator,
    fellows: Fellows,
    bodies: Bodies,
    facts: dict[str, Any],
) -> APIRouter:
    """The routes. `facts`: what /info says of the server's settings."""
    routes = APIRouter(tags=["services"])

    @routes.get("/info", summary="The server and its services")
    async def info(request: Request) -> Response:
        with_jobs = _flag(request, "status", default=False)
        others = await fellows.tallies()
        services = [
            service.describe(statistics_of(service, others)) | ({"jobs": []} if with_jobs else {})
            for service in registry
        ]
        head = {"method": "/info", "version": importlib.metadata.version("dlserve"), "services": services}
        return reply({"status": OK, "head": head | {"commit": "", "dlserve": facts | pool.describe()}})

    @routes.get("/services/{name}", summary="One service, its parameters and statistics")
    async def get_service(request: Request, name: str) -> Response:
        with_jobs, with_labels = _flag(request, "status", default=True), _flag(request, "labels", default=False)
        others = await fellows.tallies()
        service = registry.find(name)
        body = service.describe(statistics_of(service, others)) | ({"jobs": []} if with_jobs else {})
        if with_labels:
            body["labels"] = list(service.labels)
        return reply({"status": OK, "body": body})

    @routes.post("/services/{name}", summary="Create a service: the same as PUT", status_code=201)
    @routes.put("/services/{name}", summary="Create a service", status_code=201)
    async def create_service(request: Request, name: str) -> Response:
        headers = dict(request.scope["headers"])
        registry.check_free(name)
        pieces = await bodies.read(headers, request.receive)
        try:
            await creator.create(name, bodies.decoded(headers, pieces))
        finally:
            bodies.release(pieces)
        return reply({"status": {"code": 201, "msg": "Created"}}, 201)

    @routes.delete("/services/{name}", summary="Delete a service; ?clear=lib|full|dir deletes its files too")
    async def delete_service(name: str, clear: str | None = None) -> Response:
        await creator.delete(name, clear)
        return reply({"status": OK})

    _add_unsupported(routes, registry, bodies)
    return routes


def _add_unsupported(routes: APIRouter, registry: Registry, bodies: Bodies) -> None:
    @routes.api_route("/train", methods=["GET", "POST", "PUT", "DELETE"], include_in_schema=False)
    async def train(request: Request) -> Response:
        name: Any = request.query_params.get("service")
        if request.method in ("POST", "PUT"):
            headers = dict(request.scope["headers"])
            pieces = await bodies.read(headers, request.receive)
            bodies.release(pieces)
            name = deepdetect.service_name(deepdetect.document(bodies.decoded(headers, pieces)))
        if name is None:
            raise FieldError("/train needs the name of a service")
        registry.find(name)
        raise RequestError("training is not supported: dlserve serves models that are trained elsewhere")

    async def unsupported(request: Request, name: str) -> Response:
        kind = request.url.path.split("/")[1]
        raise RequestError(f"/{kind} is not supported by dlserve (asked for {name!r:.80}): send images to /predict")

    for path, methods in {
        "chain": ["POST", "PUT"],
        "resources": ["PUT", "GET", "DELETE"],
        "stream": ["PUT", "GET", "DELETE"],
    }.items():
        routes.add_api_route(f"/{path}/{{name}}", unsupported, methods=methods, include_in_schema=False)
