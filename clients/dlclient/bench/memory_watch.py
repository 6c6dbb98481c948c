"""Whether memory ran out while a process ran: what tells a kill by the kernel from any other SIGKILL."""

from contextlib import suppress
from pathlib import Path

import psutil

_SCARCE = 0.05
"""Fraction of the memory that is left: with less, who is killed was probably killed for it."""


class MemoryWatch:
    """Look now and then while the process runs. `root`: of the file system, for tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._kills = self._oom_kills()
        self.least_free = 1.0
        """The smallest fraction of the memory (of the machine, or of the container's limit) that was seen free."""

    def look(self) -> None:
        """Note how much is free now; takes less than a millisecond."""
        memory = psutil.virtual_memory()
        free = memory.available / memory.total
        with suppress(OSError, ValueError, ZeroDivisionError):  # no cgroup 2 here, or "max": no limit
            limit = int((self._root / "sys/fs/cgroup/memory.max").read_text())
            used = int((self._root / "sys/fs/cgroup/memory.current").read_text())
            free = min(free, 1 - used / limit)
        self.least_free = min(self.least_free, free)

    def killed(self) -> bool:
        """Whether the kernel has killed a process of this machine for lack of memory meanwhile."""
        return self._oom_kills() > self._kills

    def scarce(self) -> bool:
        """Whether there was so little left that such a kill is the likely reason of one."""
        return self.least_free < _SCARCE

    def _oom_kills(self) -> int:
        with suppress(OSError):
            for line in (self._root / "proc/vmstat").read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        return 0
