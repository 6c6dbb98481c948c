"""This machine's memory, as far as this process may use it, and how processes that load models should allocate it."""

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path

from dlmodels.engines.base import Memory

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")  # read here, not by psutil, which takes 0.2 ms: it is part of every load
_TOTAL = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)
_INACTIVE_FILE = re.compile(r"^inactive_file (\d+)$", re.MULTILINE)
_TUNABLES = "GLIBC_TUNABLES"
_MALLOC = {
    "hugetlb": 1,
    "arena_max": 1,
    "trim_threshold": 1 << 30,
    "mmap_threshold": 32 << 20,
}
"""The last two: of what is freed, up to 1 GiB is kept, but weights above 32 MiB, which are mapped for themselves, go at once."""


def allocating(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that loads and runs models: glibc asks for huge pages wherever the kernel gives them on
    request, and does not return a batch's activations to the system after each forward, to fault them in again in the next.

    The page faults of memory that a cache gives back and takes again are most of what some engines' loads cost: ONNX Runtime's
    takes 0.3 to 0.8 of the time (`server/benchmarks/reload.py`). glibc asks for huge pages in its main arena alone, so there is
    just that one. Of a forward of SqueezeNet the faults were 0 to 0.7 ms of 10.5, by how a process's heap happened to lie; of
    16 images a tenth. Who has set the variable knows better, and other C libraries do not look at it.
    """
    return {_TUNABLES: ":".join(f"glibc.malloc.{name}={value}" for name, value in _MALLOC.items())} | dict(environment)


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
