"""A simulation from its task to its account."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from dlmodels.engines.simulated import parse_profile
from dlmodels.errors import ModelError
from dlmodels.repository import scan
from dlmodels.spec import ModelSpec

from dlserve import cli
from dlserve.errors import StartError
from dlserve.eviction import Eviction
from dlserve.front.policies import policy
from dlserve.simulation.account import Account, Answer, Arrival, Task
from dlserve.simulation.front import SimulatedFront
from dlserve.simulation.timeline import Timeline
from dlserve.simulation.worker import Done, Listener, SimulatedWorker

MIB = 1 << 20
UNPINNED_ROUNDS = 2
"""Of a warm-up by workers that are not chosen; as in the stream load tester."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is simulated. The services are numbered as their models stand in `specs`."""

    specs: Sequence[ModelSpec]
    workers: int
    balance: str
    budget_bytes: int
    host_bytes: int = 0
    eviction: Eviction = "value"
    max_batch: int = 32
    batch_wait_s: float = 0.0
    queue: int = 128
    prefetch: bool = True
    seed: int = 0
    """Of the policies that draw."""
    overhead_s: float = 0.0


def simulate(server: Server, arrivals: Sequence[Arrival], *, warm_up: Sequence[str] | None = None) -> Account:
    """Play the arrivals, given in the order of their due times, after a warm-up (None: with every service).

    Raises StartError naming what cannot be simulated.
    """
    run = _Run(server, arrivals)
    try:
        run.warm_up([spec.name for spec in server.specs] if warm_up is None else warm_up)
        return run.play()
    except ModelError as exc:
        raise StartError(f"this cannot be simulated: {exc}") from exc


def read_server(task: Task) -> Server:
    """The server that a task's options start. Raises StartError; exits with 2 and a sentence where `dlserve` would."""
    options = cli.parser().parse_args(list(task.options))
    for name, option in (("models_dir", "--models-dir"), ("workers", "--workers"), ("cache_mb", "--cache-mb")):
        if getattr(options, name) is None:
            raise StartError(f"a simulated machine has no size of its own: give {option} among the options")
    try:
        specs = [_changed(spec, task) for spec in scan(Path(options.models_dir))]
    except ModelError as exc:
        raise StartError(str(exc)) from exc
    if others := [spec.name for spec in specs if spec.engine != "simulated"]:
        raise StartError(
            f"{', '.join(others)}: of another engine than simulated; `dlmodels profile` makes simulated models of a measured stream"
        )
    if options.preload or options.pin:
        raise StartError(
            "--preload and --pin are not simulated: leave them out (every model runs once before the clock)"
        )
    return Server(
        specs=specs,
        workers=options.workers,
        balance=options.balance,
        budget_bytes=options.cache_mb * MIB,
        host_bytes=(options.host_cache_mb or 0) * MIB,
        eviction=options.eviction,
        max_batch=options.max_batch,
        batch_wait_s=options.batch_wait / 1000,
        queue=options.queue,
        prefetch=options.prefetch and options.balance == "predicted",
        seed=options.seed,
        overhead_s=task.overhead_s,
    )


def _changed(spec: ModelSpec, task: Task) -> ModelSpec:
    """With the task's jitter and seed. Each service keeps draws of its own: its name is a part of the generator's seed."""
    changes = {name: value for name, value in (("jitter", task.jitter), ("seed", task.seed)) if value is not None}
    return msgspec.structs.replace(spec, parameters=spec.parameters | changes) if changes else spec


class _Run:
    def __init__(self, server: Server, arrivals: Sequence[Arrival]) -> None:
        self._server = server
        self._arrivals = arrivals
        self._numbers = {spec.name: number for number, spec in enumerate(server.specs)}
        self._check({one.service for one in arrivals})
        self._timeline = Timeline()
        try:
            self._sizes = [parse_profile(spec).bytes for spec in server.specs]
            self._front = SimulatedFront(
                len(server.specs),
                self._timeline,
                policy(server.balance, server.seed),
                self._workers,
                self._sizes,
                queue=server.queue,
                prefetch=server.prefetch,
                max_batch=server.max_batch,
                batch_wait_s=server.batch_wait_s,
                way_s=server.overhead_s / 2,
            )
        except ModelError as exc:
            raise StartError(f"this cannot be simulated: {exc}") from exc
        self._answers: list[Answer | None] = [None] * len(arrivals)

    def _workers(self, listener: Listener) -> list[SimulatedWorker]:
        server = self._server
        return [
            SimulatedWorker(
                index,
                server.specs,
                self._timeline,
                listener,
                budget_bytes=server.budget_bytes,
                host_bytes=server.host_bytes,
                eviction=server.eviction,
                max_batch=server.max_batch,
                batch_wait_s=server.batch_wait_s,
            )
            for index in range(server.workers)
        ]

    def _check(self, services: Collection[str]) -> None:
        if strangers := sorted(set(services) - set(self._numbers)):
            raise StartError(f"there is no model {', '.join(strangers)}: the models are {', '.join(self._numbers)}")

    def warm_up(self, services: Sequence[str]) -> None:
        """Run services one after the other, as `Task.warm_up` says; the workers side by side."""
        self._check(services)
        numbers = [self._numbers[service] for service in services]
        if sum(self._sizes[number] for number in numbers) <= self._server.budget_bytes:
            for worker in self._front.workers:
                self._ask_in_turn([partial(self._front.pin, worker.index, number) for number in numbers])
        else:
            self._ask_in_turn([partial(self._front.predict, number) for number in numbers * UNPINNED_ROUNDS])
        self._timeline.run()

    def _ask_in_turn(self, requests: Sequence[Callable[[Callable[[int, Done], None]], object]]) -> None:
        """Each once the one before is answered."""
        coming = iter(requests)

        def go_on(*_: object) -> None:
            if request := next(coming, None):
                request(go_on)

        go_on()

    def play(self) -> Account:
        """From the clock's beginning to the last answer."""
        front, began_s = self._front, self._timeline.now
        loads, evictions, busy_s = front.loads, front.evictions, [worker.busy_s for worker in front.workers]
        for index, arrival in enumerate(self._arrivals):
            self._plan(began_s + arrival.due_s, index, self._numbers[arrival.service])
        self._timeline.run()
        return Account(
            answers=tuple(self._answers),
            loads=front.loads - loads,
            evictions=front.evictions - evictions,
            busy_s=tuple(worker.busy_s - before for worker, before in zip(front.workers, busy_s, strict=True)),
            ended_s=self._timeline.now - began_s,
            expected_load_s={
                name: front.expectations[number].expected_load_s() for name, number in self._numbers.items()
            },
        )

    def _plan(self, due_s: float, index: int, service: int) -> None:
        def answered(worker: int, done: Done) -> None:
            self._answers[index] = Answer(
                self._timeline.now - due_s, done.load_s, done.forward_s, done.cache, worker, done.batch_size
            )

        self._timeline.at(due_s, lambda: self._front.predict(service, answered))
