# ruff: noqa: INP001  Locust puts this folder on sys.path, it is no package
"""The stream load tester, as a locustfile: `locust -f loadgen/stream.py`. Wiring only; the work is done in dlload.

With --headless it runs at once and quits; otherwise each press of Start in the web page is a run in a folder of its own.
With --processes N, or --master and --worker on several machines, the plan is shared out among the workers.
`locust -f loadgen/stream.py --preset stream-2018` does all of it in one command: builds the networks, serves them, streams.
`locust -f loadgen/stream.py --stream-help` shows all options, Locust's and the stream's own.
"""

import logging
import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

import gevent
from dlclient.local_server import default_workers
from dlclient.results import Record
from dlclient.search_result import SEARCH_FILE
from dlload.bell import Bell
from dlload.campaign import Campaign, campaign_of
from dlload.distribution import Assignment, Desk, Outpost
from dlload.errors import RecordError, StreamError, TargetError
from dlload.live import Live
from dlload.load_options import DEFAULT_SENDERS, FILES, NONE
from dlload.options import COMMAND_LINE_ONLY, StreamOptions, add_options, read_options
from dlload.post import Post, make_post
from dlload.replay import users_of
from dlload.run import StreamRun, start_run
from dlload.share import Share
from dlload.stand import Stand, preset_of
from dlload.table import result_table
from dlload.web_tab import WebTab
from gevent.event import Event
from locust import User, events, task
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, Runner, WorkerRunner
from locust.web import WebUI

logger = logging.getLogger(__name__)

_LAST_WORDS_S = 10.0


class StreamUser(User):
    """A sender: in a closed loop it sends when its last request is answered, in an open one when the next is due."""

    host = "http://127.0.0.1:8080"
    stream: ClassVar["Stream | Worker"]

    @task
    def send(self) -> None:
        """Whatever there is to send, until Locust stops this user."""
        share: Share | None = None
        while True:
            share = self.stream.next_share(share)
            sender = share.sender(self._observe)
            try:
                with suppress(RecordError):  # the run has noted it, and ends
                    share.work(sender)
            finally:
                sender.close()

    def _observe(self, record: Record) -> None:
        """Locust's own statistics and web page live on this; ours do not."""
        self.environment.events.request.fire(
            request_type=record.phase,
            name=record.model,
            response_time=record.latency_s * 1000,
            response_length=0,
            exception=StreamError(record.error) if record.error else None,
            context={},
        )


