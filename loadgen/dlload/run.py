"""One run of the stream, from its options to its result: prepare, conduct, finish. Knows nothing of Locust."""

import gc
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from dlclient.client import Client
from dlclient.environment import environment
from dlclient.errors import ResultError
from dlclient.limits import parse_limits
from dlclient.results import SCHEMA, PlanFacts, Record, Run
from dlclient.results import Phase as PhaseResult
from dlclient.results import Target as TargetFacts
from dlclient.statistics import summarize, temperatures

from dlload import pictures, verdict, warmup
from dlload.connection import Connection
from dlload.errors import OptionError, RecordError, StreamError, TargetError
from dlload.options import StreamOptions
from dlload.phase import Phase
from dlload.plan import Plan, draw
from dlload.protocols.base import Protocol
from dlload.protocols.deepdetect import DeepDetect
from dlload.protocols.raw import Raw
from dlload.recorder import Recorder, new_folder, open_recorder
from dlload.sender import Sender
from dlload.target import Target, find_target, look_at, protocol_name

logger = logging.getLogger(__name__)

PROGRESS_S = 5.0
_LAST_LOOK_S = 5.0
"""How long the server may take to say, at the end, whether its workers are still the same."""
_PROTOCOLS: Mapping[str, type[Protocol]] = {kind.name: kind for kind in (DeepDetect, Raw)}


@dataclass(frozen=True, slots=True)
class Material:
    """All that a run sends and to whom."""

    options: StreamOptions
    target: Target
    plan: Plan
    plan_facts: PlanFacts
    protocol: Protocol
    images: Mapping[str, bytes]
    """Name -> content as the protocol encodes it."""
    limits: bytes | None = None
    """Content of limits.json."""


def prepare(options: StreamOptions) -> Material:
    """Find the server, draw the plan, read and encode the images. Raises StreamError."""
    limits = _limits(options.limits) if options.limits else None
    with Client(options.url, options.api_key, options.timeout_s) as client:
        target, services = find_target(client, options)
    album = pictures.open_album(options.images)
    plan = draw(
        seed=options.seed,
        requests=options.requests,
        services=services,
        mix=options.mix,
        images=album.names,
        batch_size=options.batch_size,
    )
    contents = album.read(name for slot in plan.slots for name in slot.images)
    facts = PlanFacts(
        seed=options.seed,
        requests=options.requests,
        services=plan.header.services,
        mix=options.mix,
        images=album.source,
        image_count=len(contents),
        image_bytes=sum(map(len, contents.values())),
        image_sha256=pictures.digest(contents),
        batch_size=options.batch_size,
        users=0,
        phases=options.phases,
        sha256=plan.sha256(),
    )
    protocol = _PROTOCOLS[protocol_name(options, target)](options.url, options.api_key)
    images = {name: protocol.encode(content) for name, content in contents.items()}
    return Material(options, target, plan, facts, protocol, images, limits)


def _limits(path: Path) -> bytes:
    """The file as it is, once it is sure that a report can read it. Raises OptionError."""
    try:
        content = path.read_bytes()
        parse_limits(content, path)
    except OSError as exc:
        raise OptionError(
            f"--limits {path}: cannot be read: {exc.strerror}; make it with: dlmodels limits --output {path}"
        ) from exc
    except ResultError as exc:
        raise OptionError(f"--limits: {exc}") from exc
    return content


def start_run(options: StreamOptions, run_number: int = 1) -> "StreamRun":
    """Prepare, then make the result folder, so that what is missing is said before anything is sent.

    Raises StreamError.
    """
    material = prepare(options)
    folder = new_folder(options.results, overwrite=options.overwrite, run_number=run_number, now=time.localtime())
    recorder = open_recorder(folder)
    recorder.save_plan(material.plan)
    if material.limits is not None:
        recorder.save_limits(material.limits)
    logger.info(
        "%d requests a phase to %s by %s; phases %s; seed %d; results in %s",
        options.requests,
        ", ".join(material.plan.header.services),
        material.protocol.name,
        ", ".join(options.phases),
        options.seed,
        folder,
    )
    return StreamRun(material, recorder)


