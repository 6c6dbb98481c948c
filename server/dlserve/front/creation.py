"""Making a service from a request, and deleting one: DeepDetect's checks, in its order."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from dlmodels import repository
from dlmodels.engines import canonical_engine, engine_type, known_engines
from dlmodels.errors import ModelError, UnknownEngineError
from dlmodels.repository import ModelSpec

from dlserve.config import Config
from dlserve.errors import (
    ConnectorError,
    FieldError,
    InternalError,
    NotFoundError,
    QueryError,
    RequestError,
    ServiceNotFoundError,
    UnknownLibraryError,
)
from dlserve.front import parameters
from dlserve.front.api.deepdetect import document
from dlserve.front.catalogue import Catalogue
from dlserve.front.parameters import Output, section
from dlserve.front.pool import WorkerPool
from dlserve.front.services import Registry, Service
from dlserve.messages import Prepared

_NOT_BUILT = ("caffe2", "tf", "tensorflow", "ncnn", "dlib", "xgboost", "tsne")
"""Backends that exist elsewhere, and that this version has no engine for: 1006 in place of 1000, as DeepDetect's removed ones."""
_SERVER_KEYS = frozenset(
    {
        "gpu", "gpuid", "nclasses", "template", "net", "maxBatchSize", "maxWorkspaceSize", "readEngine", "writeEngine",
        "dla", "multi_label", "concurrent_predict", "from_repository", "cache", "worker",
    }
)  # fmt: skip
"""Of parameters.mllib, what is not the engine's own."""
_FILES: dict[str, Literal["lib", "full", "dir"]] = {"lib": "lib", "full": "full", "dir": "dir"}
CLEAR = ("mem", "index", *_FILES)
"""What DELETE's `clear` may say; mem and index only unload, as there is no index here."""


class Creator:
    """Creates and deletes services."""

    def __init__(self, config: Config, registry: Registry, pool: WorkerPool, catalogue: Catalogue) -> None:
        self._config = config
        self._registry = registry
        self._pool = pool
        self._catalogue = catalogue

    async def create(self, name: str, body: bytes) -> None:
        """Make a service and have a worker check it. Raises ApiError as in DeepDetect's table."""
        name = name.lower()
        _check_name(name)
        async with self._catalogue.reserved(name):
            given = document(body)
            await self.introduce(await asyncio.to_thread(self._read, name, given))

    async def introduce(self, service: Service, *, load: bool = False) -> None:
        """Have a service checked and built, then make it known; `load`: with its weights on every device.

        Its name must be reserved. Raises ApiError; then nothing is left of it.
        """
        self._check_fits(service)
        self._pool.define(service)
        try:
            prepare = self._pool.load if load else self._pool.prepare
            prepared = _good(await prepare(service, self._config.start_timeout_s))
            service.expectation.weights_bytes = prepared.weights_bytes
            await self._catalogue.enter(service)
        except BaseException:
            if self._registry.by_number(service.number) is None:
                self._pool.forget(service)
            raise

    async def load(self, service: Service) -> None:
        """Bring the weights of a service that is known onto every device. Raises ApiError."""
        _good(await self._pool.load(service, self._config.start_timeout_s))

    def _read(self, name: str, given: dict[str, Any]) -> Service:
        """Check the request in DeepDetect's order, and make the service that it describes."""
        mllib = given.get("mllib")
        if not isinstance(mllib, str):
            raise FieldError('a service needs "mllib": the engine, as a string (torch, simulated)')
        asked = section(given, "parameters")
        asked_input, asked_mllib = section(asked, "input"), section(asked, "mllib")
        model = section(given, "model")
        engine = _engine(mllib)
        self._check_task(given, asked_input)
        settings = engine_settings(engine, asked_mllib)
        self._check_gpu(asked_mllib)
        spec = self._spec(name, engine, model, asked_mllib)
        spec = msgspec.structs.replace(
            spec,
            name=name,
            input=parameters.input_spec(spec.input, asked_input),
            parameters={**spec.parameters, **settings},
        )
        output = parameters.output(section(asked, "output"), Output())
        description = given.get("description", "")
        try:
            return self._registry.make(
                spec,
                output=output,
                description=description if isinstance(description, str) else "",
                mllib=mllib,
                created_with={key: value for key, value in asked_mllib.items() if key in _SERVER_KEYS} | settings,
            )
        except ModelError as exc:
            raise RequestError(str(exc)) from exc

    def _check_task(self, given: Mapping[str, Any], asked_input: Mapping[str, Any]) -> None:
        if given.get("type", "supervised") != "supervised":
            raise RequestError(f"type {given['type']!r:.80} is not supported: dlserve classifies images (supervised)")
        connector = asked_input.get("connector", "image")
        if connector != "image":
            raise ConnectorError(f"{connector!r:.80}; dlserve has the connector image")

    def _check_gpu(self, asked: Mapping[str, Any]) -> None:
        gpu = asked.get("gpu", False)
        if not isinstance(gpu, bool):
            raise RequestError(f"parameters.mllib.gpu must be true or false, not {gpu!r:.80}")
        if gpu and all(worker.device == "cpu" for worker in self._config.workers):
            raise RequestError(
                "parameters.mllib.gpu is true, and this server runs on the CPU: leave it out, or use a machine with a GPU"
            )

    def _spec(self, name: str, engine: str, model: Mapping[str, Any], asked: Mapping[str, Any]) -> ModelSpec:
        classes = asked.get("nclasses")
        if classes is not None and (type(classes) is not int or not 0 <= classes <= parameters.MOST_CLASSES):
            raise RequestError(f"parameters.mllib.nclasses must be a number of classes, not {classes!r:.80}")
        multi_label = asked.get("multi_label") is True
        if engine == "simulated":
            return ModelSpec(name, engine, classes=classes or 1000, multi_label=multi_label)
        if not model:
            raise FieldError('a service needs "model": {"repository": the folder of the model}')
        folder = self._folder(model.get("repository"))
        template = asked.get("template", "")
        if not isinstance(template, str):
            raise RequestError(f"parameters.mllib.template must be the name of a network, not {template!r:.80}")
        try:
            spec = repository.read_model(folder, engine=engine, classes=classes, architecture=template)
        except ModelError as exc:
            raise RequestError(str(exc)) from exc
        return msgspec.structs.replace(spec, multi_label=multi_label or spec.multi_label)

    def _folder(self, given: Any) -> Path:
        """The model's folder: absolute, or relative to the models folder; never outside the folders that are served."""
        if not isinstance(given, str) or not given:
            raise RequestError("model.repository is missing: give the folder of the model")
        roots = [root for root in (self._config.models_dir, *self._config.data_roots) if root]
        if not roots:
            raise RequestError("this server has no folder of models: start it with --models-dir DIR")
        folder = os.path.realpath(Path(roots[0]) / given)
        if not any(Path(folder).is_relative_to(root) and folder != root for root in roots):
            raise RequestError(
                f"model.repository {given!r:.200} is not below --models-dir or a --data-root of this server"
            )
        if not Path(folder).is_dir():
            raise RequestError(f"model.repository {given!r:.200}: there is no such folder on the server")
        return Path(folder)

    def _check_fits(self, service: Service) -> None:
        budget = min(worker.budget_bytes for worker in self._config.workers)
        if service.expectation.weights_bytes > budget:
            raise RequestError(
                f"the model's weights are {service.expectation.weights_bytes / 2**20:.0f} MiB, and a worker's cache holds "
                f"{budget / 2**20:.0f} MiB: start dlserve with a larger --cache-mb"
            )

    async def delete(self, name: str, clear: str | None) -> None:
        """Delete a service; `clear` may also delete its files. Raises ApiError."""
        if clear is not None and clear not in CLEAR:
            raise QueryError(f"clear={clear!r:.80}: give one of {', '.join(CLEAR)}")
        try:
            service = self._registry.find_unloaded(name) or self._registry.find(name)
        except ServiceNotFoundError as exc:
            raise NotFoundError(str(exc)) from None  # DELETE has no dd_code there
        folder = service.spec.folder
        files = _FILES.get(clear or "mem") if folder else None
        root = self._config.models_dir
        if files and not (root and Path(folder).is_relative_to(root)):
            raise RequestError(f"clear={clear}: only folders below --models-dir are cleared; use clear=mem")
        try:
            await self._catalogue.remove(service)
        except ServiceNotFoundError as exc:
            raise NotFoundError(str(exc)) from None
        if files:
            try:
                await asyncio.to_thread(repository.clear, Path(folder), files)
            except (ModelError, OSError) as exc:
                raise RequestError(f"the service is gone, its files could not be deleted: {exc}") from exc


