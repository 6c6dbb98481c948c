"""From items to a model's input, in a pool of threads: read, decode, resize, normalize."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import cv2
import numpy as np
from dlmodels import images
from dlmodels.errors import ImageError
from dlmodels.images import InputSpec
from numpy.typing import NDArray

from dlserve.worker.failures import ExpiredError, InputError
from dlserve.worker.inputs import InputReader, Source, named
from dlserve.worker.task import Task

_NOTHING = memoryview(b"")

MOST_INPUT_BYTES = 1 << 30
"""Of one call's preprocessed images: 1,783 of 224 x 224, or one of 8192 x 8192."""


@dataclass(slots=True, eq=False)
class _Work:
    """A task's images while they are being decoded."""

    task: Task
    sources: tuple[Source, ...]
    began: float
    left: int
    planes: NDArray[np.float32] | None
    """(n, channels, height, width), filled image by image; None if the model takes undecoded bytes."""
    raw: list[bytes | memoryview]


class DecodePool:
    """Fills in tasks' inputs. An image that fails, fails its own task only."""

    def __init__(
        self,
        reader: InputReader,
        threads: int,
        max_pixels: int,
        on_ready: Callable[[Task], None],
        on_failed: Callable[[Task, Exception], None],
    ) -> None:
        self._reader = reader
        self._max_pixels = max_pixels
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._lock = threading.Lock()
        cv2.setNumThreads(1)  # images are decoded side by side already

    def submit(self, task: Task, decodes: bool) -> None:
        """Begin with a task; `on_ready` or `on_failed` follows, in a thread of the pool.

        `decodes` false: its inputs are read (and base64 undone), but handed on as bytes.
        """
        self._pool.submit(self._decode_all, task, decodes)

    def decode(self, task: Task, decodes: bool, *, helped: bool = True) -> bool:
        """`submit`, but the first image is decoded in this thread; all are, if it isn't `helped` by the pool.

        True: all are ready, and nobody else is told.
        """
        work = self._open(task, decodes)
        if work is None:
            return False
        if not helped:
            return [self._decode(work, place) for place in range(task.images)][-1]
        for place in range(1, task.images):
            self._pool.submit(self._decode_and_tell, work, place)
        return self._decode(work, 0)

    def _decode_all(self, task: Task, decodes: bool) -> None:
        if self.decode(task, decodes):
            self._on_ready(task)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _open(self, task: Task, decodes: bool) -> _Work | None:
        """Find the task's images, and make room for what they become; None if it is answered already, or cannot be done."""
        if task.answered:
            return None
        try:
            began = perf_counter()
            if task.deadline is not None and task.deadline <= began:
                raise ExpiredError("its deadline has passed before it was decoded, so it was dropped")
            found = self._reader.sources(task.job.items, task.body)
            if task.job.cache == "disk":
                forgetting = perf_counter()
                self._reader.forget(found.images)
                task.forget_s = perf_counter() - forgetting
                began += task.forget_s
            count = task.images = len(found.images)
            if found.expanded:
                task.uris = tuple(source.uri for source in found.images)
            planes = None
            if decodes:
                images.validate(task.spec)
                _check_size(count, task.spec)
                planes = np.empty((count, *task.spec.shape), np.float32)
            return _Work(task, found.images, began, count, planes, [b""] * count)
        except Exception as exc:  # noqa: BLE001  the edge of a job: whatever it is, it is answered
            self._fail(task, exc)
            return None

    def _decode_and_tell(self, work: _Work, place: int) -> None:
        if self._decode(work, place):
            self._on_ready(work.task)

    def _decode(self, work: _Work, place: int) -> bool:
        """Whether it was the last of its task."""
        task = work.task
        if task.answered:
            return False
        try:
            source = work.sources[place]
            data = self._reader.read(source)
            if work.planes is None:
                work.raw[place] = data
            else:
                self._decode_into(work.planes[place], source, data, task)
        except Exception as exc:  # noqa: BLE001  the edge of a job: whatever it is, it is answered
            self._fail(task, exc)
            return False
        with self._lock:
            work.left -= 1
            if work.left:
                return False
        task.inputs = work.raw if work.planes is None else work.planes
        task.body = _NOTHING  # what was decoded need not wait for its turn too
        task.decode_s = perf_counter() - work.began
        return True

    def _decode_into(self, out: NDArray[np.float32], source: Source, data: bytes | memoryview, task: Task) -> None:
        if source.kind == "planes":
            _copy_planes(out, data, source.uri)
            return
        if source.kind == "pixels":
            image = images.fit(np.frombuffer(data, np.uint8).reshape(source.shape), task.spec)
        else:
            try:
                image = images.decode(data, task.spec, self._max_pixels)
            except ImageError as exc:
                raise InputError(named(source.uri, exc)) from exc
        images.normalize_into(image, task.spec, out)

    def _fail(self, task: Task, exc: Exception) -> None:
        if not task.answered:  # else its connection is lost or it is cancelled: nobody wants to know
            self._on_failed(task, exc)


def _copy_planes(out: NDArray[np.float32], data: bytes | memoryview, uri: str) -> None:
    """What the client has preprocessed itself. Raises InputError where the network could only answer nonsense to it."""
    if len(data) != out.nbytes:
        raise InputError(named(uri, f"{len(data)} bytes of float32 planes, where {out.shape} takes {out.nbytes}"))
    out[...] = np.frombuffer(data, "<f4").reshape(out.shape)
    if not np.isfinite(out).all():
        raise InputError(named(uri, "the tensor holds NaN or infinity: every value must be a finite float32"))


def _check_size(count: int, spec: InputSpec) -> None:
    """Raises InputError where the network's input would take so much memory that the machine might kill the worker."""
    size = 4 * count * math.prod(spec.shape)
    if size > MOST_INPUT_BYTES:
        raise InputError(
            f"{count} images at {spec.width} x {spec.height} are {size >> 20} MiB of input, at most"
            f" {MOST_INPUT_BYTES >> 20} are taken in one call: send fewer images, or a smaller width and height"
        )
