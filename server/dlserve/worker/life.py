"""The life of a worker process: connect to the front end, serve, and again when the front end was restarted."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from time import perf_counter

from dlmodels.engines.base import Place

from dlserve.messages import Hello
from dlserve.worker.engines import Engines, device_name
from dlserve.worker.frames import SEND_BUFFER_BYTES
from dlserve.worker.loop import Loop
from dlserve.worker.settings import WorkerSettings

log = logging.getLogger(__name__)
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 1.0


class Worker:
    """One worker; `run` serves until `stop` is called from another thread."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._engines = Engines(
            Place(settings.device, settings.threads, settings.host_bytes, map_files=not settings.drop_page_cache)
        )
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._loop: Loop | None = None

    def start(self) -> None:
        """Start the engines that must be there from the first request on. Raises EngineUnavailableError."""
        # On a GPU always torch's too: a device that is missing must fail the start, not the first request.
        on_gpu = () if self._settings.device == "cpu" else ("torch",)
        for name in dict.fromkeys((*self._settings.engines, *on_gpu)):
            self._engines.get(name)

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve; `on_ready` is called once, when the front end is first connected."""
        while (connection := self._connect()) is not None:
            loop = Loop(self._settings, self._engines, connection)
            with self._lock:
                self._loop = loop
                if self._stopping.is_set():
                    loop.stop()
            began = perf_counter()
            with connection:
                loop.run(self._hello(), on_ready)
            if self._stopping.is_set():
                return
            on_ready = self._again
            if perf_counter() - began < _LAST_RETRY_S:
                self._stopping.wait(_LAST_RETRY_S)  # whoever hangs up at once is not asked at once again

    def _again(self) -> None:
        """The supervisor knows already that this worker is ready; only the front end is another."""
        log.warning("the front end was replaced: services and weights were dropped")

    def stop(self) -> None:
        """Answer what has been received, then let `run` return."""
        with self._lock:
            self._stopping.set()
            if self._loop is not None:
                self._loop.stop()

    def _connect(self) -> socket.socket | None:
        """A connection to the front end, tried again until there is one; None once told to stop."""
        retry_s = _FIRST_RETRY_S
        while not self._stopping.is_set():
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            try:
                connection.connect(self._settings.front_socket)
            except OSError as exc:
                connection.close()
                if retry_s >= _LAST_RETRY_S:
                    log.warning("no front end at %s yet: %s", self._settings.front_socket, exc)
                self._stopping.wait(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
            else:
                return connection
        return None

    def _hello(self) -> Hello:
        settings = self._settings
        return Hello(
            worker=settings.worker,
            generation=settings.generation,
            pid=os.getpid(),
            device=settings.device,
            device_name=device_name(settings.device, settings.visible_gpus),
            budget_bytes=settings.budget_bytes,
            host_bytes=settings.host_bytes,
            engines=self._engines.facts(),
        )
