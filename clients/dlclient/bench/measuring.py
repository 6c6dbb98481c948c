"""One point, from its subject to its figures: what all questions share, and those that are asked here."""

import importlib
from collections.abc import Callable, Mapping
from typing import cast

import msgspec
from dlmodels.zoo.catalog import CATALOG

from dlclient.bench import figures, warming
from dlclient.bench.calls import failure_kind
from dlclient.bench.inproc import InProcess
from dlclient.bench.job import Ended, Entered, Event, Job, Progress
from dlclient.bench.remote import Server
from dlclient.bench.timing import Limits, Timed
from dlclient.bench.timing import measure as timed_part
from dlclient.bench_result import Card, Load, Point, Sample
from dlclient.errors import PointError

DIFFERENT_BATCHES = 4
"""How many take turns: a late answer to one shows as that to another."""

SLOW_S = 2.0
"""Where the first inference took longer, two must do: each is inferred twice before the clock."""

Tell = Callable[[Event], None]


def measure(job: Job, tell: Tell, started: Callable[[], None] = lambda: None) -> Ended:
    """Start, open and measure the subject, then close it. `started` is called once its framework is imported. Raises PointError."""
    subject = InProcess(job) if job.setting.target == "inproc" else Server(job)
    try:
        return _Measurement(job, tell, subject).run(started)
    finally:
        subject.close()


