"""One run of the stream, from its options to its result: prepare, conduct, finish. Knows nothing of Locust."""

import gc
import logging
import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import msgspec
from dlclient.client import Client
from dlclient.environment import environment
from dlclient.errors import ResultError
from dlclient.limits import parse_limits
from dlclient.results import SCHEMA, Clock, PlanFacts, Record, Run, read_records
from dlclient.results import Phase as PhaseResult
from dlclient.results import Target as TargetFacts
from dlclient.statistics import summarize, temperatures

from dlload import answers, audit, pictures, verdict, warmup
from dlload.connection import Connection
from dlload.crew import Crew, LocalCrew
from dlload.distribution import Desk
from dlload.encoded_images import EncodedImages, encode_images
from dlload.errors import OptionError, RecordError, StreamError, TargetError
from dlload.live import Live, Progress
from dlload.load_options import with_gaps
from dlload.measured import figures, objectives
from dlload.monitoring.findings import Span, judge_samples
from dlload.monitoring.monitor import Monitor
from dlload.options import StreamOptions, Temperature
from dlload.plan import Plan, draw, faster
from dlload.progress import phase_progress
from dlload.protocols.base import Protocol
from dlload.protocols.choice import create_protocol
from dlload.recorder import Recorder, new_folder, open_recorder
from dlload.reloading import Reloading, create_reloading
from dlload.replay import check_fits, read_plan_file, read_trace
from dlload.sender import RELOAD
from dlload.share import Share, Step
from dlload.standing import Figures
from dlload.target import Target, find_target, look_again, replaced_workers

logger = logging.getLogger(__name__)

PROGRESS_S = 5.0
_WARM_UP_LOOK_S = 0.25
_MOST_WARM_UP_S = 60.0
"""An automatic warm-up gives up then: what is not steady by now is judged as it is."""
_LAST_LOOK_S = 5.0
"""How long the server may take to say, at the end, whether its workers are still the same."""


@dataclass(frozen=True, slots=True)
class Material:
    """All that a run sends and to whom."""

    options: StreamOptions
    target: Target
    plan: Plan
    plan_facts: PlanFacts
    protocol: Protocol
    images: EncodedImages
    limits: bytes | None = None
    """Content of limits.json."""
    reloading: Reloading | None = None
    """What makes services cold, where requests cannot ask for that."""
    reference: Sequence[Record] = ()
    """Of the run whose answers are the right ones."""


def prepare(options: StreamOptions) -> Material:
    """Find the server, draw the plan, read and encode the images. Raises StreamError."""
    limits = _limits(options.limits) if options.limits else None
    reference = _reference(options.check_answers) if options.check_answers else ()
    with Client(options.url, options.api_key, options.timeout_s) as client:
        target, services = find_target(client, options)
    album = pictures.open_album(options.images)
    plan = make_plan(options, services, album.names)
    options = replace(options, batch_size=plan.header.batch_size)  # a plan of an earlier run has its own
    if options.protocol == "raw" and options.batch_size != 1:
        raise OptionError(
            f"--plan has {options.batch_size} images a request, --protocol raw carries one; use --protocol deepdetect"
        )
    protocol = create_protocol(options, target)
    contents = album.read(name for slot in plan.slots for name in slot.images)
    if options.variety is not None:
        plan, contents = audit.varied(plan, contents, options.variety)
    facts = PlanFacts(
        seeds=plan.header.seeds,
        requests=plan.header.requests,
        services=plan.header.services,
        mix=plan.header.mix,
        images=album.source,
        image_count=len(contents),
        image_bytes=sum(map(len, contents.values())),
        image_sha256=pictures.digest(contents),
        batch_size=plan.header.batch_size,
        users=0,
        phases=options.phases,
        sha256=plan.sha256(),
        load=plan.header.load,
    )
    images = encode_images(protocol, plan.header.services, contents)
    reloading = create_reloading(options, target, plan.header.services)
    return Material(options, target, plan, facts, protocol, images, limits, reloading, reference)


def make_plan(options: StreamOptions, services: Sequence[str], images: Sequence[str]) -> Plan:
    """The plan that the options draw, repeat or take from a trace. Raises OptionError."""
    load = options.load
    if load.plan is not None:
        plan = read_plan_file(load.plan)
        check_fits(plan, services, images)
        return faster(plan, load.speed)
    if load.trace is not None:
        traced = read_trace(
            load.trace,
            services=services,
            images=images,
            batch_size=options.batch_size,
            seeds=load.seeds,
            requests=load.most_requests,
        )
        return faster(traced, load.speed)
    return draw(
        seeds=load.seeds,
        load=load.load if load.intervals is None else with_gaps(load.load, load.intervals),
        services=services,
        mix=options.mix,
        images=images,
        batch_size=options.batch_size,
    )


