"""A front end's process: `python -m dlserve.front --fd N --http-fd N --workers-fd N ...`, started by the supervisor."""

import argparse
import asyncio
import contextlib
import importlib.metadata
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from dlserve import hardware, logs
from dlserve.board import Board
from dlserve.config import Config
from dlserve.control import Event, line
from dlserve.errors import StartError
from dlserve.front.api import kserve, ops, services
from dlserve.front.api.calls import Calls
from dlserve.front.api.infer import Infer
from dlserve.front.api.predict import Predict
from dlserve.front.app import App, make_api
from dlserve.front.asgi import Bodies
from dlserve.front.catalogue import Catalogue
from dlserve.front.creation import Creator
from dlserve.front.dealing import Dealing, counting_protocol
from dlserve.front.dispatch import Dispatcher
from dlserve.front.fellows import Fellows
from dlserve.front.fetch import Fetcher
from dlserve.front.http import Protocol, close_idle
from dlserve.front.link import Link
from dlserve.front.loading import Loader
from dlserve.front.metrics import Metrics
from dlserve.front.policies import policy
from dlserve.front.pool import PoolEvents, WorkerPool
from dlserve.front.prefetching import Prefetcher
from dlserve.front.services import Registry
from dlserve.pulse import BEAT_S
from dlserve.slots import Lender

log = logging.getLogger(__name__)
START_FAILED = 3
SERVICES_OF_A_PROCESS = 1 << 32
"""Numbers of services that each process of a front end has to itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which front end this is."""

    number: int
    """From 0."""
    process: int
    """Counts the processes of all front ends from 0."""
    folder: Path
    """Shared with the others."""
    board: Board
    slots: Lender
    """For what its workers read."""


