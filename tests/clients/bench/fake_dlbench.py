"""`dlbench` with the fake child. KILL_AT=N in the environment: it is killed just before its Nth step that leaves a trace on disk or
starts a process.
"""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlclient.bench.cli import main

from tests.clients.bench.fake_child import CHILD


def killed_at(step: int) -> None:
    """Arm it."""
    steps = itertools.count(1)

    def armed(function: Callable[..., Any], what: Callable[..., bool] = lambda *_, **__: True) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if what(*arguments, **options) and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.fsync = armed(os.fsync)
    os.truncate = armed(os.truncate)
    Path.replace = armed(Path.replace)  # type: ignore[method-assign]
    starts_a_point = lambda _, command, **__: CHILD[-1] in command  # noqa: E731  a def would be longer than what it does
    subprocess.Popen.__init__ = armed(subprocess.Popen.__init__, starts_a_point)  # type: ignore[method-assign]


if __name__ == "__main__":
    if step := os.environ.get("KILL_AT"):
        killed_at(int(step))
    sys.exit(main(child=CHILD))
