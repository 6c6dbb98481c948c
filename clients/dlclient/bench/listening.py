"""Listening to the process of a point: its stages and how each may last, its last word, and what it died of that had none."""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait

import msgspec

from dlclient.bench.job import EVENT, Ended, Entered, Failed, Job, Progress
from dlclient.bench.memory_watch import MemoryWatch
from dlclient.bench.naming import describe
from dlclient.bench_result import Failure, FailureKind

_LOOK_S = 0.5
_CHUNK = 1 << 20
_BUDGETS = {"start": "start_timeout_s", "prepare": "prepare_timeout_s", "load": "prepare_timeout_s"}

Watch = Callable[[str, float | None], None]
"""Gets the stage, and how much of it is done, where that is told."""


class Listener:
    """What one process has told so far."""

    def __init__(self, job: Job, watch: Watch, memory: MemoryWatch) -> None:
        """`memory`: looked at now and then while the process runs."""
        self._job = job
        self._watch = watch
        self._memory = memory
        self._stage = "start"
        self._timeout_s = job.budget.start_timeout_s
        self._deadline = 0.0
        self._torn = bytearray()
        self._end: Ended | Failure | None = None
        self.in_time = True
        """Whether no stage took longer than it may."""

    def listen(self, reader: int, process: int) -> Ended | Failure | None:
        """Return the process's last word, or its failure where a stage hangs; None: it has died without one.

        `reader`: of its events, set to return at once. `process`: its pidfd.
        """
        os.set_blocking(reader, False)
        self._enter("start", self._timeout_s)
        told = [reader]
        while True:
            self._memory.look()
            left = max(self._deadline - time.monotonic(), 0.0)
            ready = wait([*told, process], min(left, _LOOK_S))
            if reader in ready and self._read(reader) == b"":
                told = []
            if process in ready:
                while self._end is None and self._read(reader):
                    pass
            if self._end is not None or process in ready:
                return self._end
            if time.monotonic() >= self._deadline:
                self.in_time = False
                return self._hung()

    def died(self, exit_code: int, last_words: str) -> Failure:
        """What a process died of that said nothing. `exit_code`: below 0 the signal. `last_words`: where to look on."""
        if exit_code >= 0:
            return self._failure("error", f"its process ended with exit code {exit_code} and no result, {last_words}")
        if -exit_code != signal.SIGKILL:
            name = f"{signal.strsignal(-exit_code)}, signal {-exit_code}"
            return self._failure(
                "crash", f"its process crashed ({name}): its log ends with the stack, if the framework left one"
            )
        if self._memory.killed():
            return self._failure(
                "out-of-memory",
                "the kernel killed its process for lack of memory: try a smaller batch, or give the machine more memory",
            )
        if self._memory.scarce():
            return self._failure(
                "out-of-memory",
                "its process was killed, probably by the kernel for lack of memory"
                f" ({self._memory.least_free:.0%} of it was free): try a smaller batch, or give the machine more memory",
            )
        return self._failure(
            "crash",
            "its process was killed (SIGKILL), not by dlbench: find out by whom, then --resume --retry-failed",
        )

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
            self._end = self._failure(
                "error",
                f"its process told something that is no event ({exc}): {shown!r}; install dlserve again, or report this",
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
                self._end = self._failure("error", text)
            case Ended():
                self._end = event

    def _enter(self, stage: str, timeout_s: float) -> None:
        self._stage, self._timeout_s = stage, timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._watch(stage, None)

    def _hung(self) -> Failure:
        return self._failure(
            "time-out",
            f"the stage {self._stage} took more than {self._timeout_s:g} s and was given up: give it more "
            f"(--set budget.{_BUDGETS.get(self._stage, 'iteration_timeout_s')}=...), or see in its log where it hung",
        )

    def _failure(self, kind: FailureKind, text: str) -> Failure:
        return Failure(kind=kind, stage=self._stage, text=text)
