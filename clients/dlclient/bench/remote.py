"""A model behind a server of DeepDetect's kind, as a client on this machine sees it, and as the server says itself."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import cast, get_args

from dlmodels.errors import ModelError
from dlmodels.repository import read_labels, read_model

from dlclient.bench import calls
from dlclient.bench.calls import Call, Said, Way
from dlclient.bench.job import Job
from dlclient.bench.photographs import Photograph, photographs
from dlclient.bench.subject import Told
from dlclient.bench_result import Load, Scope
from dlclient.client import Client, Json
from dlclient.client_cost import client_cost_s
from dlclient.errors import ClientError, PointError, ServerError
from dlclient.exchange import SocketConnection
from dlclient.results import Reason

MOST_IN_FLIGHT = 1024
_REFUSED = (400, 501)
"""HTTP statuses of what a server cannot do, whatever happens."""


class Server:
    """The Subject of a point whose target is a URL. The model is the service of its name.

    Where there is none, and the job names a repository (a folder that the server can read), `open` creates the service and
    `close` deletes it. Each call goes over a kept connection of its own, so that `infer` may be called from many threads.
    """

    scope: Scope = "client"

    def __init__(self, job: Job) -> None:
        self._job = job
        self._url = job.setting.target.rstrip("/")
        self._timeout_s = job.budget.iteration_timeout_s
        self._client: Client | None = None
        self._idle: SimpleQueue[SocketConnection] = SimpleQueue()
        self._connections: list[SocketConnection] = []
        self._service: Json = {}
        self._created = False
        self._has_run = False
        self._written: tempfile.TemporaryDirectory[str] | None = None
        self._last_call: tuple[bytes, int] | None = None
        self._label_places: dict[str, int] | None = None
        self.reasons: tuple[Reason, ...] = ()

    # ---- what it is

    @property
    def _own(self) -> Json:
        """What a dlserve tells of the service beyond DeepDetect's API."""
        found = self._service.get("dlserve")
        return found if isinstance(found, dict) else {}

    @property
    def simulated(self) -> bool:
        """Whether the server says that nothing is computed, only slept."""
        return bool(self._own.get("simulated")) or self._service.get("mllib") == "simulated"

    @property
    def most_in_flight(self) -> int:
        """As many as there are connections."""
        return MOST_IN_FLIGHT

    @property
    def read_back(self) -> Mapping[str, str | int | float | bool | None]:
        """Engine and settings, as far as the server tells them."""
        told = {"engine": self._own.get("engine") or self._service.get("mllib"), **self._own.get("settings", {})}
        return {
            key: value if isinstance(value, str | int | float) else str(value)
            for key, value in told.items()
            if value is not None
        }

    @property
    def weights_bytes(self) -> int | None:
        """Of a dlserve."""
        found = self._own.get("weights_bytes")
        return found if isinstance(found, int) and found else None

    @property
    def architecture(self) -> str:
        """Of a dlserve: the zoo's name of the network; "" where it is not told."""
        return str(self._own.get("architecture") or "")

    def client_cost_s(self) -> float | None:
        """What of each time is the client's own: of its last call, against a server that does nothing. None before one."""
        if self._last_call is None:
            return None
        with _as_point_errors():
            return client_cost_s(*self._last_call)

    def transform_total_s(self) -> float | None:
        """What the service has spent on reading, decoding and resizing since it was created; None where it is not told."""
        with _as_point_errors():
            stats = self._api().get_service(self._job.setting.model).get("service_stats", {})
        total = stats.get("total_transform_duration_ms") if isinstance(stats, dict) else None
        return total / 1e3 if isinstance(total, int | float) else None

    # ---- its life

    def start(self) -> None:
        """See whether the server is there. Raises PointError."""
        setting = self._job.setting
        way = setting.input or "base64"
        if way not in get_args(Way) or (way == "raw" and setting.batch_size > 1):
            raise PointError(
                f"input {setting.input!r} with {setting.batch_size} images a call: a server gets them as base64 or path, or one alone"
                " as raw (for URLs there is dd_bench)",
                kind="unsupported",
            )
        if way == "path" and setting.question == "accuracy":
            raise PointError(
                "accuracy sends the labelled images themselves, so that they need not lie where the server may read: ask for it"
                " with input base64 (the default) or raw; the answers are the same",
                kind="unsupported",
            )
        self._client = Client(self._url, self._job.api_key or None, timeout_s=self._job.budget.prepare_timeout_s)
        with _as_point_errors():
            self._client.info()

    def open(self) -> Load:
        """Find the service, or create it. `prepare_s` is what that took; what else a load takes, the first call bears.

        Raises PointError.
        """
        with _as_point_errors():
            took_s = self._find_or_create()
            self._service = self._api().get_service(self._job.setting.model)
        self._check_settings()
        return Load(prepare_s=took_s)

    def reopen(self) -> float:
        """Delete the service and create it again; the seconds that the creation took. Raises PointError."""
        if not self._created:
            raise PointError(
                f"the service {self._job.setting.model!r} was there before, and only one's own is deleted for measuring how it loads:"
                " delete it yourself and give `repository`, so that it is created for this",
                kind="unsupported",
            )
        with _as_point_errors():
            self._api().delete_service(self._job.setting.model)
            return self._create()

    def close(self) -> None:
        """Delete the service if it was created for this, and close the connections."""
        for connection in self._connections:
            connection.close()
        if self._written is not None:
            self._written.cleanup()
        if self._client is not None:
            try:
                if self._created:
                    self._client.delete_service(self._job.setting.model)
            except ClientError as exc:
                print(f"the service could not be deleted: {exc}", flush=True)
            self._created = False
            self._client.close()

    def _api(self) -> Client:
        assert self._client is not None, "start first"
        return self._client

    def _find_or_create(self) -> float | None:
        setting = self._job.setting
        try:
            self._api().get_service(setting.model)
        except ServerError as exc:
            if exc.status != 404:
                raise
            if not self._job.repository and setting.engine != "simulated":
                raise PointError(
                    f"{self._url} has no service {setting.model!r}: create it there, or give `repository`, the server's folder of"
                    " model folders",
                    kind="error",
                ) from exc
            return self._create()
        return None

    def _create(self) -> float:
        setting = self._job.setting
        model = {"repository": f"{self._job.repository}/{setting.model}"} if self._job.repository else {}
        precision = {"datatype": setting.precision} if setting.precision else {}
        began = perf_counter()
        self._api().create_service(
            setting.model,
            mllib=setting.engine or "torch",
            model=model,
            parameters={**self._device(), **precision, **setting.options},
        )
        self._created = True
        return perf_counter() - began

    def _device(self) -> dict[str, object]:
        kind, _, number = self._job.setting.device.partition(":")
        return {"gpu": True, "gpuid": int(number or 0)} if kind == "cuda" else {}

    def _check_settings(self) -> None:
        """Raises PointError where the server says that it uses something else than was asked for."""
        setting = self._job.setting
        asked: dict[str, object] = {**setting.options}
        asked |= {"engine": setting.engine} if setting.engine else {}
        asked |= {"datatype": setting.precision} if setting.precision else {}
        asked |= {"threads": setting.threads} if setting.threads else {}
        for key, value in asked.items():
            used = self.read_back.get(key, value)
            if used != value:
                raise PointError(
                    f"{self._url} serves {setting.model!r} with {key} {used!r}, not {value!r} as asked: ask for that, or delete the"
                    " service so that it is created as asked (threads: start the server with --threads)",
                    kind="unsupported",
                )

    # ---- what it does

    def inputs(self, batch_size: int, number: int) -> list[Call]:
        """Ready-made requests, each one photograph further than the one before.

        Once the service has answered, what it says to each is found out here, so that `infer` can hold what it gets against it.
        Raises PointError.
        """
        pictures = self._pictures()
        found = []
        for first in range(number):
            chosen = [pictures[(first + place) % len(pictures)] for place in range(batch_size)]
            found.append(self._call(chosen, cast("Way", self._job.setting.input or "base64")))
        if self._has_run:
            for call in found:
                call.expected = calls.highest(self._good(call).predictions)
        return found

    def infer(self, batch: object) -> Told:
        """Make a call. What is wrong with its answer is told, not raised."""
        assert isinstance(batch, Call)
        return self._send(batch).told

    def classes(self, batch: object) -> list[list[tuple[int, float]]]:
        """Of each image the likeliest classes. A call of `inputs`, or image files (a list of bytes). Raises PointError."""
        if not isinstance(batch, Call):
            assert isinstance(batch, Sequence)
            files = [Photograph(str(place), content) for place, content in enumerate(batch)]
            batch = self._call(files, "raw" if self._job.setting.input == "raw" and len(files) == 1 else "base64")
        said = self._good(batch)
        ordered = sorted(said.predictions, key=lambda one: int(one.uri)) if _numbered(said) else said.predictions
        return [[(self._class(found.cat), found.prob) for found in one.classes] for one in ordered]

    def _pictures(self) -> list[Photograph]:
        found = photographs(self._job.images)
        if self._job.setting.input != "path" or found[0].path:
            return found
        if self._written is None:
            self._written = tempfile.TemporaryDirectory(prefix="dlbench-")
            os.chmod(self._written.name, 0o755)  # noqa: S103, PTH101  the server may be another user
        placed = []
        for photograph in found:
            path = Path(self._written.name, photograph.name)
            path.write_bytes(photograph.content)
            placed.append(replace(photograph, path=str(path)))
        return placed

    def _call(self, chosen: Sequence[Photograph], way: Way) -> Call:
        return calls.predict_call(self._url, self._job.setting.model, chosen, way, self._device(), self._job.api_key)

    def _send(self, call: Call) -> Said:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = SocketConnection(self._url, self._timeout_s)
            self._connections.append(connection)
        try:
            if problem := connection.open():
                return Said(Told(error=problem))
            exchange = connection.exchange(call.request)
        finally:
            self._idle.put(connection)
        found = calls.said(exchange, call)
        if not found.told.error:
            self._has_run = True
            self._last_call = (call.request, len(exchange.body))
        return found

    def _good(self, call: Call) -> Said:
        """Raises PointError where there is no good answer."""
        found = self._send(call)
        if found.told.error:
            raise PointError(f"{self._url}: {found.told.error}", kind=calls.failure_kind(found.told.error))
        return found

    def _class(self, category: str) -> int:
        """The index that a label stands for: a number by itself, else its line in the model's labels, where they are here."""
        if category.isdecimal():
            return int(category)
        if self._label_places is None:
            self._label_places = self._labels()
        found = self._label_places.get(category)
        if found is None:
            raise PointError(
                f"{self._url} answers with the label {category!r}, and which class that is can be told only with the model's labels:"
                " give the `repository` that holds them",
                kind="unsupported",
            )
        return found

    def _labels(self) -> dict[str, int]:
        folder = Path(self._job.repository, self._job.setting.model)
        if not self._job.repository or not folder.is_dir():
            return {}
        try:
            spec = read_model(folder)
            labels = read_labels(folder / spec.labels, spec.classes) if spec.labels else ()
        except ModelError:
            return {}
        return {label: place for place, label in enumerate(labels)}


def _numbered(said: Said) -> bool:
    return all(one.uri.isdecimal() for one in said.predictions)


@contextmanager
def _as_point_errors() -> Iterator[None]:
    try:
        yield
    except PointError:
        raise
    except ClientError as exc:
        kind = calls.failure_kind(str(exc))
        if kind == "error" and isinstance(exc, ServerError) and exc.status in _REFUSED:
            kind = "unsupported"
        raise PointError(str(exc), kind=kind) from exc
