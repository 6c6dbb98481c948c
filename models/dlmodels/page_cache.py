"""The system's page cache, for one open file: how much of the file it holds, and dropping that."""

import ctypes
import mmap
import os

import numpy as np


def resident_fraction(descriptor: int, size: int) -> float:
    """The share, 0 to 1, of the file's first `size` bytes that is in the page cache (mincore(2)).

    Open for reading is enough for one's own files; of others' the system says that all of it is there.
    Raises OSError where it does not tell.
    """
    if size == 0:
        return 0.0
    seen = np.empty(-(-size // mmap.PAGESIZE), np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as mapped:
        start = np.frombuffer(mapped, np.uint8)
        failed = libc.mincore(
            ctypes.c_void_p(start.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(seen.ctypes.data)
        )
        del start  # the mapping cannot be closed while something points into it
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "mincore")
    return float((seen & 1).mean())


def drop(descriptor: int) -> None:
    """Ask the system to forget the file's pages, once they are all on the disk. It need not: see resident_fraction."""
    os.fsync(descriptor)  # a page that is not written yet is never dropped
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
