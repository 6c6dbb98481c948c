"""Models' files and the page cache: how a start from disk comes to read the disk (`--drop-page-cache`).

The page cache belongs to the machine, so a file that one worker makes it forget may be read by another in the next moment.
Hence a lock on the file, held by whoever starts cold until its batch is done; all other reading of it waits.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlmodels import page_cache
from dlmodels.errors import LoadError, ModelError
from dlmodels.spec import ModelSpec


class PageCacheError(ModelError):
    """The page cache did not forget a file, so a start from disk would be a start from memory."""


def forget(descriptor: int, name: str) -> None:
    """Make the page cache forget an open file. Raises PageCacheError where it holds a page of it even so."""
    try:
        page_cache.drop(descriptor)
        held = page_cache.resident_fraction(descriptor, os.fstat(descriptor).st_size)
    except OSError as exc:
        raise PageCacheError(
            f"whether the page cache has forgotten {name} cannot be told ({exc.strerror}): start dlserve without"
            " --drop-page-cache, and call it a start with the page cache warm"
        ) from exc
    if held:
        raise PageCacheError(
            f"the page cache keeps {held:.1%} of {name}: another program reads or maps it, it belongs to another user, or"
            " its file system lives in memory. Move it to a disk, or start dlserve without --drop-page-cache"
        )


class ModelFiles:
    """What a worker's models are read from. Used from many threads."""

    def __init__(self, drop: bool) -> None:
        """`drop`: a start from disk is to read the disk; if not, nothing here does anything."""
        self._drop = drop
        self._held: set[Path] = set()
        """Locked by this process for a start from disk."""

    @contextmanager
    def reading(self, spec: ModelSpec) -> Iterator[None]:
        """Around every reading of a model's files: waits while another worker starts it from disk."""
        path = Path(spec.folder, spec.weights)
        if not self._drop or not spec.weights or path in self._held:
            yield
        else:
            with _locked(path, fcntl.LOCK_SH):
                yield

    @contextmanager
    def dropped(self, spec: ModelSpec) -> Iterator[None]:
        """The model's files have left the page cache, and nobody but the caller reads them inside the `with`.

        Raises LoadError or PageCacheError.
        """
        if not self._drop or not spec.weights:
            yield
            return
        path = Path(spec.folder, spec.weights)
        with _locked(path, fcntl.LOCK_EX):
            for name in {spec.graph, spec.weights, *spec.files} - {"", spec.labels}:
                with _opened(Path(spec.folder, name)) as descriptor:
                    forget(descriptor, name)
            self._held.add(path)
            try:
                yield
            finally:
                self._held.discard(path)


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


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    with _opened(path) as descriptor:
        fcntl.flock(descriptor, how)  # given back when it is closed
        yield