class Stream:
    """Makes a run of each start of Locust's, and ends it when Locust stops."""

    def __init__(self, environment: Environment, options: Namespace, runner: Runner, web_ui: WebUI | None) -> None:
        self.run: StreamRun | None = None
        self.live: Live | None = None
        """Of the run that is on, or of the last one."""
        self._campaign: Campaign | None = None
        self._changed = Bell()
        self._environment = environment
        self._options = options
        self._runner = runner
        self._web_ui = web_ui
        self._runs = 0
        self._all_valid = True
        self._stopping = False
        self._stand = Stand()
        self._fixed = {name: getattr(options, name) for name in COMMAND_LINE_ONLY}
        self._desk = Desk(runner, partial(_workers, runner)) if isinstance(runner, MasterRunner) else None
        self._idle = Event()
        self._idle.set()
        self._conductor: gevent.Greenlet | None = None
        self._leaver: gevent.Greenlet | None = None

    def next_share(self, previous: Share | None) -> Share:
        """What this process has to send after that; waits until there is something."""
        while self.run is None or self.run.share is None or self.run.share is previous:
            self._changed.wait()
        return self.run.share

    def attach(self) -> None:
        """Listen to Locust."""
        hooks = self._environment.events
        hooks.test_start.add_listener(self._on_test_start)
        hooks.spawning_complete.add_listener(self._on_spawning_complete)
        hooks.test_stopping.add_listener(self._on_test_stopping)
        hooks.test_stop.add_listener(self._on_test_stop)
        hooks.quitting.add_listener(self._on_quitting)

    def _on_test_start(self, **_: object) -> None:
        """Prepare a run; whatever is missing is said now, and nothing is sent."""
        self._environment.process_exit_code = 1
        self._stopping = False
        self._conductor = None
        try:
            asked = Namespace(**(vars(self._options) | self._fixed))  # the web page's form may set any option
            options = read_options(asked, self._environment.host or StreamUser.host)
            here = options.preset and not self._environment.host
            given = self._stand.options(options) if here else preset_of(options)
            self._campaign = campaign_of(given, self._runs + 1)
            self._begin(given if self._campaign is None else self._campaign.next() or given)
        except (StreamError, ValueError) as exc:
            logger.error("%s", exc)  # noqa: TRY400  a sentence for the user, no bug of ours to trace
            self._refuse(exc)
        except Exception as exc:
            logger.exception("a bug of the load tester")
            self._refuse(exc)

    def _begin(self, options: StreamOptions) -> StreamRun:
        """Start the run of these options, or the first or next one of several. Raises StreamError."""
        if self._campaign is None:
            run = start_run(options, self._runs + 1, self._desk)
        else:
            run = start_run(options, self._runs + 1, self._desk, folder_number=1)
        self._runs += 1
        self.run = run
        self.live = run.live
        self._changed.ring()
        return run

    def _refuse(self, why: Exception) -> None:
        """No run; Locust itself would go on after an exception, and without its web page for ever."""
        self._runner.log_exception("local", str(why) or repr(why), "")  # the web page's tab of exceptions
        self._all_valid = False
        self._leaver = gevent.spawn(self._leave)
        raise gevent.GreenletExit from why  # ends Locust's spawning greenlet before it makes users, or has workers make them

    def _on_spawning_complete(self, user_count: int, **_: object) -> None:
        """The clock starts when all users are there."""
        if self.run is None:
            return
        self.run.users_are(user_count)
        if user_count == 0:
            self.run.stop("there are no users left; give at least one with -u")
        if self._conductor is None:
            self._conductor = gevent.spawn(self._conduct, self.run)

    def _conduct(self, run: StreamRun) -> None:
        try:
            run.conduct()
            while self._campaign is not None and not self._stopping:
                self._campaign.observe(run.finish(), run.measured[0])
                options = self._campaign.next()
                if options is None:
                    break
                users, run = run.users, self._begin(options)
                run.users_are(users)
                run.conduct()
        except StreamError as exc:
            logger.error("%s", exc)  # noqa: TRY400  a sentence for the user, no bug of ours to trace
            run.stop(str(exc))
        except Exception as exc:
            logger.exception("a bug of the load tester")
            run.stop(f"the load tester failed: {exc!r}")
        if not self._stopping:  # else Locust is at it already
            self._leaver = gevent.spawn(self._leave)

    def _leave(self) -> None:
        """Quit as Locust would at the end of its --run-time; with the web page, just stop."""
        if self._options.headless:
            if self._desk is not None:
                self._runner.stop()  # quitting at once would leave the workers no time to hand over their records
            self._runner.quit()
            return
        self._runner.stop()
        if self._options.autostart and self._options.autoquit != -1 and self._web_ui is not None:
            gevent.sleep(self._options.autoquit)
            self._runner.quit()
            self._web_ui.stop()

    def _on_test_stopping(self, **_: object) -> None:
        self._stopping = True
        if self.run is not None:
            self.run.stop("stopped before its plan was done (the web page's Stop, --run-time or a signal)")

    def _on_test_stop(self, **_: object) -> None:
        """No user is left: write the result and show it."""
        run, self.run = self.run, None
        if run is None:
            return
        if self._conductor is not None:
            self._conductor.kill()
        good = False
        self._idle.clear()
        try:
            with _undisturbed():
                report = not self._options.no_report
                good = (
                    _show(run, report=report)
                    if self._campaign is None
                    else _show_campaign(self._campaign, run, report=report)
                )
        except RecordError as exc:
            logger.error("%s", exc)  # noqa: TRY400  a sentence for the user, no bug of ours to trace
        finally:
            self._idle.set()
        self._all_valid = self._all_valid and good
        self._environment.process_exit_code = 0 if self._all_valid else 1

    def _on_quitting(self, **_: object) -> None:
        """Ctrl-C and SIGTERM come here with the users still at work."""
        with _undisturbed():
            if self.run is not None:
                self._runner.stop()
            elif self._leaver is not None:
                self._leaver.join(_LAST_WORDS_S)  # it may be writing the result
            self._idle.wait()  # or whoever got an earlier signal is
            try:
                self._stand.close()
            except TargetError as exc:
                logger.error("%s", exc)  # noqa: TRY400  a sentence for the user, no bug of ours to trace
                self._environment.process_exit_code = 1


