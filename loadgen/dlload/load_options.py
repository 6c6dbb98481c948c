"""The options that say when requests are sent, what is measured of them, and when a figure is good enough."""

import math
import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from dlclient.results import Seeds

from dlload.arrivals import read_course, read_intervals
from dlload.errors import OptionError
from dlload.plan import DEFAULT_REQUESTS, AtOnce, Closed, Intervals, Load, Open
from dlload.search import SearchBounds
from dlload.slo import Condition, parse_slo

Scenario = Literal["SingleStream", "MultiStream", "Server", "Offline"]
SCENARIOS: tuple[Scenario, ...] = ("SingleStream", "MultiStream", "Server", "Offline")
MULTI_STREAM_SAMPLES = 8
"""Of a query of MLPerf's MultiStream (MLPerf Inference rules, section 3.2)."""
DEFAULT_STEP_S = 20.0
DEFAULT_SENDERS = 100
"""Of an open loop: how many requests may be in flight; idle senders cost a connection at most."""
_MOST = 1e9
"""Of seconds: 32 years; what is larger is a slip of the pen."""
NONE = "none"
"""A choice that is none: a list of choices in the web page sends its first one where nobody chose."""
FILES = ("intervals", "plan", "trace")
"""Options that name files: not for whoever can reach the web page."""


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What is sent before the clock starts: until one of these is reached, or the windows agree; nothing of all: none."""

    seconds: float | None = None
    requests: int | None = None
    until_steady: bool = False

    @property
    def is_none(self) -> bool:
        """Whether nothing is sent (but what loads the models)."""
        return self.seconds is None and self.requests is None and not self.until_steady


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Checked. Paths are not read yet."""

    load: Load = Closed(DEFAULT_REQUESTS)
    scenario: Scenario | None = None
    intervals: Path | None = None
    plan: Path | None = None
    trace: Path | None = None
    speed: float = 1.0
    arrivals: str = "poisson"
    seeds: Seeds = Seeds.all(1)
    drop_after_s: float | None = None
    max_send_lag_s: float | None = None
    """None: 1 ms or 5 % of the median latency, whichever is larger."""
    warm_up: WarmUp = WarmUp()
    tail_s: float = 0.0
    slo: tuple[Condition, ...] = ()
    bounds: SearchBounds | None = None
    """Of `--find-rate`."""

    @property
    def most_requests(self) -> int | None:
        """Of a trace; None: all of it."""
        return self.load.requests


def add_load_options(add: Callable[..., None]) -> None:
    """`add` takes what argparse's add_argument takes."""
    add(
        "--rate",
        metavar="R",
        help="Open loop: requests are due by one schedule, at R per second on average, whatever becomes "
        "of the ones before. 200; 10:200:10 rises in steps of 10 that last --step-time each; 10..200/60 rises evenly for 60 s. "
        "Users (-u) only limit how many are in flight. Default: closed loop, each user sends when its last answer came.",
    )
    add(
        "--arrivals",
        default="poisson",
        metavar="A",
        help="Gaps of the open loop: poisson, constant, gamma:CV, burst:N (N at once), "
        "mmpp:RATIO:BUSY_S:CALM_S (changes between two rates). Default: poisson.",
    )
    add(
        "--step-time",
        type=float,
        default=DEFAULT_STEP_S,
        metavar="S",
        help="Seconds per step of --rate A:B:STEP. Default: 20.",
    )
    add(
        "--duration",
        type=float,
        metavar="S",
        help="Length of the open loop's phases in seconds, in place of --requests.",
    )
    add(
        "--intervals",
        metavar="FILE",
        help="Open loop with the gaps of this file: whole microseconds, one a line, looped.",
    )
    add("--plan", metavar="FILE", help="Send exactly what an earlier run sent: its plan.jsonl or its result folder.")
    add(
        "--trace",
        metavar="FILE",
        help="Open loop with the invocations of an Azure Functions 2021 trace (CSV with app, func, "
        "end_timestamp, duration); the most popular function asks the first service, and so on.",
    )
    add("--speed", type=float, default=1.0, metavar="X", help="Divide all times of --plan or --trace by X. Default: 1.")
    add(
        "--think",
        metavar="S",
        help="Closed loop: seconds between an answer and its user's next request; exp:S for exponential ones.",
    )
    add(
        "--scenario",
        choices=(NONE, *SCENARIOS),
        default=NONE,
        help="MLPerf's: SingleStream (one user), MultiStream (one user, 8 images a request), "
        "Server (Poisson at --rate), Offline (all requests at once).",
    )
    for purpose in ("schedule", "models", "images", "think"):
        add(f"--seed-{purpose}", type=int, metavar="N", help=f"Another seed for the {purpose} alone. Default: --seed.")
    add(
        "--drop-after",
        type=float,
        metavar="S",
        help="Open loop: a request that no user was free to send within S seconds of its due "
        "time is dropped and counted. Default: it is sent, late.",
    )
    add(
        "--max-send-lag",
        type=float,
        metavar="MS",
        help="Open loop: the largest p99 of the send lag of a valid run, in ms. "
        "Default: 1 ms, or 5 %% of the median latency where that is more.",
    )
    add(
        "--warmup",
        default="none",
        metavar="W",
        help="What is sent like the plan before the clock starts: 5s, 200 (requests), auto (until "
        "3 windows agree within 10 %%), none. Every model is loaded and run before that in any case. Default: none.",
    )
    add(
        "--slo",
        metavar="C,C",
        help="What the figures must be: p50 p90 p99 p99.9 or mean < a time, errors<0.1%%, rate>=95%% of what was offered, such "
        "as p99<50ms,errors<0.1%%. A run that misses it, or has too few requests to tell, exits with 1.",
    )
    add(
        "--find-rate",
        metavar="START[:MOST]",
        help="Search the highest --rate that meets --slo, in runs of its own, from START requests per second on, up to MOST "
        "(10000); confirm it in another run. One phase, warm unless --phases says otherwise.",
    )
    add(
        "--tail",
        type=float,
        default=0.0,
        metavar="S",
        help="Leave out what is due in the last S seconds of a phase. Default: 0.",
    )


