"""Starts, watches, restarts and drains the front ends and the workers. It serves nothing itself.

Its life is one loop of wait, signals, liveness: it waits on the children's processes (pidfds), their control channels
and a socket that signals are written to. A child that ends is replaced; one that cannot start ends the start-up.
"""

import logging
import math
import selectors
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from dlmodels.repository import ModelSpec

from dlserve import initial_models, logs
from dlserve.child import FRONT, Child, describe_exit, is_front
from dlserve.config import MIB, Config
from dlserve.control import Event
from dlserve.errors import StartError
from dlserve.launcher import Launcher
from dlserve.port import Dealer, bind
from dlserve.pulse import Pulse, look_every_s

log = logging.getLogger(__name__)
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
"""Between restarts of a worker that keeps dying before it is ready; doubled from the first each time."""
KILL_AFTER_S = 5.0
"""How long a child that was told to stop may take beyond the drain."""
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
        self._failed_starts = dict.fromkeys((*self._fronts, *range(len(config.workers))), 0)
        """Per child, since it last worked."""
        self._away: set[int] = set()
        """Children that worked, died and are not back yet."""
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._look_every_s = look_every_s(config.front_end_timeout_s)
        self._serving: set[tuple[int, int]] = set()
        """(front end, worker) where the worker takes the front end's requests."""
        self._dealer: Dealer | None = None
        """None: the one front end accepts for itself."""
        self._up = False
        self._stopped_at = -math.inf
        self._exit_code: int | None = None
        self._why = ""

    # ---- the whole run

    def run(self) -> int:
        """Serve until stopped; the exit code. Raises StartError if it cannot start."""
        logs.configure("supervisor", self._config.log_format)
        specs = initial_models.read(self._config)
        self._http = bind(self._config.host, self._config.port)
        folder = Path(tempfile.mkdtemp(prefix="dlserve-"))
        try:
            self._launcher = Launcher(self._config, folder, self._http, tuple(sorted({spec.engine for spec in specs})))
            self._launcher.open()
            self._board = self._launcher.board()
            if self._several:
                self._dealer = Dealer(self._http, self._selector, self._board, self._dealable)
            self._catch_signals()
            self._announce(specs)
            for number in (*self._fronts, *range(len(self._config.workers))):
                self._start(number)
            self._after(self._config.start_timeout_s, self._check_started)
            self._look_at_pulses()
            while self._exit_code is None or self._children:
                self._step()
        finally:
            for child in self._children.values():
                child.process.kill()
                child.process.wait()
            shutil.rmtree(folder, ignore_errors=True)
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

    def _start(self, number: int) -> None:
        child = (
            self._launcher.front(number)
            if is_front(number)
            else self._launcher.worker(number, self._generations[number])
        )
        self._children[number] = child
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda: self._ended(child))
        self._selector.register(child.channel, selectors.EVENT_READ, lambda: self._heard(child))

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

    def _look_at_port(self) -> None:
        """Let connections in while there is a front end to take them; else they wait."""
        if self._dealer is not None:
            self._dealer.accept(wanted=self._exit_code is None and any(self._dealable()))

    def _dealable(self) -> list[Child]:
        """Front ends that can take a connection."""
        return [child for child in self._children.values() if child.is_front and child.ready]

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
                    child.pulse = Pulse(self._look_every_s)
                self._look_at_port()
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
                    log.info("%s is back", self._launcher.name(front))

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
        if child.is_front:
            self._board.clear(child.place)
        self._look_at_port()
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
            self._start(number)
            child = self._children[number]
            self._after(self._config.start_timeout_s, lambda: self._check_came_back(child))

    def _check_came_back(self, child: Child) -> None:
        """A replacement that hangs before it takes requests is itself replaced."""
        came_back = child.ready if child.is_front else any(child.number == worker for _, worker in self._serving)
        if self._children.get(child.number) is child and not came_back:
            log.error("%s takes no requests after %g s; replacing it", child.name, self._config.start_timeout_s)
            child.process.kill()

    # ---- front ends that stand still

    def _look_at_pulses(self) -> None:
        """Replace a front end whose event loop has not turned for too long; once it is to stop, it has the drain's time-out."""
        if self._exit_code is not None:
            return
        now = perf_counter()
        for child in self._children.values():
            if child.pulse is None:
                continue
            child.pulse.look(self._board.beats_of(child.place), now)
            if child.pulse.silent_s > self._config.front_end_timeout_s:
                why = f"its event loop has stood still for {child.pulse.silent_s:.1f} s"
                log.error("%s: %s; replacing it", child.name, why)
                child.pulse = None
                child.process.kill()
        self._after(self._look_every_s, self._look_at_pulses)

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
        if self._dealer is not None:
            self._dealer.close()
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