def _reference(folder: Path) -> list[Record]:
    """Raises OptionError."""
    try:
        records = read_records(folder)
    except ResultError as exc:
        raise OptionError(f"--check-answers: {exc}") from exc
    if not any(record.answer for record in records):
        raise OptionError(f"--check-answers {folder}: that run kept no answers; make one with --keep-answers")
    return records


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


def start_run(
    options: StreamOptions, run_number: int = 1, desk: Desk | None = None, *, folder_number: int | None = None
) -> "StreamRun":
    """Prepare, then make the result folder, so that what is missing is said before anything is sent.

    `desk`: of a Locust master, whose workers send. `folder_number`: see new_folder; `run_number` unless given. Raises
    StreamError.
    """
    material = prepare(options)
    folder = new_folder(
        options.results, overwrite=options.overwrite, run_number=folder_number or run_number, now=time.localtime()
    )
    recorder = open_recorder(folder)
    recorder.save_plan(material.plan)
    if material.limits is not None:
        recorder.save_limits(material.limits)
    header = material.plan.header
    logger.info(
        "%d requests a phase (%s) to %s by %s; phases %s; results in %s",
        header.requests,
        header.load,
        ", ".join(header.services),
        material.protocol.name,
        ", ".join(options.phases),
        folder,
    )
    return StreamRun(material, recorder, run_number, desk)


