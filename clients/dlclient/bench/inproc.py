"""A model on an engine of dlmodels in this process, as the server's workers run it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from dlmodels import images
from dlmodels.engines import engine_type
from dlmodels.engines.base import Engine, Model, Place
from dlmodels.errors import (
    EngineUnavailableError,
    ImageError,
    ModelError,
    OutOfMemoryError,
    SettingError,
    UnknownArchitectureError,
    UnknownEngineError,
)
from dlmodels.spec import ModelSpec

from dlclient.bench import answers
from dlclient.bench.answers import Batch, Rows
from dlclient.bench.folders import find_model
from dlclient.bench.job import Job
from dlclient.bench.model_files import drop_files, read_files
from dlclient.bench.photographs import photographs
from dlclient.bench.subject import Told
from dlclient.bench_result import FailureKind, Load, Scope
from dlclient.errors import PointError
from dlclient.results import Reason

Lane = Callable[[Any], object]

_TOLD = Told()
_TOP = 5
_INPUTS = ("", "tensor", "image")
_UNSUPPORTED = (SettingError, UnknownArchitectureError, UnknownEngineError, EngineUnavailableError)


def failure_kind(exc: BaseException) -> FailureKind:
    """What kind of failure an exception of dlmodels, or of Python, stands for."""
    if isinstance(exc, OutOfMemoryError | MemoryError):
        return "out-of-memory"
    return "unsupported" if isinstance(exc, _UNSUPPORTED) else "error"


class InProcess:
    """The Subject of a point whose target is "inproc"."""

    scope: Scope = "model"

    def __init__(self, job: Job) -> None:
        self._job = job
        self._spec: ModelSpec | None = None
        self._engine: Engine | None = None
        self._model: Model | None = None
        self._lanes: SimpleQueue[Lane] = SimpleQueue()
        self._lane_count = 0
        self._decodes_here = False
        self._start_s = 0.0
        self._has_run = False
        self.reasons: tuple[Reason, ...] = ()
        """Why figures of its last `inputs` could not be trusted."""

    # ---- what it is

    @property
    def spec(self) -> ModelSpec:
        """The model, once started."""
        assert self._spec is not None, "start first"
        return self._spec

    @property
    def simulated(self) -> bool:
        """Whether it only sleeps."""
        return self._spec is not None and self._spec.engine == "simulated"

    @property
    def most_in_flight(self) -> int:
        """The engine's lanes, once open."""
        return self._lane_count

    @property
    def read_back(self) -> Mapping[str, str | int | float | bool | None]:
        """The engine's settings, as it tells them once open; what is no plain value as text."""
        if self._model is None:
            return {}
        told = {"engine": self.spec.engine, **msgspec.to_builtins(dict(self._model.settings), enc_hook=str)}
        return {
            key: value if value is None or isinstance(value, str | int | float) else str(value)
            for key, value in told.items()
        }

    @property
    def weights_bytes(self) -> int | None:
        """Of the model on the device."""
        return None if self._model is None else self._model.weights_bytes

    # ---- its life

    def start(self) -> None:
        """Find the model, import the framework and wake the device. Raises PointError."""
        setting = self._job.setting
        if setting.input not in _INPUTS:
            raise PointError(
                f"input {setting.input!r} is for servers: in this process it is tensor (ready before the clock) or image"
                " (decoded in it)",
                kind="unsupported",
            )
        with _as_point_errors():
            self._spec = find_model(setting, self._job.repository)
            began = perf_counter()
            kind = engine_type(self._spec.engine)
            if missing := kind.missing(setting.device):
                raise EngineUnavailableError(missing)
            threads = setting.threads or len(os.sched_getaffinity(0))
            self._engine = kind(Place(setting.device, threads, map_files=not self._job.drop_page_cache))
            self._engine.start()
            self._start_s = perf_counter() - began

    def open(self) -> Load:
        """Prepare and load the model. Raises PointError."""
        assert self._engine is not None, "start first"
        with _as_point_errors():
            read_s, page_cache = read_files(self.spec)
            began = perf_counter()
            self._model = self._engine.prepare(self.spec)
            prepare_s = perf_counter() - began
            self._decodes_here = self._model.decodes and self._job.setting.input == "image"
            load_s = self._load(self._model)
        return Load(
            start_s=self._start_s,
            read_s=read_s,
            prepare_s=prepare_s,
            load_s=load_s,
            page_cache="dropped" if self._job.drop_page_cache else page_cache,
        )

    def reopen(self) -> float:
        """Unload and load again. Raises PointError."""
        model = self._opened()
        with _as_point_errors():
            self._lanes = SimpleQueue()
            model.unload()
            return self._load(model)

    def close(self) -> None:
        """Give the weights back."""
        self._lanes, self._lane_count = SimpleQueue(), 0
        if self._model is not None:
            self._model.unload()
            self._model = None

    def _load(self, model: Model) -> float:
        if self._job.drop_page_cache:
            drop_files(self.spec)
        began = perf_counter()
        model.load()
        load_s = perf_counter() - began
        asked, used = self._job.setting.threads, model.settings.get("threads")
        if asked is not None and used is not None and used != asked:
            raise SettingError(f"{self.spec.engine} uses {used} threads, not {asked} as asked: ask for that")
        lanes = model.lanes
        self._lane_count = len(lanes)
        for lane in lanes:
            self._lanes.put(lane)
        return load_s

    def _opened(self) -> Model:
        assert self._model is not None, "open first"
        return self._model

    # ---- what it does

    def inputs(self, batch_size: int, number: int) -> list[Batch]:
        """Batches, each one photograph further than the one before; they share memory.

        Once the model has run, it is found out here what the answer to each is (`answers.learn`), so that `infer` can hold what
        it gets against it. Raises PointError.
        """
        model = self._opened()
        if model.most_images is not None and batch_size > model.most_images:
            raise PointError(
                f"{model.spec.name!r} takes at most {model.most_images} images at once, not {batch_size}: its graph fixes the"
                " batch; measure a smaller one, or convert the network anew",
                kind="unsupported",
            )
        ring = self._ring(model, batch_size + number - 1)
        found = [Batch(ring[first : first + batch_size], batch_size) for first in range(number)]
        if self._has_run:
            self.reasons = answers.learn(found, self._answered) if number > 1 else ()
        return found

    def _ring(self, model: Model, count: int) -> Any:
        """So many images, ready for the engine (or to be decoded in the clock), from the beginning again at their end."""
        contents = [photograph.content for photograph in photographs(self._job.images)]
        if not model.decodes or self._decodes_here:
            return [contents[place % len(contents)] for place in range(count)]
        with _as_point_errors():
            decoded = [images.decode(content, model.spec.input) for content in contents[:count]]
            return images.stack([decoded[place % len(decoded)] for place in range(count)], model.spec.input)

    def infer(self, batch: object) -> Told:
        """Run a batch, bring its answer to the host and check it. Raises PointError."""
        assert isinstance(batch, Batch)
        if not self._decodes_here:
            self._rows(batch, batch.data)
            return _TOLD
        began = perf_counter()
        planes = self._planes(batch.data)
        transform_s = perf_counter() - began
        self._rows(batch, planes)
        return Told(transform_s=transform_s)

    def classes(self, batch: object) -> list[list[tuple[int, float]]]:
        """Of each image the five likeliest classes. A batch of `inputs`, or image files (a list of bytes). Raises PointError."""
        if not isinstance(batch, Batch):
            assert isinstance(batch, Sequence)
            batch = Batch(self._planes(batch) if self._opened().decodes else batch, len(batch))
            return [_likeliest(row) for row in self._rows(batch, batch.data)]
        return [_likeliest(row) for row in self._answered(batch)]

    def _answered(self, batch: Batch) -> Rows:
        """The checked answer to a batch of `inputs`."""
        return self._rows(batch, self._planes(batch.data) if self._decodes_here else batch.data)

    def _rows(self, batch: Batch, data: object) -> Rows:
        """The checked answer to a batch, whose images are in `data` as the engine takes them."""
        spec = self.spec
        lane = self._lanes.get()
        try:
            rows = answers.materialized(lane(data), batch.images, spec.classes)
        except (ModelError, MemoryError) as exc:
            raise _point_error(exc) from exc
        finally:
            self._lanes.put(lane)
        answers.check(rows, batch, independent=spec.multi_label)
        self._has_run = True
        return rows

    def _planes(self, files: Any) -> images.Planes:
        spec = self.spec.input
        with _as_point_errors():
            return images.stack([images.decode(file, spec) for file in files], spec)


def _likeliest(row: Rows) -> list[tuple[int, float]]:
    order = np.argsort(-row, kind="stable")[:_TOP]
    return [(int(place), float(row[place])) for place in order]


def _point_error(exc: Exception) -> PointError:
    text = str(exc) or "the process has no memory left for this: try a smaller batch"
    return PointError(text, kind=failure_kind(exc))


@contextmanager
def _as_point_errors() -> Iterator[None]:
    try:
        yield
    except (ModelError, ImageError, MemoryError) as exc:
        raise _point_error(exc) from exc
