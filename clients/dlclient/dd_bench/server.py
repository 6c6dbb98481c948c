"""The server and its services, outside of the clock: what it is, creating, describing and deleting."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any

from dlclient.client import Client, Json
from dlclient.dd_bench.calls import DESCRIPTION, Lane, creation_input, creation_mllib
from dlclient.dd_bench.options import Creation, Options
from dlclient.errors import ClientError, PointError, ServerError

_GONE = 404
_EXISTS = 409
_EXISTS_DD = 1014
_TRANSFORM = "total_transform_duration_ms"
_CALLS = "predict_count"
_READY_S = 120
_ASK_EVERY_S = 0.2
Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Worker:
    """Of a dlserve."""

    number: int
    device: str


@dataclass(frozen=True, slots=True)
class Counters:
    """What a service has done in its life. None: the server does not tell."""

    transform_s: float | None
    """Seconds spent in reading, decoding and resizing."""
    calls: int | None


class Server:
    """One DeepDetect-style server. `info`: the head of its /info; {} until `look`."""

    def __init__(self, client: Client, options: Options) -> None:
        self._client = client
        self._options = options
        self.info: Json = {}
        self._own: set[str] = set()
        """Services that were created, or taken for such."""

    def look(self) -> None:
        """Ask what it is; of a dlserve, once all its workers take calls. Raises ClientError, also where they do not come up."""
        give_up = perf_counter() + _READY_S
        self.info = self._client.info()
        while len(self.workers) < len(self._told()):
            if perf_counter() > give_up:
                raise PointError(
                    f"{len(self._told()) - len(self.workers)} workers of the server are not up after {_READY_S} s; see its log",
                    kind="crash",
                )
            sleep(_ASK_EVERY_S)
            self.info = self._client.info()

    @property
    def is_dlserve(self) -> bool:
        """Whether it tells what only dlserve tells."""
        return isinstance(self.info.get("dlserve"), dict)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Of a dlserve, those that take calls."""
        return tuple(Worker(one["worker"], str(one.get("device", ""))) for one in self._told() if one.get("up", True))

    def lanes(self, model: str) -> tuple[Lane, ...]:
        """One for each call in flight: all connections of a GPU, and then those of the next.

        Raises PointError where a GPU is asked for and a dlserve has no worker there: it would run somewhere else, unsaid.
        """
        lanes = []
        for gpuid in self._options.gpuids:
            workers = self._workers_on(gpuid)
            for number in range(self._options.concurrency):
                worker = workers[number % len(workers)].number if workers else None
                lanes.append(Lane(self.service(model, gpuid), gpuid, worker))
        return tuple(lanes)

    def warming_lanes(self, model: str) -> tuple[Lane, ...]:
        """Where calls before the clock go: to each worker of a dlserve, so that none is cold in it; else as the timed ones.

        Raises PointError as `lanes`.
        """
        if not self.workers:
            return self.lanes(model)
        return tuple(
            Lane(self.service(model, gpuid), gpuid, worker.number)
            for gpuid in self._options.gpuids
            for worker in self._workers_on(gpuid) or self.workers
        )

    def service(self, model: str, gpuid: int) -> str:
        """The service of a model for calls to a GPU. One that `--models` creates is not called as the model is: a dlserve has that
        already.
        """
        options = self._options
        name = f"{model}-dd_bench" if options.creation and options.as_table else model
        return f"{name}-gpu{gpuid}" if options.creation and len(options.gpuids) > 1 else name

    def services(self, model: str) -> dict[str, int]:
        """All of a model, and their GPU (the last, where one service is for several)."""
        return {self.service(model, gpuid): gpuid for gpuid in self._options.gpuids}

    def create(self, model: str, creation: Creation, batch_size: int) -> float | None:
        """Create a model's services; the seconds that it took, None where they were there.

        One that is there is taken if it is the same; `--recreate` makes it anew where a run is resumed that may have left it.
        Raises PointError where another one is there, ClientError else.
        """
        began = perf_counter()
        was_there = False
        for name, gpuid in self.services(model).items():
            try:
                self._create(model, name, creation, gpuid, batch_size)
            except ServerError as exc:
                if exc.status != _EXISTS and exc.dd_code != _EXISTS_DD:
                    raise _with_default(exc, creation) from exc
                self._check_same(name, model, creation)
                was_there = True
                if creation.recreate:
                    self._client.delete_service(name)
                    self._create(model, name, creation, gpuid, batch_size)
            self._own.add(name)
        return None if was_there else perf_counter() - began

    def delete(self, model: str) -> None:
        """Delete a model's services, but not what has the name of one that was to be created. One that is gone is as good.

        Raises ClientError.
        """
        for name in self.services(model):
            if self._options.creation and name not in self._own:
                continue
            self._own.discard(name)
            try:
                self._client.delete_service(name)
            except ServerError as exc:
                if exc.status != _GONE:
                    raise

    def describe(self, model: str) -> tuple[Json, ...]:
        """What the server tells of each of a model's services, that of the first GPU first. Raises ClientError."""
        return tuple(self._client.get_service(name) for name in self.services(model))

    def _told(self) -> Sequence[Json]:
        found: Sequence[Json] = self.info["dlserve"].get("workers", ()) if self.is_dlserve else ()
        return found

    def _workers_on(self, gpuid: int) -> tuple[Worker, ...]:
        """Of a dlserve, those that a GPU's calls must go to; () where it may choose."""
        if not self._options.gpu or not self.workers:
            return ()
        device = "cuda" if gpuid < 0 else f"cuda:{gpuid}"
        found = tuple(worker for worker in self.workers if device in {worker.device, worker.device.partition(":")[0]})
        if not found:
            there = ", ".join(sorted({worker.device for worker in self.workers}))
            raise PointError(
                f"no worker of this server runs on {device}, only on {there}: name another --gpuid, or leave --gpu out",
                kind="unsupported",
            )
        return () if gpuid < 0 and len(found) == len(self.workers) else found

    def _create(self, model: str, name: str, creation: Creation, gpuid: int, batch_size: int) -> None:
        self._client.create_service(
            name,
            mllib=creation.mllib,
            model={"repository": self._repository(model, creation)},
            description=DESCRIPTION,
            input=creation_input(self._options, creation),
            parameters=creation_mllib(self._options, creation, gpuid, batch_size),
        )

    def _repository(self, model: str, creation: Creation) -> str:
        return f"{creation.repository.rstrip('/')}/{model}" if self._options.as_table else creation.repository

    def _check_same(self, name: str, model: str, creation: Creation) -> None:
        """Raises PointError where the service that has the name is another one than that which was to be created."""
        told = self._client.get_service(name)
        wanted = self._repository(model, creation).rstrip("/")
        found = str(told.get("repository", "")).rstrip("/")
        differs = "" if f"/{found}".endswith(f"/{wanted.removeprefix('./').lstrip('/')}") else f"repository {found}"
        if str(told.get("mllib", creation.mllib)).lower() != creation.mllib.lower():
            differs = f"mllib {told['mllib']}"
        given = (told.get("parameters") or {}).get("input") or {}
        for key, value in creation_input(self._options, creation).items():
            if key in given and given[key] != value:
                differs = f"{key} {given[key]}"
        if creation.recreate and not self._options.resume:
            differs = differs or "the same parameters, and may be somebody's"
        if differs:
            raise PointError(
                f"service {name} is there already, with {differs}: delete it, or name another with --sname",
                kind="error",
            )