class StreamRun:
    """`conduct` opens the phases, senders empty them, `finish` writes the result; `stop` may come at any time."""

    def __init__(self, material: Material, recorder: Recorder, run_number: int = 1, desk: Desk | None = None) -> None:
        self.folder = recorder.folder
        self.share: Share | None = None
        """What this process sends; None: workers send all of it."""
        self._material = material
        self._target = material.target
        self._recorder = recorder
        self._opened: list[Clock] = []
        """Of the measured phases that were opened."""
        self._exhausted: set[str] = set()
        self.measured: list[Figures] = []
        """Of each phase, once it is finished."""
        self._finished: Run | None = None
        self._ended_by = ""
        self._is_done = False
        self._users: list[int] = []
        self._started = _now()
        self._environment = environment()  # now: measuring changes some of it, and the end may be in a hurry
        self._spans: list[Span] = []
        options = material.options
        self._monitor = Monitor(self.folder, f"{options.url.rstrip('/')}/metrics", options.api_key)
        self.live = Live(self._live_progress, self._findings)
        """Figures for whoever looks while the run is under way."""
        self._crew = self._local_crew() if desk is None else self._remote_crew(desk, run_number)

    def _local_crew(self) -> Crew:
        material = self._material
        self.share = Share(
            material.plan.slots,
            material.protocol,
            material.images,
            self._connect,
            self._write,
            drop_after_s=material.options.load.drop_after_s,
            reloading=material.reloading,
            keeps_answers=material.options.keeps_answers,
        )
        return LocalCrew(self.share)

    def _remote_crew(self, desk: Desk, run_number: int) -> Crew:
        material = self._material
        if material.reloading is not None:
            raise OptionError("--cold reload: several Locust processes would reload under each other's hands; use one")
        if material.options.variety is not None:
            raise OptionError("--audit caching: only one Locust process makes its images unique; leave --processes out")
        return desk.crew(
            run=run_number,
            folder=self.folder,
            url=material.options.url,
            plan=zlib.compress(material.plan.encode()),
            image_sha256=material.plan_facts.image_sha256,
            drop_after_s=material.options.load.drop_after_s,
            phases=material.options.phases,
            hears=self.live.merge,
        )

    @property
    def users(self) -> int:
        """How many there are."""
        return self._users[-1] if self._users else 0

    def users_are(self, count: int) -> None:
        """Note how many users there are now."""
        self._users.append(count)
        scenario = self._material.options.load.scenario
        if scenario in {"SingleStream", "MultiStream"} and count > 1:
            self.stop(f"--scenario {scenario} has one query in flight, not {count}; leave -u and --processes out")
        if 0 < count < self._crew.shares:
            self.stop(f"{self._crew.shares} Locust processes share {count} users: give at least one to each (-u)")

    def conduct(self) -> None:
        """Open the phases one after the other and see each to its end. Returns early if the run is stopped."""
        self._monitor.start()
        try:
            self._crew.ready()
            for name in self._material.options.phases:
                self._load_models(name)
                gc.collect()
                gc.freeze()  # what exists now need not be looked through again within the measured time
                clock = self._warm_up(name)
                if self._ended_by:
                    return
                self._measure(name, clock)
                if self._ended_by:
                    return
            self._is_done = True
        except StreamError as exc:
            self._end(str(exc))
        finally:
            gc.unfreeze()
            self._crew.end()

    def _warm_up(self, name: Temperature) -> Clock:
        """Send what comes before the clock; what is known of it."""
        wanted = self._material.options.load.warm_up
        if wanted.is_none:
            return Clock()
        began = time.perf_counter()
        self._crew.open(Step(name, measured=False, at=began + self._crew.lead_s, most_requests=wanted.requests))
        limit_s = _MOST_WARM_UP_S if wanted.seconds is None else wanted.seconds
        while not self._crew.wait(_WARM_UP_LOOK_S):
            state = self._crew.state()
            long_enough = wanted.requests is None and time.perf_counter() - began > limit_s + self._crew.lead_s
            self._look_for_losses()
            if self._ended_by or long_enough or (wanted.until_steady and state.steady):
                self._crew.close()
        self._look_for_losses()
        state = self._crew.state()
        if state.gave_up:
            self._end(f"{name}, warming up: {state.gave_up}")
        steady = state.steady if wanted.until_steady else None
        took_s = time.perf_counter() - began
        logger.info("%s: warmed up with %d requests in %.1f s", name, state.ended, took_s)
        return Clock(warm_up_requests=state.ended, warm_up_s=took_s, steady=steady)

    def _measure(self, name: Temperature, clock: Clock) -> None:
        """One phase of the plan."""
        at = time.perf_counter() + self._crew.lead_s
        self._opened.append(clock)
        self._spans.append(Span(name, at, math.inf))
        self._crew.open(Step(name, measured=True, at=at))
        while not self._crew.wait(PROGRESS_S):
            logger.info(self._progress(name, at))
            self._look_for_losses()
        logger.info(self._progress(name, at))
        self._spans[-1] = Span(name, at, time.perf_counter())
        self._look_for_losses()
        state = self._crew.state()
        if state.exhausted:
            self._exhausted.add(name)
        if state.gave_up:
            self._end(f"{name}: {state.gave_up}")

    def _look_for_losses(self) -> None:
        if self._crew.missing:
            self._end("a Locust worker was lost")

    def stop(self, why: str) -> None:
        """End before the plan is done; does nothing after that."""
        if not self._is_done:
            self._end(why)

    def finish(self) -> Run:
        """Judge, summarize, write run.json; once nobody sends any more; a second time gives the same. Raises RecordError."""
        if self._finished is not None:
            return self._finished
        self._monitor.stop()
        records = self._crew.collect()
        self._monitor.add(self._crew.samples)
        if self.share is None:
            self._merge(records)
        self._recorder.close()
        if self._material.reloading is not None:
            self._material.reloading.reloader.close()
        phases = self._phases(records)
        plan = self._material.plan.header
        simulated = [service for service in plan.services if service in self._target.simulated]
        circumstances = verdict.Circumstances(
            interrupted=self._ended_by,
            simulated=simulated,
            users=self._users,
            requests=plan.requests,
            is_open_loop=self._material.plan.is_open,
            restarted_workers=self._restarted_workers(),
            missing_shares=self._crew.missing,
            findings=self._findings().reasons,
            remarks=self._findings().warnings,
            environment=self._environment,
        )
        judgement = verdict.judge_run(phases, circumstances)
        self.live.finish(judgement)
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
            plan=msgspec.structs.replace(
                self._material.plan_facts, users=max(self._users, default=0), shares=self._crew.shares
            ),
            target=TargetFacts(
                url=options.url,
                protocol=self._material.protocol.name,
                info=self._target.info,
                cold=_cold(self._material.reloading),
            ),
            environment=self._environment,
            phases=phases,
        )
        self._recorder.save_run(run)
        self._finished = run
        return run

    def _merge(self, records: Sequence[Sequence[Record]]) -> None:
        """Into requests.jsonl. Where that cannot be written the result is still worth having: the shares have theirs."""
        try:
            for record in chain.from_iterable(records):
                self._recorder.write(record)
        except RecordError as exc:
            self._end(str(exc))

    def _write(self, record: Record) -> None:
        self.live.observe(record)
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
        self._crew.end()

    def _phases(self, records: Sequence[Sequence[Record]]) -> tuple[PhaseResult, ...]:
        """What the measured phases were; those that never opened are there too, empty."""
        options, plan = self._material.options, self._material.plan
        clocks = [*self._opened, *(Clock() for _ in options.phases[len(self._opened) :])]
        sent = [*records, *([] for _ in options.phases[len(records) :])]
        counted = [_within(own, clock, options.load.tail_s) for own, clock in zip(sent, clocks, strict=True)]
        warm = next((own for name, (own, _) in zip(options.phases, counted, strict=True) if name == "warm"), [])
        results: list[PhaseResult] = []
        for name, all_sent, (own, clock) in zip(options.phases, sent, counted, strict=True):
            total, by_service = summarize(own, plan.header.services, self._target.weights_bytes, warm)
            expected = verdict.Expected(
                name,
                self._temperature(name),
                plan.header.requests,
                is_scheduled=plan.offered_per_s is not None,
                max_send_lag_s=options.load.max_send_lag_s,
                exhausted=name in self._exhausted,
                steady=clock.steady,
            )
            judgement = verdict.judge_phase(own, expected, total, sent=len(all_sent))
            if self._material.reference:
                wrong = answers.check(own, self._material.reference)
                judgement = verdict.Judgement((*judgement.reasons, *wrong), judgement.warnings)
            length_s = _length_s(plan, clock)
            self.measured.append(figures(own, length_s))
            results.append(
                PhaseResult(
                    name=name,
                    clock=clock,
                    offered_per_s=len(own) / length_s if length_s and own else None,
                    delivered_per_s=_delivered_per_s(own, length_s),
                    verdict=judgement.verdict,
                    reasons=judgement.reasons,
                    warnings=judgement.warnings,
                    objectives=objectives(options.load.slo, self.measured[-1]),
                    temperatures=temperatures(own),
                    total=total,
                    services=by_service,
                    started_s=next((round(span.started, 6) for span in self._spans if span.phase == name), None),
                )
            )
        return tuple(results)

    def _findings(self) -> verdict.Judgement:
        """What the monitor has seen against the run."""
        return judge_samples(self._monitor.samples, self._spans)

    def _live_progress(self) -> list[Progress]:
        names = self._material.options.phases
        return (
            [] if self.share is None else phase_progress(self.share, names, [self._temperature(name) for name in names])
        )

    def _temperature(self, name: str) -> str:
        """That answers of the phase should report."""
        return RELOAD if self._material.reloading is not None and name != "warm" else name

    def _load_models(self, phase: str) -> None:
        """Have every worker load and run every model once."""
        material = self._material
        services = material.plan.header.services
        names = material.plan.slots[0].images
        rounds = warmup.rounds(services, self._target.workers_to_pin(services))
        began = time.perf_counter()
        sent = warmup.warm_up(
            rounds, material.protocol, lambda service: material.images.of(service, names), self._connect
        )
        logger.info("%s: every model ran, %d requests in %.1f s", phase, sent, time.perf_counter() - began)
        if material.reloading is not None and phase != "warm":
            took_s = material.reloading.reloader.rehearse(services)
            logger.info("%s: reloaded each service once in %.1f s", phase, took_s)
        with Client(material.options.url, material.options.api_key, material.options.timeout_s) as client:
            self._target = look_again(client, material.options, self._target)  # by now the size of every model is known

    def _restarted_workers(self) -> list[int]:
        if not self._target.workers:
            return []
        options = self._material.options
        try:
            with Client(options.url, options.api_key, _LAST_LOOK_S) as client:
                now = look_again(client, options, self._target)
        except TargetError:
            return []  # the server is gone, which the records tell better
        return replaced_workers(self._material.target, now)

    def _progress(self, name: str, began: float) -> str:
        state = self._crew.state()
        rate = state.images / max(time.perf_counter() - began, 1e-9)
        total = self._material.plan.header.requests
        return f"{name}: {state.ended} of {total} requests, {rate:.1f} images/s, {state.errors} errors"

    def _connect(self) -> Connection:
        return Connection(self._material.options.url, self._material.options.timeout_s)


