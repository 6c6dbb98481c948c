"""The process that measures one point: started, listened to, given up when it hangs, and never left behind."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

import msgspec
from dlmodels.engines.host import allocating

from dlclient.bench.job import EVENT, Ended, Entered, Failed, Job, Progress
from dlclient.bench.memory_watch import MemoryWatch
from dlclient.bench.naming import describe
from dlclient.bench_result import Failure, FailureKind
from dlclient.local_server import HeldSignals

CHILD = (sys.executable, "-X", "faulthandler", "-m", "dlclient.bench.child")
"""What measures a point. Of faulthandler it has that a crash leaves its stack in the log."""
_LOOK_S = 0.5
_EXIT_S = 15.0
"""How long a process may take to end after its last event."""
_DUMP_S = 2.0
"""How long a hung one may take to write its stack to the log."""
_MODES = ("rb", "wb")
_LAST_LINES, _LINE = 20, 300
_CHUNK = 1 << 20
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)

Watch = Callable[[str, float | None], None]
"""Gets the stage, and how much of it is done, where that is told."""


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


class _PointProcess:
    def __init__(self, job: Job, watch: Watch, log: Path, memory: MemoryWatch) -> None:
        self._log = log
        self._memory = memory
        self._job = job
        self._watch = watch
        self._stage = "start"
        self._timeout_s = job.budget.start_timeout_s
        self._deadline = 0.0
        self._torn = bytearray()
        self._end: Ended | Failure | None = None

    def run(self, child: Sequence[str]) -> Ended | Failure:
        with ExitStack() as opened:
            output = opened.enter_context(self._log.open("wb"))
            reader, writer = (
                opened.enter_context(os.fdopen(end, mode)) for end, mode in zip(os.pipe(), _MODES, strict=True)
            )
            os.set_blocking(reader.fileno(), False)
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
            self._give_job(process)
            return self._follow(process, reader.fileno())

    def _give_job(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which is told from how
            process.stdin.write(msgspec.json.encode(self._job))
            process.stdin.close()

    def _follow(self, process: "subprocess.Popen[bytes]", reader: int) -> Ended | Failure:
        self._enter("start", self._timeout_s)
        ended = os.pidfd_open(process.pid)
        try:
            told = [reader]
            while True:
                self._memory.look()
                left = max(self._deadline - time.monotonic(), 0.0)
                ready = wait([*told, ended], min(left, _LOOK_S))
                if reader in ready and self._read(reader) == b"":
                    told = []
                if ended in ready:
                    while self._end is None and self._read(reader):
                        pass
                if self._end is not None:
                    wait([ended], _EXIT_S)
                    return self._end
                if ended in ready:
                    return self._died(ended)
                if time.monotonic() >= self._deadline:
                    return self._hung(process, ended)
        finally:
            os.close(ended)

    def _read(self, reader: int) -> bytes | None:
        """Take what has come, and return it; None: nothing has; b"": nothing more will."""
        try:
            content = os.read(reader, _CHUNK)
        except BlockingIOError:
            return None
        *lines, rest = content.split(b"\n")
        for line in lines:
            self._torn += line
            self._take(bytes(self._torn))
            self._torn.clear()
        self._torn += rest
        return content

    def _take(self, line: bytes) -> None:
        if self._end is not None:
            return
        try:
            event = EVENT.decode(line)
        except msgspec.DecodeError as exc:
            shown = line[:80].decode(errors="replace")
            self._end = Failure(
                kind="error",
                stage=self._stage,
                text=f"its process told something that is no event ({exc}): {shown!r}; install dlserve again, or report this",
            )
            return
        match event:
            case Entered(stage, timeout_s):
                self._enter(stage, timeout_s)
            case Progress(fraction):
                self._watch(self._stage, min(max(fraction, 0.0), 1.0))
            case Failed(failure):
                self._end = failure
            case Ended(point) if point.setting != self._job.setting:
                text = f"its process measured another point ({describe(point.setting)}); install dlserve again, or report this"
                self._end = Failure(kind="error", stage=self._stage, text=text)
            case Ended():
                self._end = event

    def _enter(self, stage: str, timeout_s: float) -> None:
        self._stage, self._timeout_s = stage, timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._watch(stage, None)

    def _hung(self, process: "subprocess.Popen[bytes]", ended: int) -> Failure:
        process.send_signal(signal.SIGABRT)  # faulthandler writes where it hangs
        wait([ended], _DUMP_S)
        key = {"start": "start_timeout_s", "prepare": "prepare_timeout_s", "load": "prepare_timeout_s"}
        return Failure(
            kind="time-out",
            stage=self._stage,
            text=f"the stage {self._stage} took more than {self._timeout_s:g} s and was given up: give it more "
            f"(--set budget.{key.get(self._stage, 'iteration_timeout_s')}=...), or see in its log where it hung",
        )

    def _died(self, ended: int) -> Failure:
        """What a process died of that said nothing."""
        status = os.waitid(os.P_PIDFD, ended, os.WEXITED | os.WNOWAIT)
        assert status is not None
        signalled = 0 if status.si_code == os.CLD_EXITED else status.si_status
        kind: FailureKind = "crash"
        if not signalled:
            kind = "error"
            text = f"its process ended with exit code {status.si_status} and no result, {_last_words(self._log)}"
        elif signalled == signal.SIGKILL and self._memory.killed():
            kind = "out-of-memory"
            text = (
                "the kernel killed its process for lack of memory: try a smaller batch, or give the machine more memory"
            )
        elif signalled == signal.SIGKILL and self._memory.scarce():
            kind = "out-of-memory"
            text = (
                f"its process was killed, probably by the kernel for lack of memory ({self._memory.least_free:.0%} of it was free): "
                "try a smaller batch, or give the machine more memory"
            )
        elif signalled == signal.SIGKILL:
            text = "its process was killed (SIGKILL), not by dlbench: find out by whom, then --resume --retry-failed"
        else:
            name = signal.strsignal(signalled)
            text = f"its process crashed ({name}, signal {signalled}): its log ends with the stack, if the framework left one"
        return Failure(kind=kind, stage=self._stage, text=text)


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
