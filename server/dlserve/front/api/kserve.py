"""The Open Inference Protocol's other routes, below /v2: the server, its health, its models, and Triton's repository.

https://github.com/kserve/open-inference-protocol; model configuration, statistics and the repository are Triton's
extensions. A model is a service; it has one version, 1. What loading and unloading mean is told in `front.loading`.
"""

import importlib.metadata
from typing import Any

from fastapi import APIRouter, Request, Response

from dlserve.config import Limits
from dlserve.errors import FieldError, NoWorkerError, RequestError
from dlserve.front.api import deepdetect, models
from dlserve.front.api.infer import check_version
from dlserve.front.api.services import reply
from dlserve.front.api.tensors import VERSION
from dlserve.front.asgi import KSERVE, Bodies
from dlserve.front.fellows import Fellows
from dlserve.front.loading import Loader
from dlserve.front.pool import WorkerPool
from dlserve.front.services import Registry
from dlserve.front.tally import statistics_of

HEALTH = (f"{KSERVE}/health/live", f"{KSERVE}/health/ready")
"""What may be asked without the API key."""
_MODEL = f"{KSERVE}/models/{{name}}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_NOT_READY = "no worker takes requests: try again, or see the server's log"


def router(
    registry: Registry, pool: WorkerPool, loader: Loader, fellows: Fellows, bodies: Bodies, limits: Limits
) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["kserve"])
    _add_server(routes, pool)
    _add_statistics(
        routes, registry, fellows
    )  # before the models: one that is named "stats" is described under its version
    _add_models(routes, registry, pool, limits)
    _add_repository(routes, registry, loader, bodies)
    return routes


def _add_server(routes: APIRouter, pool: WorkerPool) -> None:
    @routes.get(KSERVE, summary="The server and the extensions of the protocol that it has")
    async def server() -> Response:
        return reply(models.server_metadata(importlib.metadata.version("dlserve")))

    @routes.get(HEALTH[0], summary="200 while the front end runs")
    async def live() -> Response:
        return reply({"live": True})

    @routes.get(HEALTH[1], summary="200 while at least one worker takes requests, else 503")
    async def ready() -> Response:
        return reply({"ready": True}) if pool.views else reply({"ready": False, "error": _NOT_READY}, 503)


def _add_models(routes: APIRouter, registry: Registry, pool: WorkerPool, limits: Limits) -> None:
    @routes.get(_VERSION, summary="A model's inputs and outputs")
    @routes.get(_MODEL, summary="A model's inputs and outputs")
    async def metadata(name: str, version: str = VERSION) -> Response:
        check_version(name, version)
        return reply(models.metadata(registry.find(name)))

    @routes.get(f"{_VERSION}/ready", summary="200 if the model can be used now")
    @routes.get(f"{_MODEL}/ready", summary="200 if the model can be used now")
    async def ready(name: str, version: str = VERSION) -> Response:
        check_version(name, version)
        service = registry.find(name)
        if not pool.views:
            raise NoWorkerError(_NOT_READY)
        return reply({"name": service.name, "ready": True})

    @routes.get(f"{_VERSION}/config", summary="A model's configuration, in Triton's terms")
    @routes.get(f"{_MODEL}/config", summary="A model's configuration, in Triton's terms")
    async def configuration(name: str, version: str = VERSION) -> Response:
        check_version(name, version)
        return reply(models.configuration(registry.find(name), limits.images))


def _add_statistics(routes: APIRouter, registry: Registry, fellows: Fellows) -> None:
    @routes.get(f"{KSERVE}/models/stats", summary="Statistics of every model")
    async def all_statistics() -> Response:
        others = await fellows.tallies()
        rows = [models.statistics(service.name, statistics_of(service, others)) for service in registry]
        return reply({"model_stats": rows})

    @routes.get(f"{_VERSION}/stats", summary="A model's statistics, in Triton's terms")
    @routes.get(f"{_MODEL}/stats", summary="A model's statistics, in Triton's terms")
    async def statistics(name: str, version: str = VERSION) -> Response:
        check_version(name, version)
        others = await fellows.tallies()
        service = registry.find(name)
        return reply({"model_stats": [models.statistics(service.name, statistics_of(service, others))]})


def _add_repository(routes: APIRouter, registry: Registry, loader: Loader, bodies: Bodies) -> None:
    @routes.post(f"{KSERVE}/repository/index", summary="The models, ready and unloaded")
    async def index(request: Request) -> Response:
        ready = (await _read(request, bodies)).get("ready", False)
        if not isinstance(ready, bool):
            raise FieldError(f"ready must be true or false, not {ready!r:.80}")
        return reply(models.index(list(registry), registry.unloaded, only_ready=ready))

    @routes.post(f"{KSERVE}/repository/models/{{name}}/load", summary="Make a model ready, its weights on every device")
    async def load(request: Request, name: str) -> Response:
        asked = (await _read(request, bodies)).get("parameters", {})
        if asked:
            raise RequestError(
                f"parameters {', '.join(map(repr, asked))!s:.80} of a load are not supported: a model is loaded as it was,"
                " or as its folder says; PUT /services/{name} makes one with other settings"
            )
        await loader.load(name)
        return reply({})

    @routes.post(
        f"{KSERVE}/repository/models/{{name}}/unload", summary="Free all that a model holds, until it is loaded"
    )
    async def unload(request: Request, name: str) -> Response:
        await _read(request, bodies)
        await loader.unload(name)
        return reply({})


async def _read(request: Request, bodies: Bodies) -> dict[str, Any]:
    """The JSON object of a body, {} of none. Raises BadJsonError."""
    headers = dict(request.scope["headers"])
    pieces = await bodies.read(headers, request.receive)
    try:
        body = bodies.decoded(headers, pieces) if pieces else b""
        return deepdetect.document(body) if body.strip() else {}
    finally:
        bodies.release(pieces)
