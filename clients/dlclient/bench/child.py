"""The process that measures one point: `python -m dlclient.bench.child --events-fd N`, started by `dlbench` and by nobody else.

It reads a Job from its standard input and writes events, one JSON line each, to the file descriptor N. What it prints, and
what frameworks print, goes to the point's log. Its exit status is 0 once its last event, Ended or Failed, is written.
"""

import argparse
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence

import msgspec

from dlclient.bench.job import Ended, Entered, Event, Failed, Job
from dlclient.bench_result import Failure, FailureKind
from dlclient.errors import PointError


class Teller:
    """Writes events; knows the stage that was entered last."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.stage = "start"

    def __call__(self, event: Event) -> None:
        """Write it whole. Raises OSError where nobody listens any more."""
        if isinstance(event, Entered):
            self.stage = event.stage
        line = memoryview(msgspec.json.encode(event) + b"\n")
        while line:
            line = line[os.write(self._descriptor, line) :]


def measure(job: Job, tell: Callable[[Event], None]) -> Ended:
    """Measure the point, telling of its stages. Raises PointError, or what it did not foresee."""
    if job.setting.affinity:  # before anything is imported that starts threads
        importlib.import_module("dlclient.bench.tuning").bind(job.setting.affinity)
    if job.setting.question == "max-batch":  # its own process loads no framework
        return Ended(importlib.import_module("dlclient.bench.max_batch").measure(job, tell))
    from dlclient.bench import measuring  # noqa: PLC0415  numpy and OpenCV start threads, which affinity must bind

    return measuring.measure(job, tell, _settle)


def _settle() -> None:
    """As the server's workers do: a framework's hundred thousands of objects stay, and no collection need walk over them again."""
    gc.collect()
    gc.freeze()


def failure(exc: BaseException, stage: str) -> Failure:
    """What the point's row says of it."""
    kind: FailureKind = "error"
    text = str(exc)
    if isinstance(exc, PointError):
        kind = msgspec.convert(exc.kind, FailureKind)
    elif isinstance(exc, MemoryError):
        kind, text = "out-of-memory", "the process has no memory left for this: try a smaller batch"
    else:
        text = f"{type(exc).__name__}: {exc}; this was not foreseen: the log has the traceback, please report it"
    return Failure(kind=kind, stage=stage, text=text)


def main(argv: Sequence[str]) -> int:
    """Measure one point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="dlclient.bench.child", description=__doc__)
    parser.add_argument("--events-fd", type=int, required=True, metavar="N", help="where the events go")
    tell = Teller(parser.parse_args(argv).events_fd)
    try:
        tell(measure(msgspec.json.decode(sys.stdin.buffer.read(), type=Job), tell))
    except BrokenPipeError:
        return 1  # nobody wants to know any more
    except Exception as exc:  # noqa: BLE001  the edge of a point: whatever it is, it is its row
        traceback.print_exc()
        tell(Failed(failure(exc, tell.stage)))
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to do, and the frameworks' own tear-down takes long and prints much
