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

    def armed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.fsync = armed(os.fsync)
    Path.replace = armed(Path.replace)  # type: ignore[method-assign]
    Path.mkdir = armed(Path.mkdir)  # type: ignore[method-assign]
    Path.unlink = armed(Path.unlink)  # type: ignore[method-assign]
    subprocess.Popen.__init__ = armed(subprocess.Popen.__init__)  # type: ignore[method-assign]


if __name__ == "__main__":
    if step := os.environ.get("KILL_AT"):
        killed_at(int(step))
    sys.exit(main(child=CHILD))
