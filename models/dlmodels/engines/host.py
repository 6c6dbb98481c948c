"""This machine's memory, as far as this process may use it."""

from pathlib import Path

import psutil

from dlmodels.engines.base import Memory

_CGROUP = Path("/sys/fs/cgroup")


def host_memory(cgroup: Path = _CGROUP) -> Memory:
    """Total and available bytes; within a container (cgroup v2) not more than its limit leaves."""
    machine = psutil.virtual_memory()
    total, free = int(machine.total), int(machine.available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text()) - _reclaimable(cgroup)
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no limit
        return Memory(total, free)
    return Memory(min(total, limit), min(free, max(limit - used, 0)))


def _reclaimable(cgroup: Path) -> int:
    """Bytes of page cache that count as used but are given up when memory is short."""
    for line in (cgroup / "memory.stat").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == "inactive_file":
            return int(value)
    return 0