def read_load_options(given: Namespace) -> LoadOptions:
    """Raises OptionError."""
    speed = _above_0(1.0 if given.speed in (None, "") else given.speed, "--speed")
    sources = [name for name in ("rate", *FILES) if getattr(given, name)]
    if len(sources) > 1:
        raise OptionError(f"--{sources[0]} and --{sources[1]} both say when requests are sent; give one of them")
    if speed != 1 and not (given.plan or given.trace):
        raise OptionError("--speed goes with --plan or --trace; change --rate instead")
    scenario = _scenario(given)
    return LoadOptions(
        load=_load(given, scenario),
        scenario=scenario,
        intervals=_file(given.intervals),
        plan=_file(given.plan),
        trace=_file(given.trace),
        speed=speed,
        arrivals=str(given.arrivals or "poisson"),
        seeds=Seeds(**{purpose: _seed(given, purpose) for purpose in ("schedule", "models", "images", "think")}),
        drop_after_s=None if given.drop_after in (None, "") else _above_0(given.drop_after, "--drop-after"),
        max_send_lag_s=None
        if given.max_send_lag in (None, "")
        else _above_0(given.max_send_lag, "--max-send-lag", "milliseconds") / 1000,
        warm_up=_warm_up(str(given.warmup or "none")),
        tail_s=_tail(given.tail),
        slo=parse_slo(given.slo) if given.slo else (),
        bounds=_bounds(given),
    )


def _seed(given: Namespace, purpose: str) -> int:
    own = getattr(given, f"seed_{purpose}")
    if own not in (None, ""):
        return _whole(own, f"--seed-{purpose}")
    return _whole(given.seed, "--seed")


def _whole(given: Any, option: str) -> int:
    try:
        return int(given)
    except ValueError as exc:
        raise OptionError(f"{option} {given}: a whole number is needed") from exc


def _scenario(given: Namespace) -> Scenario | None:
    if given.scenario in (None, "", NONE):
        return None
    if given.scenario not in SCENARIOS:
        raise OptionError(f"--scenario {given.scenario}: not one; use {', '.join(SCENARIOS)}")
    return cast("Scenario", given.scenario)


def _load(given: Namespace, scenario: Scenario | None) -> Load:
    requests = None if given.requests in (None, "") else _whole(given.requests, "--requests")
    if requests is not None and requests < 1:
        raise OptionError(f"--requests {requests}: at least 1 is needed")
    duration_s = None if given.duration in (None, "") else _above_0(given.duration, "--duration")
    if requests is not None and duration_s is not None:
        raise OptionError("--requests and --duration both end a phase; give one of them")
    _check_load(given, scenario, duration_s)
    if scenario == "Offline":
        return AtOnce(requests or DEFAULT_REQUESTS)
    if given.rate:
        return _open(given, scenario, requests, duration_s)
    if given.intervals:
        return Intervals((), requests if requests or duration_s else DEFAULT_REQUESTS, duration_s)
    if given.trace:
        return Intervals((), requests, None, "trace")
    return _closed(str(given.think or ""), requests or DEFAULT_REQUESTS)


