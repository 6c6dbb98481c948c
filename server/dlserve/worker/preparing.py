"""Models' skeletons, built one after the other in a thread of their own, so that receiving and running go on."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from dlmodels.engines.base import Model

from dlserve.worker.cache import ModelCache
from dlserve.worker.engines import Engines
from dlserve.worker.files import ModelFiles
from dlserve.worker.service import Service

log = logging.getLogger(__name__)


class Preparer:
    """Prepares services. Hashing the weights' file and building a network take from milliseconds to seconds."""

    def __init__(
        self,
        engines: Engines,
        cache: ModelCache,
        files: ModelFiles,
        pinned: Sequence[str],
        on_prepared: Callable[[Service, Model], None],
    ) -> None:
        """`pinned`: names of services. `on_prepared`: called once for each that was, before anyone who waits for it."""
        self._engines = engines
        self._cache = cache
        self._files = files
        self._pinned = frozenset(pinned)
        self._on_prepared = on_prepared
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    def submit(self, service: Service, then: Callable[[Exception | None], None]) -> None:
        """Prepare a service unless it is, then call `then` in the preparing thread: with None, or with the failure."""
        self._pool.submit(self._run, service, perf_counter(), then)

    def after(self, call: Callable[[], None]) -> None:
        """Call when everything submitted so far is done."""
        self._pool.submit(call)

    def close(self) -> None:
        """Drop what has not begun and wait for what has."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, service: Service, asked: float, then: Callable[[Exception | None], None]) -> None:
        # Who asked while a preparation was failing gets its failure; who asks later makes a new attempt.
        if service.model is None and asked > service.failed_at:
            try:
                self._prepare(service)
            except Exception as exc:  # noqa: BLE001  the edge of a request: whatever it is, it is answered
                service.failure, service.failed_at = exc, perf_counter()
        try:
            then(service.failure if service.model is None else None)
        except Exception:
            log.exception("what follows preparing model %s failed", service.spec.name)

    def _prepare(self, service: Service) -> None:
        began = perf_counter()
        engine = self._engines.get(service.spec.engine)
        with self._files.reading(service.spec):
            model = engine.prepare(service.spec)
        self._cache.add(service.number, model, pinned=service.spec.name in self._pinned)
        self._on_prepared(service, model)
        service.model = model
        log.info("model %s is prepared after %.3f s", service.spec.name, perf_counter() - began)
