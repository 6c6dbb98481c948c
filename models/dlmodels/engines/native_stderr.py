"""What native libraries print to this process's stderr past every logger: taken out of the server's log, and kept for errors."""

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
_ONE_AT_A_TIME = threading.Lock()  # the descriptor is the whole process's


@contextmanager
def captured_stderr(pattern: re.Pattern[str]) -> Iterator[list[str]]:
    """Within it, nothing reaches stderr. At its end the lines that `pattern` matches are in the list; others are printed.

    Whatever other threads log meanwhile is thus a little late, and not lost.
    """
    lines: list[str] = []
    with _ONE_AT_A_TIME:
        sys.stderr.flush()
        kept = os.dup(_STDERR)
        held = os.memfd_create("stderr")
        try:
            os.dup2(held, _STDERR)
            try:
                yield lines
            finally:
                sys.stderr.flush()
                os.dup2(kept, _STDERR)
                _sort(held, pattern, lines)
        finally:
            os.close(kept)
            os.close(held)


def _sort(held: int, pattern: re.Pattern[str], lines: list[str]) -> None:
    size = os.lseek(held, 0, os.SEEK_END)
    for line in os.pread(held, size, 0).splitlines(keepends=True):
        text = line.decode("utf-8", "replace")
        if pattern.search(text):
            lines.append(text.strip())
        else:
            os.write(_STDERR, line)