def _check_load(given: Namespace, scenario: Scenario | None, duration_s: float | None) -> None:
    """Raises OptionError where options contradict each other."""
    is_open = bool(given.rate or given.intervals or given.trace)
    if given.plan and (given.requests not in (None, "") or given.think or scenario):
        drop = "--think" if given.think else "--scenario" if scenario else "--requests"
        raise OptionError(f"--plan says itself what is sent and when; drop {drop}")
    if given.arrivals not in (None, "", "poisson") and not given.rate:
        raise OptionError(f"--arrivals {given.arrivals} needs --rate: how many requests per second are due")
    if given.drop_after not in (None, "") and not (is_open or given.plan or scenario == "Offline"):
        raise OptionError(
            "--drop-after is for the open loop; in a closed one a request waits for its user; give --rate"
        )
    if given.think and (is_open or scenario not in (None, "SingleStream", "MultiStream")):
        raise OptionError("--think is for the closed loop, where a user waits for its answer; drop it or the schedule")
    if duration_s is not None and not (given.rate or given.intervals):
        raise OptionError("--duration is for --rate and --intervals; a closed loop ends after its --requests")
    if scenario == "Server" and not given.rate:
        raise OptionError("--scenario Server needs --rate: how many queries per second are due")
    if scenario not in (None, "Server") and is_open:
        raise OptionError(
            f"--scenario {scenario} sets its own load; drop --{'rate' if given.rate else 'intervals' if given.intervals else 'trace'}"
        )


def _open(given: Namespace, scenario: Scenario | None, requests: int | None, duration_s: float | None) -> Open:
    arrivals = str(given.arrivals or "poisson")
    if scenario == "Server" and arrivals != "poisson":
        raise OptionError("--scenario Server is Poisson; drop --arrivals or the scenario")
    step_s = DEFAULT_STEP_S if given.step_time in (None, "") else _above_0(given.step_time, "--step-time")
    course = read_course(str(given.rate), step_s)
    if requests is None and duration_s is None and math.isinf(course.seconds):
        requests = DEFAULT_REQUESTS
    return Open(course, arrivals, requests, duration_s, f"{given.rate}/s {arrivals}")


def _closed(think: str, requests: int) -> Closed:
    if not think:
        return Closed(requests)
    kind, _, seconds = think.rpartition(":")
    if kind not in ("", "exp"):
        raise OptionError(f"--think {think}: write seconds, such as 0.5, or exp:0.5 for exponential ones")
    return Closed(requests, "exponential" if kind else "constant", _above_0(seconds, "--think"))


def with_gaps(load: Load, path: Path) -> Load:
    """The load of `--intervals`, read from its file. Raises OptionError."""
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise OptionError(f"--intervals {path}: cannot be read: {exc.strerror}; name a file with gaps in it") from exc
    gaps = read_intervals(content, str(path))
    return Intervals(
        gaps, load.requests, load.duration_s if isinstance(load, Intervals) else None, f"intervals of {path.name}"
    )


def _warm_up(text: str) -> WarmUp:
    if text == "none":
        return WarmUp()
    if text == "auto":
        return WarmUp(until_steady=True)
    if text.isdecimal() and len(text) < 10:
        return WarmUp(requests=int(text)) if int(text) else WarmUp()
    if re.fullmatch(r"[0-9.]+s", text):
        return WarmUp(seconds=_above_0(text[:-1], "--warmup"))
    raise OptionError(f"--warmup {text}: write 5s for seconds, 200 for requests, auto, or none")


def _bounds(given: Namespace) -> SearchBounds | None:
    """What `--find-rate` says. Raises OptionError."""
    if not given.find_rate:
        return None
    text = str(given.find_rate)
    if not given.slo:
        raise OptionError("--find-rate needs --slo: what the rate has to meet, such as --slo 'p99<50ms,errors<0.1%'")
    clash = [name for name in ("rate", "requests", "duration", *FILES) if getattr(given, name)]
    if clash := clash or ["scenario"] * bool(_scenario(given)):
        raise OptionError(f"--find-rate chooses the rate and how many requests there are; drop --{clash[0]}")
    start, colon, most = text.partition(":")
    start_per_s = _above_0(start, "--find-rate", "requests per second")
    most_per_s = _above_0(most, "--find-rate", "requests per second") if colon else SearchBounds(1.0).highest_per_s
    bounds = SearchBounds(start_per_s, lowest_per_s=min(1.0, start_per_s), highest_per_s=most_per_s)
    bounds.check()
    return bounds


def _tail(given: Any) -> float:
    try:
        seconds = 0.0 if given in (None, "") else float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise OptionError(f"--tail {given}: a number of seconds of 0 or more is needed")
    return seconds


def _above_0(given: float | str, option: str, unit: str = "seconds") -> float:
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 < number <= _MOST:
        unit = "times" if option == "--speed" else unit
        raise OptionError(f"{option} {given}: a number of {unit} above 0 (up to {_MOST:g}) is needed")
    return number


def _file(given: str | None) -> Path | None:
    if not given:
        return None
    try:
        return Path(given).expanduser()
    except RuntimeError as exc:  # ~somebody who has no home here
        raise OptionError(f"{given}: {exc}; write the path in full") from exc
