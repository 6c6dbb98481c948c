"""One try in a process of its own: a Job goes in, events come out, and whatever ends it, even the kernel, is a kind of failure."""

import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import msgspec

from dlclient.bench.job import EVENT, Ended, Entered, Failed, Job
from dlclient.bench.memory_watch import MemoryWatch
from dlclient.bench.point_process import die_with
from dlclient.bench_result import Failure, Point

CHILD = (sys.executable, "-m", "dlclient.bench.child")
"""The process of a point."""

_EXIT_S = 10.0
"""Between a process's last event and its end: some frameworks take a while to let go."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try ended: with `point`, or with `failure`."""

    point: Point | None
    failure: Failure | None
    resident_bytes: int
    """The most that the process had in memory, mapped files included."""

    @property
    def kind(self) -> str:
        """Of its failure; "" for none."""
        return self.failure.kind if self.failure else ""


def attempt(job: Job, *, data_limit_bytes: int | None = None, command: Sequence[str] = CHILD) -> Outcome:
    """Run the job and wait for its end; what its process prints goes where this one's does.

    `data_limit_bytes`: RLIMIT_DATA, the private memory that the process may allocate. More than that is refused as if the
    machine had no more, so that the frameworks raise what they raise then. None: no limit but the machine's.
    """
    memory = MemoryWatch()
    read_end, write_end = os.pipe()
    try:
        try:
            process = subprocess.Popen(  # noqa: S603  this very program
                [*command, "--events-fd", str(write_end)],
                stdin=subprocess.PIPE,
                pass_fds=(write_end,),
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509  no thread of ours runs while the search does
            )
        finally:
            os.close(write_end)
        told = _converse(process, read_end, job, data_limit_bytes)
    finally:
        os.close(read_end)
    if isinstance(told.last, Ended):
        return Outcome(told.last.point, None, told.resident_bytes)
    if isinstance(told.last, Failed):
        return Outcome(None, told.last.failure, told.resident_bytes)
    return Outcome(None, _unsaid(process.returncode, told, memory.killed()), told.resident_bytes)


@dataclass(slots=True)
class _Told:
    """What came from the process until it said how it ended, or ended."""

    last: Ended | Failed | None = None
    stage: str = "start"
    timeout_s: float = 0.0
    in_time: bool = True
    resident_bytes: int = 0


def _converse(process: "subprocess.Popen[bytes]", read_end: int, job: Job, data_limit_bytes: int | None) -> _Told:
    told = _Told(timeout_s=job.budget.start_timeout_s)
    watch = os.pidfd_open(process.pid)
    try:
        _confine(process.pid, data_limit_bytes)
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as stdin:  # it died already: its exit code says of what
            stdin.write(msgspec.json.encode(job))
        _follow(read_end, told)
        if told.in_time:
            select.select([watch], [], [], _EXIT_S)
    finally:
        if not select.select([watch], [], [], 0)[0]:
            process.kill()
        os.close(watch)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    told.resident_bytes = usage.ru_maxrss * 1024
    return told


def _confine(pid: int, data_limit_bytes: int | None) -> None:
    """Limit a process that still starts, and make it the first that the kernel ends where the machine's memory runs out."""
    with suppress(ProcessLookupError, OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", "ascii")
    if data_limit_bytes is not None:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (data_limit_bytes, data_limit_bytes))


def _follow(read_end: int, told: _Told) -> None:
    """Read events until the last one, the end of the pipe, or the end of a stage's time."""
    deadline = monotonic() + told.timeout_s
    rest = b""
    while True:
        if not select.select([read_end], [], [], max(deadline - monotonic(), 0.0))[0]:
            told.in_time = False
            return
        read = os.read(read_end, 1 << 16)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            event = EVENT.decode(line)
            if isinstance(event, Ended | Failed):
                told.last = event
                return
            if isinstance(event, Entered):
                told.stage, told.timeout_s = event.stage, event.timeout_s
                deadline = monotonic() + event.timeout_s


def _unsaid(exit_code: int, told: _Told, kernel_kills: bool) -> Failure:
    """Why a process ended that did not say so itself."""
    if not told.in_time:
        return Failure(
            kind="time-out",
            stage=told.stage,
            text=f"{told.stage} took longer than {told.timeout_s:g} s: give it a longer time-out, or a smaller batch",
        )
    if exit_code == -signal.SIGKILL and kernel_kills:
        return Failure(
            kind="out-of-memory",
            stage=told.stage,
            text="the kernel ended the process since memory had run out: ask for less, or give it a memory limit",
        )
    if exit_code >= 0:
        return Failure(
            kind="error",
            stage=told.stage,
            text=f"the process ended with exit code {exit_code} in {told.stage} and told nothing: see what it printed",
        )
    return Failure(
        kind="crash",
        stage=told.stage,
        text=f"the process was ended by {signal.Signals(-exit_code).name} in {told.stage}: see what it printed",
    )