class StreamRun:
    """`conduct` opens the phases, senders empty them, `finish` writes the result; `stop` may come at any time."""

    def __init__(self, material: Material, recorder: Recorder) -> None:
        self.folder = recorder.folder
        self._material = material
        self._target = material.target
        self._recorder = recorder
        self._phases = [Phase(name, material.plan.slots, self._write) for name in material.options.phases]
        self._ended_by = ""
        self._users: list[int] = []
        self._started = _now()
        self._environment = environment()  # now: measuring changes some of it, and the end may be in a hurry

    def sender(self, observe: Callable[[Record], None]) -> Sender:
        """A new user."""
        return Sender(self._phases, self._material.protocol, self._material.images, self._connect(), observe)

    def users_are(self, count: int) -> None:
        """Note how many users there are now."""
        self._users.append(count)

    def conduct(self) -> None:
        """Open the phases one after the other and see each to its end. Returns early if the run is stopped."""
        try:
            for phase in self._phases:
                self._warm_up(phase.name)
                gc.collect()
                gc.freeze()  # what exists now need not be looked through again within the measured time
                if self._ended_by:
                    return
                phase.open()
                while not phase.ended.wait(PROGRESS_S):
                    logger.info(_progress(phase))
                logger.info(_progress(phase))
                if phase.gave_up:
                    self._end(f"{phase.name}: the server stopped answering ({phase.records[-1].error})")
                if self._ended_by:
                    return
        except StreamError as exc:
            self._end(str(exc))
        finally:
            gc.unfreeze()

    def stop(self, why: str) -> None:
        """End before the plan is done; does nothing after that."""
        if not all(phase.ended.is_set() for phase in self._phases):
            self._end(why)

    def finish(self) -> Run:
        """Judge, summarize, write run.json; once nobody sends any more. Raises RecordError."""
        self._recorder.close()
        plan = self._material.plan.header
        restarted = self._restarted_workers()
        judgements = [
            verdict.judge_phase(phase.records, verdict.Expected(phase.name, phase.name, plan.requests))
            for phase in self._phases
        ]
        simulated = [service for service in plan.services if service in self._target.simulated]
        circumstances = verdict.Circumstances(
            interrupted=self._ended_by,
            simulated=simulated,
            users=self._users,
            requests=plan.requests,
            restarted_workers=restarted,
            environment=self._environment,
        )
        judgement = verdict.judge_run(judgements, circumstances)
        options = self._material.options
        run = Run(
            schema=SCHEMA,
            kind="stream",
            started=self._started,
            finished=_now(),
            interrupted=bool(self._ended_by),
            verdict=judgement.verdict,
            reasons=judgement.reasons,
            warnings=judgement.warnings,
            simulated=bool(simulated),
            timed_scope="client",
            plan=msgspec.structs.replace(self._material.plan_facts, users=max(self._users, default=0)),
            target=TargetFacts(url=options.url, protocol=self._material.protocol.name, info=self._target.info),
            environment=self._environment,
            phases=self._phase_results(judgements),
        )
        self._recorder.save_run(run)
        return run

    def _write(self, record: Record) -> None:
        try:
            self._recorder.write(record)
        except RecordError as exc:
            self._end(str(exc))  # a run that lost a record has not gone to its end, even if it was the last one
            raise

    def _end(self, why: str) -> None:
        if self._ended_by:
            return
        self._ended_by = why
        logger.error("the run ends early: %s", why)
        for phase in self._phases:
            phase.close()

    def _phase_results(self, judgements: list[verdict.Judgement]) -> tuple[PhaseResult, ...]:
        results: list[PhaseResult] = []
        warm = next((phase.records for phase in self._phases if phase.name == "warm"), [])
        services = self._material.plan.header.services
        for phase, judgement in zip(self._phases, judgements, strict=True):
            total, by_service = summarize(phase.records, services, self._target.weights_bytes, warm)
            result = PhaseResult(
                name=phase.name,
                verdict=judgement.verdict,
                reasons=judgement.reasons,
                warnings=judgement.warnings,
                temperatures=temperatures(phase.records),
                total=total,
                services=by_service,
            )
            results.append(result)
        return tuple(results)

    def _warm_up(self, phase: str) -> None:
        material = self._material
        services = material.plan.header.services
        images = [material.images[name] for name in material.plan.slots[0].images]
        rounds = warmup.rounds(services, self._target.workers_to_pin(services))
        began = time.perf_counter()
        sent = warmup.warm_up(rounds, material.protocol, images, self._connect)
        logger.info("%s: warmed up with %d requests in %.1f s", phase, sent, time.perf_counter() - began)
        with Client(material.options.url, material.options.api_key, material.options.timeout_s) as client:
            self._target = look_at(client)  # by now the size of every model is known

    def _restarted_workers(self) -> list[int]:
        if not self._target.workers:
            return []
        options = self._material.options
        try:
            with Client(options.url, options.api_key, _LAST_LOOK_S) as client:
                now = look_at(client)
        except TargetError:
            return []  # the server is gone, which the records tell better
        before = {worker.worker: worker.generation for worker in self._material.target.workers}
        return [worker.worker for worker in now.workers if worker.generation != before.get(worker.worker)]

    def _connect(self) -> Connection:
        return Connection(self._material.options.url, self._material.options.timeout_s)


def _progress(phase: Phase) -> str:
    records = phase.records
    errors = sum(not record.ok for record in records)
    images = sum(record.images for record in records if record.ok)
    rate = images / max(time.perf_counter() - phase.started, 1e-9)
    return f"{phase.name}: {len(records)} of {len(phase.slots)} requests, {rate:.1f} images/s, {errors} errors"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
