"""A suite from its first point to its last: each in a process of its own, kept as soon as it has ended, resumed after any end."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TextIO

import msgspec
import tomli_w
from msgspec import UNSET

from dlclient.bench.checking import unsupported
from dlclient.bench.job import Ended, Job
from dlclient.bench.known import Known
from dlclient.bench.naming import describe
from dlclient.bench.point_process import CHILD, run_point
from dlclient.bench.progress import BenchProgress
from dlclient.bench.reading import read_suite
from dlclient.bench.results_table import brief, figures
from dlclient.bench.suite import INPROC, Suite, to_table
from dlclient.bench.supply import Failures, supply
from dlclient.bench_folder import BenchFolder, now
from dlclient.bench_result import BENCH_SCHEMA, LOGS_DIR, SUITE_FILE, Bench, Failure, Point, Sample, Scope, Setting
from dlclient.environment import environment
from dlclient.errors import ResultError

_SCRATCH = f"{LOGS_DIR}/building.log"


@dataclass(frozen=True, slots=True)
class Errand:
    """A suite that was checked, and where its result goes."""

    suite: Suite
    settings: tuple[Setting, ...]
    """Its points."""
    known: Known
    results: Path
    command: tuple[str, ...]
    resume: bool = False
    retry_failed: bool = False
    api_key: str = ""
    child: Sequence[str] = CHILD


def default_results(name: str) -> Path:
    """Where a result goes where nobody says: a new folder."""
    return Path("results") / f"dlbench-{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def run_suite(errand: Errand, stream: TextIO = sys.stderr) -> list[Point]:
    """Measure every point that the folder does not hold yet; all of the suite's points, in its order.

    Raises ResultError where the folder cannot be used. KeyboardInterrupt leaves no process and a folder to resume.
    """
    settings = errand.settings
    with BenchFolder(errand.results, _bench(errand), resume=errand.resume) as folder:
        _keep_suite(errand)
        _check_done(folder, settings)
        left = [one for one in settings if _is_left(folder.done.get(one.id), retry_failed=errand.retry_failed)]
        took_s = [folder.done[one.id].seconds for one in settings if one not in left]
        progress = BenchProgress(len(settings), len(settings) - len(left), stream, took_s)
        _Points(errand, folder, progress).measure(left)
        folder.finish()
        return [folder.done[setting.id] for setting in settings]


class _Points:
    def __init__(self, errand: Errand, folder: BenchFolder, progress: BenchProgress) -> None:
        self._errand = errand
        self._folder = folder
        self._progress = progress

    def measure(self, settings: Sequence[Setting]) -> None:
        errand = self._errand
        hopeless = {setting.id: reason for setting, reason in unsupported(settings, errand.known)}
        wanted = [setting for setting in settings if setting.id not in hopeless]
        repository = Path(errand.suite.repository)
        failures = supply(wanted, errand.known, repository, errand.results / _SCRATCH, self._progress.say)
        try:
            for setting in settings:
                self._progress.begin(describe(setting))
                started, began = now(), monotonic()
                end = self._end(setting, hopeless.get(setting.id, ""), failures)
                point, samples = _finished(setting, end, started, monotonic() - began)
                self._folder.append(point, samples)
                self._progress.end(_line(point))
        finally:
            self._progress.clear()

    def _end(self, setting: Setting, hopeless: str, failures: Failures) -> Ended | Failure:
        """What came of a point; its log stays only where it failed and said something."""
        name = f"{LOGS_DIR}/{setting.id}.log"
        log = self._errand.results / name
        if hopeless:
            return Failure(kind="unsupported", stage="start", text=hopeless)
        need = (setting.model, setting.engine)
        if need in failures:
            end, said = failures[need]
            log.write_bytes(said)
        else:
            job = make_job(self._errand, setting)
            outcome = run_point(job, log, self._progress.watch, self._errand.child)
            if isinstance(outcome, Ended):
                log.unlink(missing_ok=True)
                return outcome
            end = outcome
        if log.stat().st_size:
            return msgspec.structs.replace(end, log=name)
        log.unlink()
        return end


def make_job(errand: Errand, setting: Setting) -> Job:
    """What the process of a point is told."""
    suite = errand.suite
    return Job(
        setting=setting,
        budget=suite.budget,
        repository=str(Path(suite.repository).absolute()),
        images=str(Path(suite.images).absolute()) if suite.images else "",
        dataset=str(Path(suite.dataset).absolute()) if suite.dataset else "",
        memory_limit_bytes=None if suite.memory_limit_bytes is UNSET else suite.memory_limit_bytes,
        most_images=suite.most_images,
        reloads=suite.reloads,
        drop_page_cache=suite.drop_page_cache,
        profile=suite.profile,
        every_s=suite.every_s,
        api_key=errand.api_key,
    )


def _bench(errand: Errand) -> Bench:
    suite = errand.suite
    return Bench(
        schema=BENCH_SCHEMA,
        kind="bench",
        program="dlbench",
        name=suite.name,
        title=suite.title or suite.name,
        started=now(),
        finished=None,
        points=len(errand.settings),
        command=errand.command,
        environment=environment(),
        reproduces=suite.reproduces,
    )


def _keep_suite(errand: Errand) -> None:
    """Write suite.toml; where it is there, it must be the same. Raises ResultError."""
    path = errand.results / SUITE_FILE
    if path.exists():
        kept, source = read_suite(path)
        source.check()
        if kept != errand.suite:
            raise ResultError(
                f"{errand.results} was begun with another suite (see its {SUITE_FILE}): `dlbench run {errand.results} --resume` "
                "goes on with that one; for this one name another folder"
            )
        return
    draft = path.with_suffix(".toml.tmp")
    draft.write_text(tomli_w.dumps(to_table(errand.suite)), "utf-8")
    draft.replace(path)


def _check_done(folder: BenchFolder, settings: Sequence[Setting]) -> None:
    """Raises ResultError where the folder has points that the suite has not here."""
    if strange := set(folder.done) - {setting.id for setting in settings}:
        one = describe(folder.done[min(strange)].setting)
        raise ResultError(
            f"{folder.path} has points that the suite does not have on this machine ({one}): resume it where it began, with the "
            "same repository and devices"
        )


def _is_left(done: Point | None, *, retry_failed: bool) -> bool:
    return done is None or (retry_failed and done.failure is not None)


def _finished(setting: Setting, end: Ended | Failure, started: str, seconds: float) -> tuple[Point, Sequence[Sample]]:
    if isinstance(end, Ended):
        return msgspec.structs.replace(end.point, id=setting.id, started=started, seconds=seconds), end.samples
    scope: Scope = "model" if setting.target == INPROC else "server"
    return Point(id=setting.id, setting=setting, started=started, seconds=seconds, failure=end, scope=scope), ()


def _line(point: Point) -> str:
    """What came of a point, for a line of progress."""
    per_image, _, _, per_second = figures(point)
    parts = [
        f"{per_image} ms/image" if per_image else "",
        f"{per_second} images/s" if per_second else "",
        brief(point),
    ]
    return f"{', '.join(part for part in parts if part)} ({point.seconds:.1f} s)"