def _good(prepared: Prepared) -> Prepared:
    """The same, if it worked. Raises RequestError or InternalError."""
    if prepared.failure is not None:
        raise (RequestError if prepared.failure in ("request", "input", "model") else InternalError)(prepared.error)
    return prepared


def _check_name(name: str) -> None:
    if not repository.is_name(name):
        raise FieldError(
            f"service name {name!r:.80}: use letters, digits, '.', '_' and '-', at most 128, beginning with a letter or digit"
        )


def engine_settings(engine: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Of parameters.mllib, the engine's own settings, which it checks itself when it prepares the model.

    Unknown keys are ignored, as in DeepDetect. Raises RequestError for a key that only another engine honours.
    """
    own = engine_type(engine).settings_type.__struct_fields__
    settings = {key: value for key, value in asked.items() if key in own}
    if engine == "simulated":  # no client of DeepDetect knows it: what is misspelt is an error
        settings = {key: value for key, value in asked.items() if key not in _SERVER_KEYS | {"datatype"}}
    for key in asked.keys() - settings.keys() - _SERVER_KEYS - {"datatype"}:
        honoured_by = [name for name in known_engines() if key in engine_type(name).settings_type.__struct_fields__]
        if honoured_by:
            raise RequestError(
                f"parameters.mllib.{key} is a setting of mllib {' and '.join(honoured_by)}, which {engine} would ignore:"
                f" leave it out; {engine} has {', '.join(own) or 'no settings'}"
            )
    if "datatype" in settings:
        settings["datatype"] = parameters.datatype_of(asked)
    else:
        parameters.check_datatype(asked)
    return settings


def _engine(mllib: str) -> str:
    try:
        return canonical_engine(mllib)
    except UnknownEngineError as exc:
        if mllib.lower() in _NOT_BUILT:
            raise RequestError(f"mllib {mllib!r} has no engine in this version of dlserve: {exc}") from exc
        raise UnknownLibraryError(str(exc)) from exc