def _within(records: Sequence[Record], clock: Clock, tail_s: float) -> tuple[list[Record], Clock]:
    """The records that the figures are of, by the moment they were due, and the clock with its end."""
    if not tail_s:
        return list(records), clock
    to_s = max(0.0, max((record.due_s for record in records), default=0.0) - tail_s)
    kept = [record for record in records if record.due_s <= to_s]
    return kept, msgspec.structs.replace(clock, to_s=to_s, left_out=len(records) - len(kept))


def _length_s(plan: Plan, clock: Clock) -> float | None:
    """Of the part of an open plan that the clock takes in, in seconds; None in a closed loop."""
    if plan.offered_per_s is None:
        return None
    last_s = plan.slots[-1].due_s or 0.0
    return last_s if clock.to_s is None else min(last_s, clock.to_s)


def _delivered_per_s(records: Sequence[Record], length_s: float | None) -> float | None:
    """Requests per second that were sent: as many as were, over the time from the first due to the last sent."""
    if not length_s:
        return None
    sent = [record.sent_s for record in records if not record.dropped]
    return len(sent) / max(length_s, *sent) if sent else 0.0


def _cold(reloading: Reloading | None) -> str:
    """How models were made cold, as results say it."""
    if reloading is None:
        return "cache"
    return "reload, inside the clock" if reloading.counts else "reload, outside the clock"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