def _show_campaign(campaign: Campaign, last: StreamRun, *, report: bool) -> bool:
    """The same of several runs. `last`: the one that is finished, or was interrupted."""
    last.finish()
    text, good = campaign.finish()
    print(f"\n{text}", flush=True)
    if report and (campaign.folder / SEARCH_FILE).exists():
        good = _report(campaign.folder, of_search=True) and good
    print(f"results: {campaign.folder}", flush=True)
    return good


class Worker:
    """A Locust worker: sends the share that its master gives it."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        self._environment = environment
        self._runner = runner
        self._outpost = Outpost(runner, self._make)
        options = environment.parsed_options or Namespace()
        # Locust replaces a worker's options by its master's, which the web page's form may have set
        self._own = {name: getattr(options, name) for name in COMMAND_LINE_ONLY if name not in FILES}

    def next_share(self, previous: Share | None) -> Share:
        """What this process has to send after that; waits until there is something."""
        while self._outpost.post is None or self._outpost.post.share is previous:
            self._outpost.changed.wait()
        return self._outpost.post.share

    def attach(self) -> None:
        """Listen to Locust."""
        hooks = self._environment.events
        hooks.test_start.add_listener(lambda **_: self._outpost.begin())
        hooks.test_stop.add_listener(lambda **_: self._outpost.stop())
        hooks.quitting.add_listener(lambda **_: self._runner.stop())

    def _make(self, assignment: Assignment) -> Post:
        options = Namespace(**(vars(self._environment.parsed_options or Namespace()) | self._own))
        return make_post(assignment, read_options(options, assignment.url))


def _workers(runner: MasterRunner) -> dict[str, bool]:
    """Those that are connected; whether each is well."""
    return {worker.id: worker.state != STATE_MISSING for worker in runner.clients.all}


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not cost the result of the first. (SIGTERM is gevent's: see Stream._on_quitting.)"""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _show(run: StreamRun, *, report: bool) -> bool:
    """Write run.json, print the table, have the report written. Returns whether all that went well and is valid."""
    result = run.finish()
    print(f"\n{result_table(result)}", flush=True)
    good = result.verdict == "valid" and result.objectives_met
    if report and any(phase.total.requests for phase in result.phases):
        good = _report(run.folder) and good
    print(f"results: {run.folder}", flush=True)
    return good


def _report(folder: Path, *, of_search: bool = False) -> bool:
    """Draw the report of a run, or of a search and the run that confirmed it; whether that went well."""
    try:
        from dlreport.search import write_search_report  # noqa: PLC0415  slow to import, and not needed to measure
        from dlreport.stream import write_report  # noqa: PLC0415  the same

        page = write_search_report(folder) if of_search else write_report(folder)
        print(f"report: {page}", flush=True)
    except Exception:
        logger.exception("the report could not be written; the results are kept in %s", folder)
        return False
    return True


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser) -> None:
    add_options(parser)


def _default_users(options: Namespace) -> int | None:
    """How many requests may be in flight where -u does not say; None: Locust's own default, 1."""
    if options.plan and (users := users_of(Path(options.plan))) is not None:
        return users
    schedules = (options.rate, options.find_rate, options.intervals, options.trace, options.plan)
    if any(schedules) or options.scenario == "Offline":
        return DEFAULT_SENDERS
    if options.preset and not options.host and options.scenario == NONE:
        return options.gpu_num or default_workers()
    return None


@events.init.add_listener
def _attach(environment: Environment, runner: Runner, web_ui: WebUI | None, **_: object) -> None:
    options = environment.parsed_options or Namespace()
    if options.num_users is None:
        options.num_users = _default_users(options)
    if options.spawn_rate is None:  # nothing is sent until all users are there, so they may come at once
        options.spawn_rate = min(float(options.num_users or 1), 100.0)
    gevent.get_hub().loop.update_now()  # else its clock is that of before the imports, and --run-time ends too early
    if not options.print_stats:  # Locust's tables are rounded; ours come from all samples
        logging.getLogger("locust.stats_logger").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    made = (
        Worker(environment, runner)
        if isinstance(runner, WorkerRunner)
        else Stream(environment, options, runner, web_ui)
    )
    StreamUser.stream = made
    made.attach()
    if web_ui is not None and isinstance(made, Stream):
        WebTab(lambda: made.live).attach(web_ui)
