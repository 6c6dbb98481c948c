"""The process that measures one point: started, listened to, given up when it hangs, and never left behind."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import msgspec
from dlmodels.engines.host import allocating

from dlclient.bench.job import Ended, Job
from dlclient.bench.listening import Listener, Watch
from dlclient.bench.memory_watch import MemoryWatch
from dlclient.bench_result import Failure
from dlclient.local_server import HeldSignals

CHILD = (sys.executable, "-X", "faulthandler", "-m", "dlclient.bench.child")
"""What measures a point. Of faulthandler it has that a crash leaves its stack in the log."""
_EXIT_S = 15.0
"""How long a process may take to end after its last event."""
_DUMP_S = 2.0
"""How long a hung one may take to write its stack to the log."""
_MODES = ("rb", "wb")
_LAST_LINES, _LINE = 20, 300
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)


def run_point(
    job: Job, log: Path, watch: Watch, child: Sequence[str] = CHILD, root: Path = Path("/")
) -> Ended | Failure:
    """Measure a point in a process of its own, which has ended when this returns or raises, with all that it started.

    `log` gets what it prints. `root`: of the file system in which the kernel tells of memory, for tests.
    """
    return _PointProcess(job, watch, log, MemoryWatch(root)).run(child)


def die_with(parent: int) -> None:
    """Have the kernel kill this process once `parent`, whose main thread started it, has ended, however that was: a dlbench that
    is killed leaves nothing behind that would disturb the next one.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def give(job: Job, process: "subprocess.Popen[bytes]") -> None:
    """Hand the job to a process that has just been started."""
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stdin:  # it has ended already, which is told from how
        stdin.write(msgspec.json.encode(job))


class _PointProcess:
    def __init__(self, job: Job, watch: Watch, log: Path, memory: MemoryWatch) -> None:
        self._log = log
        self._job = job
        self._listener = Listener(job, watch, memory)

    def run(self, child: Sequence[str]) -> Ended | Failure:
        with ExitStack() as opened:
            output = opened.enter_context(self._log.open("wb"))
            reader, writer = (
                opened.enter_context(os.fdopen(end, mode)) for end, mode in zip(os.pipe(), _MODES, strict=True)
            )
            held = HeldSignals()
            opened.callback(held.release)
            process = subprocess.Popen(  # noqa: S603  our own program
                [*child, "--events-fd", str(writer.fileno())],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writer.fileno(),),
                env=allocating(os.environ),
                process_group=0,  # Ctrl-C is for us, and what it starts can be killed with it
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509  no other thread is there that could hold a lock
            )
            opened.callback(_kill, process)
            writer.close()
            held.release()
            give(self._job, process)
            return self._listen(process, reader.fileno())

    def _listen(self, process: "subprocess.Popen[bytes]", reader: int) -> Ended | Failure:
        pidfd = os.pidfd_open(process.pid)
        try:
            end = self._listener.listen(reader, pidfd)
            if end is None:
                return self._listener.died(_exit_code(pidfd), _last_words(self._log))
            if not self._listener.in_time:
                process.send_signal(signal.SIGABRT)  # faulthandler writes where it hangs
            wait([pidfd], _EXIT_S if self._listener.in_time else _DUMP_S)
            return end
        finally:
            os.close(pidfd)


def _exit_code(pidfd: int) -> int:
    """Of a process that has ended, below 0 the signal; it can still be waited for."""
    status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    assert status is not None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def _last_words(log: Path) -> str:
    """The last line of a log, which is where a traceback says what was wrong."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-_LAST_LINES:]]
    last = next((line for line in reversed(lines) if line), "")
    return f'saying "{last[:_LINE]}": see its log' if last else "and its log is empty: run it again"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Its whole group; before it is waited for, as until then nobody else can have its number."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