def counters(described: Sequence[Json]) -> Counters:
    """Of all services of a model together."""
    told: list[Json] = [one.get("service_stats") or {} for one in described]
    transforms: list[float] = [one[_TRANSFORM] for one in told if _TRANSFORM in one]
    counts: list[int] = [one[_CALLS] for one in told if _CALLS in one]
    return Counters(
        math.fsum(transforms) / 1000 if len(transforms) == len(told) else None,
        sum(counts) if len(counts) == len(told) else None,
    )


def read_back(described: Mapping[str, Any], server: Server) -> dict[str, Value]:
    """What a description tells of how the service really runs."""
    own = described.get("dlserve") or {}
    told: dict[str, Value] = {"mllib": str(described.get("mllib", ""))}
    told |= {key: value for key, value in (own.get("settings") or {}).items() if isinstance(value, Value)}
    if server.workers:
        told["workers"] = len(server.workers)
        told["devices"] = ",".join(sorted({worker.device for worker in server.workers}))
    gpu = ((described.get("parameters") or {}).get("mllib") or {}).get("gpu")
    return told | ({"gpu": gpu} if isinstance(gpu, bool) else {})


def _with_default(exc: ServerError, creation: Creation) -> ClientError:
    """The same error; where it may be DeepDetect's old default engine, that is said."""
    if creation.mllib_given:
        return exc
    return ServerError(
        f"{exc} (created for the default --mllib caffe; name another, such as torch)",
        status=exc.status,
        dd_code=exc.dd_code,
        dd_msg=f"{exc.dd_msg} (created for the default --mllib caffe; name another, such as torch)",
    )
