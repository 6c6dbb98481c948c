"""A worker process: ``python -m dlserve.worker --fd N``, started by the supervisor and by nobody else.

N is the worker's end of a socketpair; see `control`. Exit status: 0 stopped as asked, 3 could not start, 4 the
supervisor is gone, 1 a defect.
"""

import argparse
import contextlib
import logging
import os
import signal
import socket
import threading

import msgspec
from dlmodels.errors import ModelError

from dlserve import logs
from dlserve.control import Event
from dlserve.worker.control import Control
from dlserve.worker.life import Worker
from dlserve.worker.settings import WorkerSettings, parse_settings

log = logging.getLogger("dlserve.worker")
STOPPED = 0
DEFECT = 1
START_FAILED = 3


def main() -> int:
    """Run one worker; returns its exit status."""
    parser = argparse.ArgumentParser(prog="dlserve.worker", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="inherited socket to the supervisor")
    options = parser.parse_args()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # they may reach the whole group; the supervisor decides what they mean
        signal.signal(number, signal.SIG_IGN)
    _yield_to_front_ends()
    control = Control(socket.socket(fileno=options.fd))
    logs.configure("worker", "text")
    try:
        settings = parse_settings(control.first_line())
    except msgspec.MsgspecError as exc:
        return _failed(control, f"the worker's settings cannot be used: {exc}")
    return _serve(control, settings)


def _yield_to_front_ends() -> None:
    """Wait for a processor where all are busy, in place of taking it from who has it.

    Where front ends and workers share cores, a worker that wakes for each job would throw a front end off its core in the
    middle of another call; so its jobs come together, and both find their caches as they left them. All threads inherit it.
    """
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _serve(control: Control, settings: WorkerSettings) -> int:
    logs.configure(f"worker-{settings.worker}", settings.log_format)
    threading.excepthook = _end_by_defect
    worker = Worker(settings)
    control.watch(worker.stop)
    try:
        worker.start()
    except ModelError as exc:
        return _failed(control, str(exc))
    try:
        worker.run(on_ready=lambda: control.tell(Event("ready")))
    except Exception:
        log.critical("the receiving thread has failed: this worker ends", exc_info=True)
        return DEFECT
    log.info("stopped")
    return STOPPED


def _failed(control: Control, message: str) -> int:
    log.error("cannot start: %s", message)
    control.tell(Event("failed", message))
    return START_FAILED


def _end_by_defect(args: threading.ExceptHookArgs) -> None:
    """A thread that died would leave a worker that looks alive and answers nothing: better a new one."""
    log.critical(
        "the thread %s has failed: this worker ends",
        args.thread.name if args.thread else "?",
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback) if args.exc_value else None,
    )
    logging.shutdown()
    os._exit(DEFECT)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # nothing is left to do, and the frameworks' own tear-down takes long and prints much