class _Measurement:
    def __init__(self, job: Job, tell: Tell, subject: InProcess | Server) -> None:
        self._job = job
        self._budget = job.budget
        self._setting = job.setting
        self._tell = tell
        self._subject = subject

    def run(self, started: Callable[[], None]) -> Ended:
        job, subject = self._job, self._subject
        self._enter("start", self._budget.start_timeout_s)
        subject.start()
        started()
        self._enter("prepare", self._budget.prepare_timeout_s)
        load = subject.open()
        in_flight = self._in_flight()
        self._enter(
            "load", self._budget.prepare_timeout_s
        )  # the first inference may compile, or load what is loaded late
        first_run_s = self._first_run()
        bare = self._bare(msgspec.structs.replace(load, first_run_s=first_run_s), in_flight)
        match self._setting.question:
            case "load":
                return Ended(self._loads(bare))
            case "accuracy":
                module = importlib.import_module("dlclient.bench.accuracy")  # needed nowhere else
                return Ended(_completed(bare, module.measure(job, subject, self._tell)))
            case _:
                return self._timed(bare, in_flight)

    def _enter(self, stage: str, timeout_s: float) -> None:
        self._tell(Entered(stage, timeout_s))

    def _progress(self, fraction: float) -> None:
        self._tell(Progress(fraction))

    def _in_flight(self) -> int:
        """How many inferences at a time. 0 in the setting: as many as the engine finds best. Raises PointError."""
        asked, most = self._setting.in_flight, self._subject.most_in_flight
        if self._setting.question not in ("throughput", "utilization"):
            if asked > 1:
                raise PointError(
                    f"{asked} in flight is a question of throughput: ask for that, or leave in_flight out",
                    kind="unsupported",
                )
            return 1
        if asked == 0 and isinstance(self._subject, Server):
            raise PointError("how many in flight are best for a server is not known: say how many", kind="unsupported")
        if asked > most:
            raise PointError(
                f"the engine runs {most} batch{'es' if most > 1 else ''} at a time here, not {asked}: ask for that many (openvino:"
                ' with hint = "throughput"), use another engine, or ask a server',
                kind="unsupported",
            )
        return asked or most

    def _first_run(self) -> float:
        (batch,) = self._subject.inputs(self._setting.batch_size, 1)
        timed = timed_part(self._subject.infer, [batch], 1, Limits(1, 0.0, 0.0))
        sample = timed.samples[0]
        if sample.error:
            raise PointError(f"the first inference failed: {sample.error}", kind=failure_kind(sample.error))
        return sample.latency_s

    def _bare(self, load: Load, in_flight: int) -> Point:
        """All that is known of the point before anything is timed."""
        subject = self._subject
        read_back = dict(subject.read_back)
        if in_flight > 1 or self._setting.in_flight == 0:
            read_back["in_flight"] = in_flight
        return Point(
            id=self._setting.id,
            setting=self._setting,
            started="",
            seconds=0.0,
            scope=subject.scope,
            simulated=subject.simulated,
            read_back=read_back,
            model_bytes=subject.weights_bytes,
            card=self._card(),
            load=load,
        )

    def _card(self) -> Card | None:
        subject = self._subject
        name = subject.spec.architecture if isinstance(subject, InProcess) else subject.architecture
        network = CATALOG.get(name) or CATALOG.get(self._setting.model)
        if network is None or subject.simulated:
            return None
        return Card(
            parameters=network.parameters,
            macs=network.macs,
            top1=None if network.top1 is None else network.top1 / 100,
            top1_source=network.top1_source,
        )

    def _loads(self, bare: Point) -> Point:
        """Reloads, and the first inference after each."""
        reloads, first_runs = [], []
        (batch,) = self._subject.inputs(self._setting.batch_size, 1)
        for number in range(self._job.reloads):
            self._enter("load", self._budget.prepare_timeout_s)
            self._progress(number / self._job.reloads)
            reloads.append(self._subject.reopen())
            told = timed_part(self._subject.infer, [batch], 1, Limits(1, 0.0, 0.0)).samples[0]
            if told.error:
                raise PointError(
                    f"the first inference after reload {number + 1} failed: {told.error}", kind=failure_kind(told.error)
                )
            first_runs.append(told.latency_s)
        assert bare.load is not None
        load = msgspec.structs.replace(bare.load, reload_s=tuple(reloads), first_runs_s=tuple(first_runs))
        return msgspec.structs.replace(bare, load=load)

    def _timed(self, bare: Point, in_flight: int) -> Ended:
        """Latency and throughput: warm up, then the timed part."""
        budget, subject = self._budget, self._subject
        assert bare.load is not None
        first_run_s = bare.load.first_run_s or 0.0
        number = self._job.different_batches or (DIFFERENT_BATCHES if first_run_s < SLOW_S else 2)
        getting_ready_s = 4 * number * (first_run_s + 1)
        self._enter("warm-up", getting_ready_s + budget.warm_up_max_s + budget.iteration_timeout_s)
        batches = subject.inputs(self._setting.batch_size, number)
        warmed = warming.warm_up(subject.infer, batches, in_flight, budget, progress=self._progress)
        warning = warming.warning(warmed, budget)
        self._enter("measure", max(budget.max_s, budget.min_s) + budget.iteration_timeout_s)
        before_s = subject.transform_total_s() if isinstance(subject, Server) else None
        bare = msgspec.structs.replace(
            bare, warming=warmed, warnings=(warning,) if warning else (), reasons=subject.reasons
        )
        samples: tuple[Sample, ...] = ()

        def run() -> Timed:
            return timed_part(subject.infer, batches, in_flight, Limits.of(budget), progress=self._progress)

        def point_of(timed: Timed) -> Point:
            nonlocal samples
            samples = timed.samples
            known = _with_servers_part(bare, subject, timed, before_s) if isinstance(subject, Server) else bare
            return figures.measured(known, timed, budget)

        if self._setting.question == "utilization":
            module = importlib.import_module("dlclient.bench.utilization")  # needed nowhere else
            point: Point = module.measure(self._job, subject, self._tell, run, point_of)
        else:
            point = point_of(run())
        return Ended(point, samples)


def _with_servers_part(bare: Point, server: Server, timed: Timed, before_s: float | None) -> Point:
    """What only the server, or only its client, tells."""
    after_s = None if before_s is None else server.transform_total_s()
    transform_s = None if before_s is None or after_s is None else (after_s - before_s) / len(timed.samples)
    return msgspec.structs.replace(bare, transform_s=transform_s, client_cost_s=server.client_cost_s())


def _completed(bare: Point, found: Point) -> Point:
    """A point of another module's, with what it left out and is known here."""
    known = {
        name: getattr(bare, name) for name in ("load", "card", "model_bytes", "read_back") if not getattr(found, name)
    }
    return msgspec.structs.replace(found, **cast("Mapping[str, object]", known), simulated=bare.simulated)
