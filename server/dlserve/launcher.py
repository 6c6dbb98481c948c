"""Starts the server's processes, and holds what each of them inherits: the port, the workers' sockets, shared memory."""

import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
from dlmodels.engines.host import allocating

from dlserve import slots
from dlserve.board import Board
from dlserve.board import make as make_board
from dlserve.child import FRONT, Child, is_front
from dlserve.config import Config
from dlserve.control import line
from dlserve.worker.settings import WorkerSettings


class Launcher:
    """Makes front ends and workers, the first time and again."""

    def __init__(self, config: Config, folder: Path, http: socket.socket, engines: tuple[str, ...]) -> None:
        """`folder`: for sockets, deleted by the caller. `http`: the port. `engines`: what the models need from the start."""
        self._config = config
        self._folder = folder
        self._http = http
        self._engines = engines
        self._several = config.front_ends > 1
        self._front_sockets = tuple(str(folder / f"workers-{place}.sock") for place in range(config.front_ends))
        """Where the workers find each front end."""
        self._listeners: list[socket.socket] = []
        self._processes = itertools.count()
        """Of front ends."""

    def open(self) -> None:
        """Listen for workers, whichever front ends will answer them, and make the memory that is shared: the front ends' board, and
        the slots for bodies of each.
        """
        for path in self._front_sockets:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen(len(self._config.workers) * 2)
            self._listeners.append(listener)
        self._board_fd = make_board(self._config.front_ends, len(self._config.workers))
        self._body_fds = tuple(slots.make() for _ in self._front_sockets)

    def board(self) -> Board:
        """The board, as the supervisor sees it."""
        return Board(self._board_fd, self._config.front_ends, len(self._config.workers))

    def name(self, number: int) -> str:
        """What messages call a child."""
        if not is_front(number):
            return f"worker {number}"
        return f"front end {FRONT - number}" if self._several else "front end"

    def front(self, number: int) -> Child:
        """Start a front end."""
        place = FRONT - number
        deals, http = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if self._several else (None, self._http)
        descriptors = {
            "--http-fd": http.fileno(),
            "--workers-fd": self._listeners[place].fileno(),
            "--board-fd": self._board_fd,
            "--bodies-fd": self._body_fds[place],
        }
        told = descriptors | {"--number": place, "--process": next(self._processes)}
        arguments = ["--folder", str(self._folder), *(text for pair in told.items() for text in map(str, pair))]
        child = self._spawn(number, "dlserve.front", arguments, self._config, *descriptors.values())
        if deals is not None:
            http.close()
            deals.setblocking(False)
            child.deals = deals
        return child

    def worker(self, number: int, generation: int) -> Child:
        """Start a worker; `generation` counts its restarts from 0."""
        config, plan = self._config, self._config.workers[number]
        settings = WorkerSettings(
            worker=number,
            generation=generation,
            device=plan.device,
            threads=plan.threads,
            decode_threads=plan.threads,
            decode_in_turn=plan.device == "cpu" and plan.threads == 1,
            budget_bytes=plan.budget_bytes,
            host_bytes=plan.host_bytes,
            eviction=config.eviction,
            pinned=config.pinned,
            drop_page_cache=config.drop_page_cache,
            max_batch=config.max_batch,
            batch_wait_s=config.batch_wait_s,
            max_pixels=config.limits.pixels,
            max_images=config.limits.images,
            max_body_bytes=config.limits.body_bytes,
            front_sockets=self._front_sockets,
            body_fds=self._body_fds,
            data_roots=config.data_roots,
            engines=self._engines,
            visible_gpus=config.visible_gpus,
            log_format=config.log_format,
        )
        return self._spawn(number, "dlserve.worker", [], settings, *self._body_fds)

    def _spawn(self, number: int, module: str, arguments: list[str], settings: msgspec.Struct, *fds: int) -> Child:
        ours, theirs = socket.socketpair()
        threads = 1 if is_front(number) else self._config.workers[number].threads
        process = subprocess.Popen(  # noqa: S603  our own modules
            [sys.executable, "-m", module, "--fd", str(theirs.fileno()), *arguments],
            pass_fds=(theirs.fileno(), *fds),
            stdin=subprocess.DEVNULL,
            process_group=0,  # a Ctrl-C in the terminal reaches only the supervisor, which drains
            env=allocating(os.environ) | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"},
        )
        theirs.close()
        ours.sendall(line(settings))
        return Child(number, self.name(number), process, ours)
