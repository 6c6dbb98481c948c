"""The life of a worker process: connect to each front end, serve, and again when a front end was restarted."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from itertools import zip_longest
from time import perf_counter

from dlmodels.engines.base import Place

from dlserve.messages import Hello
from dlserve.slots import Slots
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
        """Shared by all connections; None while there is none."""
        self._connected = 0

    def start(self) -> None:
        """Start the engines that must be there from the first request on. Raises EngineUnavailableError."""
        # On a GPU always torch's too: a device that is missing must fail the start, not the first request.
        on_gpu = () if self._settings.device == "cpu" else ("torch",)
        for name in dict.fromkeys((*self._settings.engines, *on_gpu)):
            self._engines.get(name)

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve; `on_ready` is called once, when the first front end is first connected."""
        settings = self._settings
        slots = map(Slots, settings.body_fds)
        first, *others = zip_longest(settings.front_sockets, slots)
        threads = [
            threading.Thread(target=self._serve, args=(*front, _nothing), name=f"receive-{number}")
            for number, front in enumerate(others, 1)
        ]
        for thread in threads:
            thread.start()
        self._serve(*first, on_ready)
        for thread in threads:
            thread.join()

    def _serve(self, path: str, slots: Slots | None, on_ready: Callable[[], None]) -> None:
        """Serve one front end, and those that replace it."""
        while (connection := self._connect(path)) is not None:
            began = perf_counter()
            with connection:
                loop = self._enter()
                try:
                    loop.serve(connection, self._hello(), on_ready, slots)
                finally:
                    dropped = self._leave(loop)
            if self._stopping.is_set():
                return
            log.warning("a front end is gone%s", ": services and weights were dropped" if dropped else "")
            on_ready = _nothing  # the supervisor knows already that this worker is ready; only the front end is another
            if perf_counter() - began < _LAST_RETRY_S:
                self._stopping.wait(_LAST_RETRY_S)  # whoever hangs up at once is not asked at once again

    def _enter(self) -> Loop:
        """The loop for one more connection."""
        with self._lock:
            if self._loop is None:
                self._loop = Loop(self._settings, self._engines)
                self._loop.start()
                if self._stopping.is_set():
                    self._loop.stop()
            self._connected += 1
            return self._loop

    def _leave(self, loop: Loop) -> bool:
        """A connection has ended; whether it was the last, so that the loop is over."""
        with self._lock:
            self._connected -= 1
            if self._connected:
                return False
            self._loop = None
            loop.close()  # before there is another: the device has room for one
            return True

    def stop(self) -> None:
        """Answer what has been received, then let `run` return."""
        with self._lock:
            self._stopping.set()
            if self._loop is not None:
                self._loop.stop()

    def _connect(self, path: str) -> socket.socket | None:
        """A connection to a front end, tried again until there is one; None once told to stop."""
        retry_s = _FIRST_RETRY_S
        while not self._stopping.is_set():
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            try:
                connection.connect(path)
            except OSError as exc:
                connection.close()
                if retry_s >= _LAST_RETRY_S:
                    log.warning("no front end at %s yet: %s", path, exc)
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


def _nothing() -> None:
    """What the supervisor is told then."""
