"""One run of LoadGen against a server, from its options to its result: prepare, conduct, finish."""

import gc
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from dlclient.client import Client
from dlclient.environment import environment
from dlclient.exchange import SocketConnection
from dlclient.results import Reason, Seeds, Summary
from dlclient.results import Target as TargetFacts
from dlclient.statistics import summarize, temperatures

from dlload import pictures, verdict, warmup
from dlload.encoded_images import encode_images
from dlload.errors import LoadGenError, RecordError, StreamError, TargetError
from dlload.mlperf.library import load_generator
from dlload.mlperf.options import MlperfOptions
from dlload.mlperf.result import RESULT_FILE, SCHEMA, MlperfResult, SampleFacts, write_result
from dlload.mlperf.summary import LOG_FILES, LoadGenResult, read_logs
from dlload.mlperf.sut import Library, SystemUnderTest, completion
from dlload.plan import Closed, Plan, draw
from dlload.protocols.base import Protocol
from dlload.protocols.choice import create_protocol
from dlload.recorder import Recorder, new_folder, open_recorder
from dlload.target import Target, find_target, look_again, replaced_workers

logger = logging.getLogger(__name__)

_NO_AUDIT = "no-audit.config"
"""A file that is not there: LoadGen would take other settings from an audit.config in the current folder, unasked."""
_LAST_LOOK_S = 5.0
"""How long the server may take to say, at the end, whether its workers are still the same."""
_ABANDON_S = 10.0
"""How long requests in flight may take to end once their connections are cut."""
_LATE_S, _LATE_SHARE = 0.001, 0.05
"""A p99 of waiting for a free connection above 1 ms and that share of the median latency is worth a warning."""


@dataclass(frozen=True, slots=True)
class Material:
    """All that a run sends and to whom."""

    options: MlperfOptions
    target: Target
    plan: Plan
    facts: SampleFacts
    protocol: Protocol
    library: Library


def prepare(options: MlperfOptions) -> Material:
    """Find the server, draw the samples, read and encode the images. Raises StreamError."""
    stream = options.stream
    with Client(stream.url, stream.api_key, stream.timeout_s) as client:
        target, services = find_target(client, stream)
    protocol = create_protocol(stream, target)
    album = pictures.open_album(stream.images)
    plan = draw(
        seeds=Seeds.all(options.seed),
        load=Closed(options.samples),
        services=services,
        mix=stream.mix,
        images=album.names,
        batch_size=1,
    )
    contents = album.read(name for slot in plan.slots for name in slot.images)
    facts = SampleFacts(
        count=options.samples,
        seed=options.seed,
        services=plan.header.services,
        mix=stream.mix,
        images=album.source,
        image_count=len(contents),
        image_bytes=sum(map(len, contents.values())),
        image_sha256=pictures.digest(contents),
        sha256=plan.sha256(),
    )
    library = Library(plan.slots, encode_images(protocol, plan.header.services, contents))
    return Material(options, target, plan, facts, protocol, library)


def start_run(options: MlperfOptions) -> "MlperfRun":
    """Prepare, then make the result folder, so that what is missing is said before anything is sent.

    Raises StreamError.
    """
    loadgen = load_generator()
    material = prepare(options)
    now = time.localtime()
    asked = options.stream.results or Path("results") / time.strftime("mlperf-%Y%m%d-%H%M%S", now)
    folder = new_folder(asked, overwrite=options.stream.overwrite, run_number=1, now=now)
    for name in (RESULT_FILE, *LOG_FILES):
        (folder / name).unlink(missing_ok=True)  # of a run that --overwrite replaces
    recorder = open_recorder(folder)
    recorder.save_plan(material.plan)
    logger.info(
        "LoadGen's %s of %d samples to %s by %s over %d connections; results in %s",
        options.settings.scenario,
        options.samples,
        ", ".join(material.plan.header.services),
        material.protocol.name,
        options.connections,
        folder,
    )
    return MlperfRun(material, recorder, loadgen)


