"""Reads of many pieces of a file at once: one thread does not reach what a disk, or the page cache, can give."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dlmodels.errors import LoadError

Wanted = tuple[int, memoryview]
"""Where in the file it begins, and the memory that it is to fill."""
_TASK_BYTES = 4 << 20
_MOST_BUFFERS = 1024  # IOV_MAX of Linux


class ParallelReader:
    """A few threads that read. They are started when there is first something to share among them."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def read(self, path: Path, wanted: Iterable[Wanted]) -> None:
        """Fill every piece of memory. Raises LoadError if the file is gone or ends too early."""
        tasks = list(_tasks(wanted))
        with _opened(path) as descriptor:
            if len(tasks) <= 1 or self._threads == 1:
                for task in tasks:
                    _fill(descriptor, task, path)
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="read")
            futures = [self._pool.submit(_fill, descriptor, task, path) for task in tasks]
            # Every one is waited for before the file is closed and the memory may be given away, also after a failure.
            failures = [failure for future in futures if (failure := future.exception()) is not None]
        if failures:
            raise failures[0]


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise LoadError(f"{path} cannot be read ({exc.strerror}): put the file back") from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _tasks(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    """Pieces of at most 4 MiB together, large ones cut."""
    task: list[Wanted] = []
    room = _TASK_BYTES
    for begin, memory in wanted:
        done = 0
        while done < len(memory):
            part = memory[done : done + room]
            task.append((begin + done, part))
            done += len(part)
            room -= len(part)
            if room == 0:
                yield task
                task, room = [], _TASK_BYTES
    if task:
        yield task


def _fill(descriptor: int, task: list[Wanted], path: Path) -> None:
    """One call of the system for pieces that are adjacent in the file."""
    buffers: list[memoryview] = []
    start = position = task[0][0]
    for begin, memory in task:
        if buffers and (begin != position or len(buffers) == _MOST_BUFFERS):
            _read(descriptor, start, buffers, path)
            buffers = []
        if not buffers:
            start = position = begin
        buffers.append(memory)
        position += len(memory)
    _read(descriptor, start, buffers, path)


def _read(descriptor: int, begin: int, buffers: list[memoryview], path: Path) -> None:
    while buffers:
        try:
            read = os.preadv(descriptor, buffers, begin)
        except OSError as exc:
            raise LoadError(f"{path} cannot be read ({exc.strerror}): check the disk") from exc
        if read == 0:
            raise LoadError(f"{path} ended while it was read: copy it again, or build the model again")
        begin += read
        while buffers and read >= len(buffers[0]):
            read -= len(buffers.pop(0))
        if buffers:
            buffers[0] = buffers[0][read:]
