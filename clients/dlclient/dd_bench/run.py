"""A whole run: every model and batch size one after the other, each point kept as soon as it is there."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from time import perf_counter

import msgspec

from dlclient.bench_folder import BenchFolder, now
from dlclient.bench_result import BENCH_SCHEMA, LOGS_DIR, Bench, Failure, FailureKind, Point, Sample, Setting
from dlclient.client import Client
from dlclient.client_cost import NullServer
from dlclient.dd_bench import answers, rows, text
from dlclient.dd_bench.console import Console
from dlclient.dd_bench.figures import failed_point
from dlclient.dd_bench.images import supply
from dlclient.dd_bench.measuring import Measurer
from dlclient.dd_bench.options import Options
from dlclient.dd_bench.plan import settings
from dlclient.dd_bench.server import Server
from dlclient.environment import environment
from dlclient.errors import ClientError
from dlclient.local_server import build, serving

_PUBLISHED = {"deepdetect-report": "dd_performances"}
"""Preset -> `system` of its figures in dashboards/reference/published.csv."""
_LARGER_FAIL_TOO: frozenset[FailureKind] = frozenset({"out-of-memory", "time-out"})
_MOST_CRASHES = 2
"""Of a model, after which its larger batches are left alone: whoever serves them needs the server too."""
SERVER_LOG = "dlserve.log"
CREATION = "creation"
"""The stage in which services are created."""


def conduct(options: Options, console: Console) -> bool:
    """Measure everything; whether every point has its figures. Raises ClientError where nothing can be measured at all."""
    with ExitStack() as opened:
        if options.serve is not None:
            _serve(options, console, opened)
        client = opened.enter_context(Client(options.url, options.api_key, options.timeout_s))
        server = Server(client, options)
        server.look()
        images = supply(options.images)
        null = opened.enter_context(NullServer())
        folder = None
        if options.results is not None:
            folder = opened.enter_context(BenchFolder(options.results, _bench(options, server), resume=options.resume))
        run = _Run(options, server, Measurer(options, server, images, null), folder, console)
        run.all_models()
        if folder is not None:
            folder.finish()
            console.note(f"everything is in {folder.path}; `dlreport {folder.path}` draws it")
    return run.is_complete


def _serve(options: Options, console: Console, opened: ExitStack) -> None:
    """Build the models and start a dlserve for them, as stable as one worker on one device is. Raises LocalServerError."""
    assert options.serve is not None
    assert options.results is not None, "several models have a result folder"
    build(options.models, options.serve, console.note)
    path = options.results / LOGS_DIR / SERVER_LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    log = opened.enter_context(path.open("a", encoding="utf-8"))
    console.note(f"the server's log is {path}")
    port = int(options.url.rpartition(":")[2])
    workers = len(options.gpuids)
    opened.enter_context(
        serving(
            options.serve,
            workers=workers,
            port=port,
            say=console.note,
            echo=lambda line: print(line, file=log, flush=True),
        )
    )


def _bench(options: Options, server: Server) -> Bench:
    return Bench(
        schema=BENCH_SCHEMA,
        kind="bench",
        program="dd_bench",
        name=options.name,
        title=f"dd_bench {options.name}",
        started=now(),
        finished=None,
        points=len(options.models) * len(options.batch_sizes),
        command=options.command,
        environment=environment(),
        reproduces=_PUBLISHED.get(options.name, ""),
        server={key: value for key, value in server.info.items() if key != "services"},
    )


class _Run:
    """The points of a run, model by model."""

    def __init__(
        self, options: Options, server: Server, measurer: Measurer, folder: BenchFolder | None, console: Console
    ) -> None:
        self._options = options
        self._server = server
        self._measurer = measurer
        self._folder = folder
        self._console = console
        self._planned = list(settings(options))
        self._done: dict[str, Point] = {}
        for one in self._planned:
            point = folder.done.get(one.id) if folder else None
            if point is not None and not (options.retry_failed and point.failure):
                self._done[one.id] = point

    @property
    def is_complete(self) -> bool:
        """Whether every point has its figures."""
        return len(self._done) == len(self._planned) and all(one.failure is None for one in self._done.values())

    def all_models(self) -> None:
        """Measure what is not done yet, print each row, and the table of several models at the end."""
        if self._done:
            self._console.note(f"{len(self._done)} of {len(self._planned)} points were done already")
        self._write_files()
        self._console.begin(self._fraction())
        for model in self._options.models:
            missing = [one for one in self._planned if one.model == model and one.id not in self._done]
            if missing:
                self._measure_model(model, missing)
        if self._options.as_table:
            self._console.line(f"\n{text.table(self._points())}")

    def _measure_model(self, model: str, missing: Sequence[Setting]) -> None:
        """Its services live as long as this, where that was asked for."""
        try:
            self._measure_batches(model, missing)
        finally:
            creation = self._options.creation
            if self._options.auto_kill or (creation and creation.recreate):
                self._delete(model)

    def _measure_batches(self, model: str, missing: Sequence[Setting]) -> None:
        anew = self._options.creation is not None and self._options.creation.recreate
        lost: Failure | None = None
        for place, setting in enumerate(missing):
            began, started = perf_counter(), now()
            samples: list[Sample] = []
            failure = lost or self._too_large(setting)
            if failure is None:
                try:
                    point, samples = self._measure(setting, comes_first=place == 0 or anew)
                except ClientError as exc:
                    failure = answers.as_failure(exc, self._measurer.stage)
                    lost = failure if failure.stage == CREATION and not anew else None
                if anew:
                    self._delete(model)
            if failure is not None:
                point = failed_point(setting, failure)
            self._keep(msgspec.structs.replace(point, started=started, seconds=perf_counter() - began), samples)

    def _measure(self, setting: Setting, *, comes_first: bool) -> tuple[Point, list[Sample]]:
        """`comes_first`: of its service, which is created then, where that was asked for. Raises ClientError."""
        if not self._options.as_table:
            self._console.line(f"testing batch size = {setting.batch_size}")
        weight = setting.batch_size / sum(self._options.batch_sizes) / len(self._options.models)

        def tell(stage: str, fraction: float) -> None:
            label = f"{setting.model}, batch size {setting.batch_size}, {stage}"
            self._console.progress(self._fraction() + weight * fraction, label)

        self._measurer.stage = CREATION
        creation, creation_s = self._options.creation, None
        if creation and comes_first:
            creation_s = self._server.create(setting.model, creation, setting.batch_size)
        return self._measurer.measure(setting, creation_s, comes_first=comes_first, tell=tell)

    def _too_large(self, setting: Setting) -> Failure | None:
        """A failure without a try, where a smaller batch did not fit or took too long, or two broke the server."""
        broken = 0
        for point in self._done.values():
            failure, size = point.failure, point.setting.batch_size
            if point.setting.model != setting.model or size >= setting.batch_size or failure is None:
                continue
            broken += failure.kind == "crash"
            if failure.kind in _LARGER_FAIL_TOO or broken == _MOST_CRASHES:
                return Failure(
                    kind=failure.kind, stage="not tried", text=f"not tried: batch size {size} failed already"
                )
        return None

    def _delete(self, model: str) -> None:
        with suppress(ClientError):  # the server may be gone, and its services with it
            self._server.delete(model)

    def _keep(self, point: Point, samples: Sequence[Sample]) -> None:
        self._done[point.id] = point
        if self._folder is not None:
            self._folder.append(point, samples)
        self._write_files()
        if not self._options.as_table:
            for line in text.passes(point, samples):
                self._console.line(line)
        for line in text.row(point, with_model=self._options.as_table):
            self._console.line(line)

    def _points(self) -> list[Point]:
        return [self._done[one.id] for one in self._planned if one.id in self._done]

    def _write_files(self) -> None:
        if self._options.csv is not None:
            rows.write_csv(self._options.csv, self._points())
        if self._options.json is not None:
            rows.write_json(self._options.json, self._points())

    def _fraction(self) -> float:
        """Of all images that are to be sent."""
        images = sum(one.batch_size for one in self._planned)
        return sum(point.setting.batch_size for point in self._done.values()) / images