class MlperfRun:
    """`conduct` in the main thread, then `finish` writes the result. KeyboardInterrupt ends it early."""

    def __init__(self, material: Material, recorder: Recorder, loadgen: Any) -> None:
        options = material.options
        self.folder = recorder.folder
        self.is_stuck = False
        """LoadGen was left behind in the middle of its test: it cannot be told to end, only the process can."""
        self.is_interrupted = False
        """By a signal."""
        self._material = material
        self._target = material.target
        self._recorder = recorder
        self._loadgen = loadgen
        self._ended_by = ""
        self._news: SimpleQueue[str] = SimpleQueue()
        """"": LoadGen has come to its end. Else why it will not."""
        self._started = _now()
        self._environment = environment()
        self._sut = SystemUnderTest(
            options.settings.scenario,
            material.library,
            material.protocol,
            [self._connect() for _ in range(options.connections)],
            completion(loadgen, with_answers=options.settings.mode == "accuracy"),
            recorder.write,
            self._news.put,
        )

    def conduct(self) -> None:
        """Warm up, let LoadGen run its test, wait for its end or for what ends it early."""
        try:
            self._warm_up()
            gc.collect()
            gc.freeze()  # what exists now need not be looked through again within the measured time
            self._sut.start()
            self.is_stuck = True
            Thread(target=self._test, name="loadgen", daemon=True).start()
            self._ended_by = self._news.get()
            self.is_stuck = bool(self._ended_by)
        except StreamError as exc:
            self._ended_by = str(exc)
        except KeyboardInterrupt:
            self.is_interrupted = True
            self._ended_by = "it was interrupted by a signal"
        finally:
            gc.unfreeze()
        if self._ended_by:
            logger.error("the run ends early: %s", self._ended_by)

    def finish(self) -> MlperfResult:
        """Judge, summarize, write mlperf.json. Raises RecordError."""
        sut = self._sut
        if self.is_stuck:
            sut.abandon(_ABANDON_S)
        elif sut.started:
            sut.finish()
        self._recorder.close()
        options, material = self._material.options, self._material
        records = list(sut.records)
        services = material.plan.header.services
        loadgen, reasons = self._logs()
        total, by_service = summarize(records, services, self._target.weights_bytes)
        judgement = self._judge(loadgen, reasons, total)
        result = MlperfResult(
            schema=SCHEMA,
            kind="mlperf",
            started=self._started,
            finished=_now(),
            interrupted=bool(self._ended_by),
            verdict=judgement.verdict,
            reasons=judgement.reasons,
            warnings=(*judgement.warnings, *lateness(total)),
            simulated=any(service in self._target.simulated for service in services),
            timed_scope="client",
            settings=options.settings,
            connections=options.connections,
            loadgen=loadgen,
            released=sut.released,
            errors=sut.released - sum(record.ok for record in records),
            temperatures=temperatures(records),
            total=total,
            services=by_service,
            samples=material.facts,
            target=TargetFacts(url=options.stream.url, protocol=material.protocol.name, info=self._target.info),
            environment=self._environment,
        )
        try:
            write_result(self.folder, result)
        except OSError as exc:
            raise RecordError(f"cannot write {self.folder / RESULT_FILE}: {exc.strerror}; free some space") from exc
        return result

    def _test(self) -> None:
        """LoadGen's test, in a thread of its own: the main one must be free for signals."""
        lg, options = self._loadgen, self._material.options
        log = lg.LogSettings()
        log.enable_trace = False
        log.log_output.outdir = str(self.folder)
        log.log_output.copy_summary_to_stdout = False
        sut = lg.ConstructSUT(self._sut.issue, lambda: None)
        qsl = lg.ConstructQSL(options.samples, options.samples, lambda _: None, lambda _: None)  # all are in memory
        try:
            lg.StartTestWithLogSettings(sut, qsl, options.settings.test_settings(lg), log, str(self.folder / _NO_AUDIT))
            lg.DestroyQSL(qsl)
            lg.DestroySUT(sut)
            self._news.put("")
        except Exception as exc:
            logger.exception("LoadGen failed")
            self._news.put(f"LoadGen failed: {exc!r}")

    def _logs(self) -> tuple[LoadGenResult | None, tuple[Reason, ...]]:
        """What LoadGen says, and what it has against the run."""
        if self._ended_by:
            return None, ()
        try:
            result = read_logs(self.folder)
        except LoadGenError as exc:
            return None, (Reason("loadgen-log", str(exc), "see the folder's mlperf_log files"),)
        return result, result.reasons

    def _judge(self, loadgen: LoadGenResult | None, reasons: tuple[Reason, ...], total: Summary) -> verdict.Judgement:
        scenario = self._material.options.settings.scenario
        records = self._sut.records
        own = verdict.judge_phase(
            records, verdict.Expected(scenario, "warm", self._sut.released), total, sent=len(records)
        )
        remarks = (
            [Reason("loadgen-warning", f"LoadGen: {text}", "see its log") for text in loadgen.warnings]
            if loadgen
            else []
        )
        services = self._material.plan.header.services
        circumstances = verdict.Circumstances(
            interrupted=self._ended_by,
            simulated=[service for service in services if service in self._target.simulated],
            users=(),
            requests=self._sut.released,
            restarted_workers=self._replaced_workers(),
            environment=self._environment,
        )
        warnings = own.warnings
        if scenario == "Offline":  # all is due at once, so the last must wait the longest
            warnings = tuple(warning for warning in warnings if warning.code != "unstable-windows")
        phase = verdict.Judgement((*reasons, *own.reasons), (*warnings, *remarks))
        return verdict.judge_run([phase], circumstances)

    def _warm_up(self) -> None:
        material = self._material
        services = material.plan.header.services
        names = material.plan.slots[0].images
        rounds = warmup.rounds(services, self._target.workers_to_pin(services))
        sent = warmup.warm_up(
            rounds,
            material.protocol,
            lambda service: material.library.images.of(service, names),
            self._connect,
            warmup.threads,
        )
        logger.info("warmed up with %d requests", sent)
        self._target = self._look(material.options.stream.timeout_s)  # by now the size of every model is known

    def _replaced_workers(self) -> list[int]:
        if not self._target.workers:
            return []
        try:
            return replaced_workers(self._material.target, self._look(_LAST_LOOK_S))
        except TargetError:
            return []  # the server is gone, which the records tell better

    def _look(self, timeout_s: float) -> Target:
        stream = self._material.options.stream
        with Client(stream.url, stream.api_key, timeout_s) as client:
            return look_again(client, stream, self._target)

    def _connect(self) -> SocketConnection:
        stream = self._material.options.stream
        return SocketConnection(stream.url, stream.timeout_s)


def lateness(total: Summary) -> tuple[Reason, ...]:
    """A warning where samples waited for a free connection: LoadGen counts that as the server's. Pure."""
    p99_s = total.send_lag_s.p99 if total.send_lag_s else None
    if p99_s is None or p99_s <= max(_LATE_S, _LATE_SHARE * (total.latency_s.p50 or 0.0)):
        return ()
    return (
        Reason(
            "send-lag",
            f"samples waited in the load tester before they were sent, p99 {p99_s * 1e3:.3g} ms, which is part of "
            "LoadGen's latencies",
            "allow more --connections, or send less a second",
        ),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
