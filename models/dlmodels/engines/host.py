"""This machine's memory, as far as this process may use it."""

import ctypes
import re
from pathlib import Path

from dlmodels.engines.base import Memory

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")  # read here, not by psutil, which takes 0.2 ms: it is part of every load
_TOTAL = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)
_INACTIVE_FILE = re.compile(r"^inactive_file (\d+)$", re.MULTILINE)


def host_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> Memory:
    """Total and available bytes; within a container (cgroup v2) not more than its limit leaves."""
    text = meminfo.read_text()
    total, free = (_number(pattern, text) << 10 for pattern in (_TOTAL, _AVAILABLE))
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        used -= _number(
            _INACTIVE_FILE, (cgroup / "memory.stat").read_text()
        )  # page cache, given up when memory is short
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no limit
        return Memory(total, free)
    return Memory(min(total, limit), min(free, max(limit - used, 0)))


def give_back_freed() -> None:
    """Return what this process has freed to the system: glibc would keep much of a large network in its heap."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0
