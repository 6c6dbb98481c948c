"""One try in a process of its own: a Job goes in, events come out, and whatever ends it, even the kernel, is a kind of failure."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

from dlclient.bench.job import Ended, Job
from dlclient.bench.listening import Listener
from dlclient.bench.memory_watch import MemoryWatch
from dlclient.bench.point_process import die_with, give
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
    listener = Listener(job, lambda *_: None, MemoryWatch())
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
        end, resident_bytes = _converse(process, listener, read_end, job, data_limit_bytes)
    finally:
        os.close(read_end)
    end = end or listener.died(process.returncode, "see what it printed")
    if isinstance(end, Failure):
        return Outcome(None, end, resident_bytes)
    return Outcome(end.point, None, resident_bytes)


def _converse(
    process: "subprocess.Popen[bytes]", listener: Listener, read_end: int, job: Job, data_limit_bytes: int | None
) -> tuple[Ended | Failure | None, int]:
    """How it ended, if it said so, and the most that it had in memory. It has been waited for."""
    pidfd = os.pidfd_open(process.pid)
    try:
        _confine(process.pid, data_limit_bytes)
        give(job, process)
        end = listener.listen(read_end, pidfd)
        if listener.in_time:
            wait([pidfd], _EXIT_S)
    finally:
        if not wait([pidfd], 0):
            process.kill()
        os.close(pidfd)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return end, usage.ru_maxrss * 1024


def _confine(pid: int, data_limit_bytes: int | None) -> None:
    """Limit a process that still starts, and make it the first that the kernel ends where the machine's memory runs out."""
    with suppress(ProcessLookupError, OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", "ascii")
    if data_limit_bytes is not None:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (data_limit_bytes, data_limit_bytes))
