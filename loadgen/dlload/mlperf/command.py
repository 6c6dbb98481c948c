"""`dlload mlperf`: the sub-command, from its options to its exit status."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from dlload.errors import StreamError
from dlload.mlperf.options import add_mlperf_options, read_mlperf_options
from dlload.mlperf.run import start_run
from dlload.mlperf.table import result_table

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  argparse has no public name for it

INVALID, INTERRUPTED = 1, 130

_DESCRIPTION = """\
Let MLPerf's LoadGen (the extra mlperf) load a server with images, by one of its four scenarios:

  dlload mlperf --scenario SingleStream --target http://127.0.0.1:8080
  dlload mlperf --scenario Server --target-qps 100 --target-latency 0.05 --target http://127.0.0.1:8080

LoadGen decides what is sent when, measures and judges; its logs are kept. LoadGen knows no errors: an answer that is wrong
counts as answered. So errors are counted here as well, and one of them makes the result invalid, whatever LoadGen says.
The result folder gets mlperf.json, plan.jsonl (the samples), requests.jsonl and LoadGen's mlperf_log files.

exit status: 0 valid; 1 invalid, or nothing was measured; 2 the command line was wrong; 130 interrupted.
"""


def add_parser(commands: "Commands") -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "mlperf",
        help="let MLPerf's LoadGen load a server",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_mlperf_options(parser)
    parser.set_defaults(run=mlperf)


def mlperf(given: argparse.Namespace) -> int:
    """Run it; the exit status. Raises StreamError. Ends the process itself where LoadGen cannot be brought to its end."""
    options = read_mlperf_options(given)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    run = start_run(options)
    run.conduct()
    with _undisturbed():
        try:
            result = run.finish()
            print(f"\n{result_table(result)}\nresults: {run.folder}", flush=True)
            code = 0 if result.verdict == "valid" else INVALID
        except StreamError as exc:
            print(f"dlload: {exc}", file=sys.stderr)
            code = INVALID
        if run.is_interrupted:
            code = INTERRUPTED
        if run.is_stuck:
            _leave(code)
    return code


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not cost the result of the first."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(code: int) -> NoReturn:
    """Without the interpreter's own end, which would wait or crash: LoadGen's thread is in the middle of its test, and its
    Python binding has no way to abort that."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