class _Server(uvicorn.Server):
    """Uvicorn that says when it has begun to listen."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: the supervisor says when to stop."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()


class FrontEnd:
    """All parts of the front end, put together."""

    def __init__(self, config: Config, place: Place, report: Callable[[Event], None]) -> None:
        self._config = config
        self._board = place.board if config.front_ends > 1 else None
        """None: there are no others to share it with."""
        self._slots = place.slots
        self._report = report
        registry = Registry(place.process * SERVICES_OF_A_PROCESS)
        events = PoolEvents(
            ready=lambda index: report(Event("worker-ready", "", index, self.pool.workers[index].restarts)),
            failed=lambda index, why: report(Event("worker-failed", why, index, self.pool.workers[index].restarts)),
            moved=lambda *moved: metrics.moved(*moved),  # noqa: PLW0108  metrics are made after the pool
        )
        preload = (*config.preload, *config.pinned)
        self.pool = WorkerPool(len(config.workers), registry, preload, events, self._board)
        prefetcher = Prefetcher(self.pool)
        self.dispatcher = Dispatcher(
            self.pool,
            policy(config.balance, config.seed, place.number, config.front_ends),
            queue=config.limits.queue,
            max_batch=config.max_batch,
            batch_wait_s=config.batch_wait_s,
            worker_timeout_s=config.worker_timeout_s,
            wait_s=config.start_timeout_s,
            stuck=lambda index, why: report(Event("stuck", why, index, self.pool.workers[index].restarts)),
            prefetcher=prefetcher if config.prefetch and config.balance == "predicted" else None,
        )
        on_gpus = {worker.device for worker in config.workers} - {"cpu"}
        metrics = Metrics(
            self.pool.workers,
            registry,
            self.dispatcher.counts,
            prefetcher.hints,
            lambda: hardware.gpus(config.visible_gpus) if on_gpus else (),
            place.board.deaths,
        )
        self.fetcher = Fetcher(config.allow_urls)
        self.bodies = bodies = Bodies(config.limits, self._board)
        self.fellows = fellows = Fellows(
            place.folder,
            place.number,
            config.front_ends,
            lambda: self.catalogue.follow(),  # noqa: PLW0108  it is made after the fellows
            metrics.tally,
        )
        self.catalogue = Catalogue(registry, self.pool, fellows, place.folder)
        creator = Creator(config, registry, self.pool, self.catalogue)
        api = make_api(importlib.metadata.version("dlserve"))
        api.include_router(services.router(registry, self.pool, creator, fellows, bodies, self._facts()))
        api.include_router(ops.router(self.pool, metrics, fellows))
        loader = Loader(config.models_dir, registry, self.catalogue, creator)
        api.include_router(kserve.router(registry, self.pool, loader, fellows, bodies, config.limits))
        self._calls = Calls(config.api_key, bodies, registry, self.dispatcher, metrics)
        predict, infer = Predict(config, bodies, self.fetcher), Infer(config.limits, bodies)
        self.app = App(api, self._calls, predict, infer, config.api_key)

    def _facts(self) -> dict[str, object]:
        """The settings that a measurement must name."""
        config = self._config
        return {
            "max_batch": config.max_batch,
            "batch_wait_ms": config.batch_wait_s * 1e3,
            "balance": config.balance,
            "prefetch": config.prefetch and config.balance == "predicted",
            "eviction": config.eviction,
            "pinned": config.pinned,
            "drop_page_cache": config.drop_page_cache,
            "queue": config.limits.queue,
            "threads_per_worker": [worker.threads for worker in config.workers],
            "front_ends": config.front_ends,
        }

    async def begin(self) -> None:
        """Know the services. Raises StartError."""
        await self.fellows.start()
        await self.catalogue.begin(self._config.models_dir)

    async def run(self, commands: asyncio.StreamReader, http: socket.socket, workers: socket.socket) -> None:
        """Serve until told to stop, then finish what is running."""
        loop = asyncio.get_running_loop()
        links = await loop.create_unix_server(lambda: Link(self.pool, self._slots), sock=workers)
        settings = uvicorn.Config(
            self.app,
            http=Protocol if self._board is None else counting_protocol(self._board),
            interface="asgi3",  # uvicorn would look for a coroutine function
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=max(1, round(self._config.drain_timeout_s)),
            backlog=2048,
        )
        server = _Server(settings, lambda: self._started(dealing))
        dealing = None if self._board is None else Dealing(http, server, self._board)
        background = [
            asyncio.create_task(self.dispatcher.sweep()),
            asyncio.create_task(self.bodies.sweep()),
            asyncio.create_task(close_idle(server.server_state)),
            asyncio.create_task(_obey(commands, server, dealing)),
        ]
        await server.serve(sockets=[http] if dealing is None else [])
        log.info("drained: %d predict calls accepted, %d answered", self._calls.accepted, self._calls.answered)
        self._report(Event("drained"))
        await self.pool.wait_empty()
        for task in background:
            task.cancel()
        links.close()
        self.fellows.close()
        await self.fetcher.close()

    def _started(self, dealing: Dealing | None) -> None:
        if dealing is not None:
            dealing.start()
        self._report(Event("ready"))


async def _obey(commands: asyncio.StreamReader, server: uvicorn.Server, dealing: Dealing | None) -> None:
    """Stop when told; vanish when the supervisor has."""
    while await commands.readline():  # "stop" is the only command
        if dealing is not None and not server.should_exit:
            await dealing.close()
        server.should_exit = True
    os._exit(1)


async def _beat(board: Board) -> None:
    """Tell the supervisor that the event loop turns."""
    while True:
        board.beat()
        await asyncio.sleep(BEAT_S)


async def _main(given: argparse.Namespace) -> int:
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=given.fd))
    config = msgspec.json.decode(await reader.readline(), type=Config)
    several = config.front_ends > 1
    logs.configure(f"front-{given.number}" if several else "front", config.log_format)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # the supervisor says when the server starts and stops
    board = Board(given.board_fd, config.front_ends, len(config.workers), given.number)
    beating = asyncio.create_task(_beat(board))
    place = Place(given.number, given.process, given.folder, board, Lender(given.bodies_fd))
    try:
        front = FrontEnd(config, place, lambda event: writer.write(line(event)))
        await front.begin()
    except StartError as exc:
        writer.write(line(Event("failed", str(exc))))
        await writer.drain()
        return START_FAILED
    await front.run(reader, socket.socket(fileno=given.http_fd), socket.socket(fileno=given.workers_fd))
    beating.cancel()
    return 0


def main() -> int:
    """Parse the inherited descriptors and run."""
    options = argparse.ArgumentParser(
        prog="dlserve.front", description="started by dlserve; not meant to be run by hand"
    )
    for name in ("--fd", "--http-fd", "--workers-fd", "--board-fd", "--bodies-fd", "--number", "--process"):
        options.add_argument(name, type=int, required=True)
    options.add_argument("--folder", type=Path, required=True)
    given = options.parse_args()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # they may reach the whole group; the supervisor decides what they mean
        signal.signal(number, signal.SIG_IGN)
    return uvloop.run(_main(given))


if __name__ == "__main__":
    sys.exit(main())
