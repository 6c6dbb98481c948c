"""Starts, watches, restarts and drains the front ends and the workers. It serves nothing itself.

Its life is one loop of wait, signals, liveness: it waits on the children's processes (pidfds), their control channels
and a socket that signals are written to. A child that ends is replaced; one that cannot start ends the start-up.

One front end listens to the port itself. Of several none does: the supervisor accepts, and deals each connection to the
one that has the fewest. (The kernel would deal them out by a hash of the client's port, SO_REUSEPORT, or to whoever wakes
first: 8 connections over 2 front ends are then 4 and 4 only once in four times, and those that wait for one that has died
are lost or wait for its successor.)
"""

import contextlib
import errno
import itertools
import logging
import math
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec
from dlmodels.engines.host import allocating
from dlmodels.errors import ModelError
from dlmodels.repository import ModelSpec, survey

from dlserve import board, logs
from dlserve.child import FRONT, Child, describe_exit, is_front
from dlserve.config import MIB, Config
from dlserve.control import Event, line
from dlserve.errors import StartError
from dlserve.worker.settings import WorkerSettings

log = logging.getLogger(__name__)
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
"""Between restarts of a worker that keeps dying before it is ready; doubled from the first each time."""
KILL_AFTER_S = 5.0
"""How long a child that was told to stop may take beyond the drain."""
MOST_ACCEPTED = 64
"""Connections dealt out at a time, before anything else is looked at."""
SAME_STOP_S = 0.5
"""Signals this close are one stop, sent to the process and to its group."""


