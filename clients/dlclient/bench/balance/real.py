"""A cell in processes: a dlserve of our own with simulated models, and the stream load tester over HTTP."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dlclient.balance_result import Figures
from dlclient.bench.balance.figures import Answered, figures
from dlclient.errors import LocalServerError, SuiteError
from dlclient.local_server import COMMANDS, run, serving
from dlclient.results import RUN_FILE, Reason, Record, read_records, read_run

REAL_DIR = "real"
STREAM = Path("loadgen/stream.py")
EXPECTED_REASONS = frozenset({"wrong-temperature", "unstable-windows"})
"""What makes a stream invalid and is the point here: loads on the way, and a queue that grows under a policy that loads too
much, or for as long as the caches settle."""
_TIME_OUT_S = 900
_LOGS = ("server", "stream")


@dataclass(frozen=True, slots=True)
class Streamed:
    """What the processes did in a cell."""

    figures: Figures
    overhead_s: float
    """Median of what a request took beside queue, load and forward."""
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent to a server, and how."""

    plan: Path
    speed: float
    """Times as fast as the plan says."""
    senders: int
    """Requests that may be in flight."""
    most_lag_s: float
    """That the p99 of the send lag may have."""
    settling_s: float
    """What is due before is not in the figures."""


def check_checkout() -> None:
    """Raises SuiteError where the load tester's locustfile is not at hand."""
    if not STREAM.is_file():
        raise SuiteError(f"{STREAM} is not here: run dlbench balance in a checkout, or with --real none")


def stream(options: Sequence[str], workers: int, models: Path, sending: Sending, folder: Path) -> Streamed:
    """Start the server, stream at it, stop it. `folder` gets the stream's result and both logs; one that it has is taken.

    Raises LocalServerError where the server does not start or nothing comes of the stream, ResultError of damaged files.
    """
    if (folder / f"{_LOGS[-1]}.log").is_file():  # it got here last
        return read_streamed(folder, sending.settling_s)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _log(folder, "server").open("w", encoding="utf-8") as log:

        def echo(line: str) -> None:
            print(line, file=log, flush=True)

        with serving(models, workers=workers, options=options, say=echo, echo=echo) as url:
            _send(url, sending, folder)
    for name in _LOGS:
        _log(folder, name).replace(folder / f"{name}.log")
    return read_streamed(folder, sending.settling_s)


def _send(url: str, sending: Sending, folder: Path) -> None:
    """Raises LocalServerError where it leaves no result."""
    users = str(sending.senders)
    command = (
        str(COMMANDS / "locust"), "-f", str(STREAM), "--headless", "--host", url, "--users", users, "--spawn-rate", users,
        "--plan", str(sending.plan), "--speed", repr(sending.speed), "--phases", "warm", "--timeout", str(_TIME_OUT_S),
        "--max-send-lag", repr(sending.most_lag_s * 1e3), "--no-report", "--results", str(folder),
    )  # fmt: skip
    log = _log(folder, "stream")
    with log.open("wb") as said:
        try:
            run(command, "the stream", output=said)
        except LocalServerError:  # an invalid stream ends with 1: what of that is no fault here, its reasons tell
            if not (folder / RUN_FILE).is_file():
                raise LocalServerError(f"the stream left no result: see {log}") from None


def _log(folder: Path, name: str) -> Path:
    """Where a log is until the folder is there."""
    return folder.parent / f"{folder.name}.{name}.log"


def read_streamed(folder: Path, settling_s: float) -> Streamed:
    """The figures of a stream's result folder. Raises ResultError, and LocalServerError where no answer counts."""
    run_file, records = read_run(folder), read_records(folder)
    reasons = {reason.code: reason for reason in run_file.reasons if reason.code not in EXPECTED_REASONS}
    good = [record for record in records if record.ok and record.stages]
    found = figures([_answered(one) for one in good], run_file.plan.requests, None, settling_s)
    return Streamed(found, median(_overhead_s(one) for one in good), tuple(reasons.values()))


def _answered(record: Record) -> Answered:
    return Answered(record.due_s, record.latency_s, (record.stages or {})["forward"], record.cache == "warm")


def _overhead_s(record: Record) -> float:
    stages = record.stages or {}
    return record.latency_s - stages["queue"] - stages["load"] - stages["forward"]