class Supervisor:
    """One run of the server, from binding the port to the exit code."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._children: dict[int, Child] = {}
        self._generations = [0] * len(config.workers)
        self._fronts = [FRONT - place for place in range(config.front_ends)]
        self._several = config.front_ends > 1
        self._processes = itertools.count()
        """Of front ends."""
        self._failed_starts = dict.fromkeys((*self._fronts, *range(len(config.workers))), 0)
        """Per child, since it last worked."""
        self._away: set[int] = set()
        """Children that worked, died and are not back yet."""
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._folder = Path()
        self._serving: set[tuple[int, int]] = set()
        """(front end, worker) where the worker takes the front end's requests."""
        self._dealing = False
        """Whether clients' connections are being accepted."""
        self._up = False
        self._stopped_at = -math.inf
        self._exit_code: int | None = None
        self._why = ""

    # ---- the whole run

    def run(self) -> int:
        """Serve until stopped; the exit code. Raises StartError if it cannot start."""
        logs.configure("supervisor", self._config.log_format)
        specs = self._read_models()
        self._http = self._bind()
        self._folder = Path(tempfile.mkdtemp(prefix="dlserve-"))
        try:
            self._workers = [self._listen_for_workers(path) for path in self._worker_sockets()]
            if self._several:
                self._http.setblocking(False)
                self._board_fd = board.make(len(self._fronts), len(self._config.workers))
                self._board = board.Board(self._board_fd, len(self._fronts), len(self._config.workers))
            self._catch_signals()
            self._announce(specs)
            self._engines = tuple(sorted({spec.engine for spec in specs}))
            for number in self._fronts:
                self._start_front(number)
            for number in range(len(self._config.workers)):
                self._start_worker(number)
            self._after(self._config.start_timeout_s, self._check_started)
            while self._exit_code is None or self._children:
                self._step()
        finally:
            for child in self._children.values():
                child.process.kill()
                child.process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)
        if not self._up and self._why:
            raise StartError(self._why)
        return self._exit_code

    def _step(self) -> None:
        now = perf_counter()
        due = [timer for timer in self._timers if timer[0] <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for _, action in due:
            action()
        wait_s = max(0.0, min((at for at, _ in self._timers), default=now + 3600) - perf_counter())
        for key, _ in self._selector.select(wait_s):
            key.data()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append((perf_counter() + seconds, action))

    # ---- starting

    def _read_models(self) -> tuple[ModelSpec, ...]:
        """The models folder, read here only to fail early and clearly; the front end reads it for itself."""
        if not self._config.models_dir:
            specs: tuple[ModelSpec, ...] = ()
        else:
            try:
                found = survey(Path(self._config.models_dir))
            except ModelError as exc:
                raise StartError(str(exc)) from exc
            specs = found.models
            for skipped in found.skipped:
                log.warning("model folder %s is no service: %s", skipped.folder, skipped.reason)
        names = {spec.name for spec in specs}
        for option, asked in (("--preload", self._config.preload), ("--pin", self._config.pinned)):
            for name in asked:
                if name not in names and (option, name) != ("--preload", "all"):
                    raise StartError(
                        f"{option} {name}: there is no such model; there are: {', '.join(sorted(names)) or 'none'}"
                    )
        self._check_fit(specs)
        return specs

    def _check_fit(self, specs: tuple[ModelSpec, ...]) -> None:
        """Every model fits in a worker's cache, beside those that are pinned there."""
        budget = min(worker.budget_bytes for worker in self._config.workers)
        pinned = {spec.name: spec.weights_bytes for spec in specs if spec.name in self._config.pinned}
        for spec in specs:
            beside = sum(size for name, size in pinned.items() if name != spec.name)
            if spec.weights_bytes + beside > budget:
                pins = f" beside {beside / MIB:.0f} MiB that --pin keeps there" if beside else ""
                raise StartError(
                    f"not enough memory: model {spec.name} has {spec.weights_bytes / MIB:.0f} MiB of weights, a worker's "
                    f"cache holds {budget / MIB:.0f} MiB{pins}; raise --cache-mb, use fewer --workers, or move the model "
                    "away"
                )

    def _bind(self) -> socket.socket:
        host, port = self._config.host, self._config.port
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise StartError(
                    f"port {port} on {host} is taken by another program; stop it, or give another --port"
                ) from exc
            raise StartError(f"cannot listen on {host} port {port}: {exc.strerror}; change --host or --port") from exc
        return listener

    def _worker_sockets(self) -> tuple[str, ...]:
        """Where the workers find each front end."""
        return tuple(str(self._folder / f"workers-{place}.sock") for place in range(len(self._fronts)))

    def _listen_for_workers(self, path: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(len(self._config.workers) * 2)
        return listener

    def _announce(self, specs: tuple[ModelSpec, ...]) -> None:
        config = self._config
        if self._several:
            log.info("front ends: %d", len(self._fronts))
        log.info("models: %s", ", ".join(spec.name for spec in specs) or "none")
        if not specs:
            log.info("the server starts empty; build a model with: dlmodels build squeezenet1_1")
        for number, plan in enumerate(config.workers):
            log.info(
                "worker %d: %s, %d thread(s), up to %.0f MiB of weights%s",
                number,
                plan.device,
                plan.threads,
                plan.budget_bytes / MIB,
                f", {plan.host_bytes / MIB:.0f} MiB more in pinned memory" if plan.host_bytes else "",
            )
        log.info(
            "balancing: %s; batches up to %d images; queue: %d calls per worker",
            config.balance,
            config.max_batch,
            config.limits.queue,
        )

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
        child = Child(number, self._name(number), process, ours)
        ours.sendall(line(settings))
        self._children[number] = child
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._ended(child))
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._heard(child))
        return child

    def _name(self, number: int) -> str:
        if not is_front(number):
            return f"worker {number}"
        return f"front end {FRONT - number}" if self._several else "front end"

    def _start_front(self, number: int) -> None:
        place = FRONT - number
        deals, http = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if self._several else (None, self._http)
        descriptors = {"--http-fd": http.fileno(), "--workers-fd": self._workers[place].fileno()}
        if self._several:
            descriptors["--board-fd"] = self._board_fd
        told = descriptors | {"--number": place, "--process": next(self._processes)}
        arguments = ["--folder", str(self._folder), *(text for pair in told.items() for text in map(str, pair))]
        child = self._spawn(number, "dlserve.front", arguments, self._config, *descriptors.values())
        if deals is not None:
            http.close()
            deals.setblocking(False)
            child.deals = deals

    def _start_worker(self, number: int) -> None:
        config, plan = self._config, self._config.workers[number]
        settings = WorkerSettings(
            worker=number,
            generation=self._generations[number],
            device=plan.device,
            threads=plan.threads,
            decode_threads=plan.threads,
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
            front_sockets=self._worker_sockets(),
            data_roots=config.data_roots,
            engines=self._engines,
            visible_gpus=config.visible_gpus,
            log_format=config.log_format,
        )
        self._spawn(number, "dlserve.worker", [], settings)

    def _check_started(self) -> None:
        if self._up or self._exit_code is not None:
            return
        serving = {worker for _, worker in self._serving}
        waiting = [
            child.name for child in self._children.values() if not child.is_front and child.number not in serving
        ]
        waiting = waiting or [child.name for child in self._children.values() if child.is_front]
        self._give_up(
            f"start-up took longer than {self._config.start_timeout_s:g} s, still waiting for {', '.join(waiting)}; "
            "raise --start-timeout if the models are large"
        )

    def _give_up(self, why: str) -> None:
        """End the start-up: everything is killed, `run` raises."""
        self._why = self._why or why
        self._exit_code = 1
        for child in self._children.values():
            child.process.kill()

    # ---- what children do

    def _heard(self, child: Child) -> None:
        for event in child.events.read():
            self._take(child, event)
        if child.events.closed:  # it is about to end; if it does not, it can no longer be told to
            self._selector.unregister(child.channel)
            self._after(KILL_AFTER_S, lambda: child.process.kill() if child.process.returncode is None else None)

    def _take(self, child: Child, event: Event) -> None:
        if event.worker >= 0:
            if event.generation == self._generations[event.worker]:  # else it has been replaced since
                self._take_of_worker(child.number, event)
            return
        match event.event:
            case "ready":
                child.ready = True
                if child.is_front:
                    self._failed_starts[child.number] = 0
                    self._deal_if_ready()
                self._check_up()
            case "failed":
                self._failed(child.number, child.name, event.message)
            case "drained":
                child.drained = True
                if not self._draining():
                    self._stop_workers()

    def _take_of_worker(self, front: int, event: Event) -> None:
        """What a front end says of a worker."""
        match event.event:
            case "worker-ready":
                self._serving.add((front, event.worker))
                self._failed_starts[event.worker] = 0
                self._check_back()
                self._check_up()
            case "worker-failed":
                self._failed(event.worker, f"worker {event.worker}", event.message)
            case "stuck":
                log.error("worker %d: %s; replacing it", event.worker, event.message)
                if (stuck := self._children.get(event.worker)) is not None:
                    stuck.process.kill()

    def _failed(self, number: int, name: str, why: str) -> None:
        """A child that cannot do its work: the end of a start-up, else a new try after a pause."""
        if self._up:
            log.error("%s could not start: %s", name, why)
            if (failed := self._children.get(number)) is not None:
                failed.process.kill()
        else:
            self._give_up(f"{name} could not start: {why}")

    def _check_back(self) -> None:
        """Say which children have come back: workers that every front end can use, front ends that can use them all."""
        fronts = {child.number for child in self._children.values() if child.is_front}
        for worker in [number for number in self._away if not is_front(number)]:
            if all((front, worker) in self._serving for front in fronts):
                self._away.remove(worker)
                log.info("worker %d is back", worker)
        workers = [child.number for child in self._children.values() if not child.is_front]
        for front in [number for number in self._away if is_front(number)]:
            if front in fronts and all((front, worker) in self._serving for worker in workers):
                self._away.remove(front)
                if self._several:
                    log.info("%s is back", self._name(front))

    def _check_up(self) -> None:
        fronts = [child for child in self._children.values() if child.is_front and child.ready]
        if self._up or len(self._serving) < len(self._fronts) * len(self._config.workers):
            return
        if len(fronts) < len(self._fronts):
            return
        self._up = True
        host, port = self._http.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("ready: http://%s:%d (API: /docs, metrics: /metrics)", shown, port)

    def _ended(self, child: Child) -> None:
        code = child.process.wait()
        if not child.events.closed:  # its last words may still be there
            child.channel.setblocking(False)
            self._heard(child)
        self._selector.unregister(child.pidfd)
        if not child.events.closed:
            self._selector.unregister(child.channel)
        child.close()
        del self._children[child.number]
        self._serving = {pair for pair in self._serving if child.number not in pair}
        if child.is_front and self._several:
            self._board.clear(child.place)
            self._deal_if_ready()
        if self._exit_code is not None:
            if code != 0:
                self._exit_code = max(self._exit_code, int(child.is_front))
            if not self._draining():
                self._stop_workers()
            elif not child.is_front:
                self._restart(child.number)  # a front end still drains: its calls need every worker
            return
        if not self._up:
            self._give_up(f"{child.name} died while starting: {describe_exit(code)}; see the log above")
            return
        log.error("%s died: %s; replacing it", child.name, describe_exit(code))
        self._away.add(child.number)
        if not any(other.is_front for other in self._children.values()):
            self._away.update(range(len(self._config.workers)))  # no front end can use any
        self._restart(child.number)

    def _restart(self, number: int) -> None:
        if not is_front(number):
            self._generations[number] += 1
        failures = self._failed_starts[number]
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures) if failures else 0.0
        self._failed_starts[number] += 1
        self._after(pause_s, lambda: self._start_again(number))

    def _start_again(self, number: int) -> None:
        if self._exit_code is None or (not is_front(number) and self._draining()):
            if is_front(number):
                self._start_front(number)
            else:
                self._start_worker(number)
            child = self._children[number]
            self._after(self._config.start_timeout_s, lambda: self._check_came_back(child))

    def _check_came_back(self, child: Child) -> None:
        """A replacement that hangs before it takes requests is itself replaced."""
        came_back = child.ready if child.is_front else any(child.number == worker for _, worker in self._serving)
        if self._children.get(child.number) is child and not came_back:
            log.error("%s takes no requests after %g s; replacing it", child.name, self._config.start_timeout_s)
            child.process.kill()

    # ---- clients' connections, where there are several front ends

    def _deal_if_ready(self) -> None:
        """Accept connections while there is a front end to take them; else they wait."""
        wanted = self._several and self._exit_code is None and any(self._dealable())
        if wanted != self._dealing:
            self._dealing = wanted
            if wanted:
                self._selector.register(self._http, selectors.EVENT_READ, self._deal)
            else:
                self._selector.unregister(self._http)

    def _dealable(self) -> list[Child]:
        """Front ends that can take a connection."""
        return [child for child in self._children.values() if child.is_front and child.ready]

    def _deal(self) -> None:
        for _ in range(MOST_ACCEPTED):
            try:
                connection, _ = self._http.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                log.warning("a connection could not be accepted: %s", exc.strerror)
                return
            with connection:
                self._hand_over(connection)

    def _hand_over(self, connection: socket.socket) -> None:
        """Give a connection to the front end that has the fewest; one that is dying, or hangs, is passed over."""

        def connections(child: Child) -> tuple[int, int]:
            return child.dealt - self._board.closed_by(child.place), child.dealt

        for child in sorted(self._dealable(), key=connections):
            assert child.deals is not None
            with contextlib.suppress(OSError):
                socket.send_fds(child.deals, [b"\0"], [connection.fileno()])
                child.dealt += 1
                return
        log.warning("a connection was closed: no front end takes it")

    # ---- stopping

    def _catch_signals(self) -> None:
        """A handler only records: the number goes into a pipe that the loop reads."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        self._signal_sockets = (reader, writer)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._signalled(reader))

    def _signalled(self, reader: socket.socket) -> None:
        stops = [number for number in reader.recv(64) if number in (signal.SIGINT, signal.SIGTERM)]
        now = perf_counter()
        if not stops or now - self._stopped_at < SAME_STOP_S:
            return
        if self._exit_code is None and self._up:
            log.info("stopping: running requests are answered first (again to stop at once)")
            self._drain()
        else:
            log.warning("stopping at once")
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # a third one must not end it otherwise than the second
            self._kill_all(1)
        self._stopped_at = now

    def _drain(self) -> None:
        self._exit_code = 0
        if self._dealing:
            self._deal()
            self._deal_if_ready()
        self._http.close()  # so that, once the front end has closed its own, new connections are refused at once
        for child in self._children.values():
            if child.is_front:
                child.stop()
        if not self._draining():
            self._stop_workers()
        self._after(self._config.drain_timeout_s + KILL_AFTER_S, self._overdue)

    def _draining(self) -> bool:
        """Whether a front end still needs the workers."""
        return any(child.is_front and not child.drained for child in self._children.values())

    def _stop_workers(self) -> None:
        for child in self._children.values():
            if not child.is_front:
                child.stop()

    def _overdue(self) -> None:
        if self._children:
            log.error("not drained within --drain-timeout %g s; stopping at once", self._config.drain_timeout_s)
            self._kill_all(1)

    def _kill_all(self, code: int) -> None:
        self._exit_code = code
        self._timers.clear()
        for child in self._children.values():
            child.process.kill()
