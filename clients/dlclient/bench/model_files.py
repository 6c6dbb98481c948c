"""A model's files beside its load: how long reading them takes, and whether the page cache holds them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Literal

from dlmodels import page_cache
from dlmodels.spec import ModelSpec

from dlclient.errors import PointError

_BLOCK_BYTES = 1 << 24


def read_files(spec: ModelSpec) -> tuple[float | None, Literal["warm", "unknown"]]:
    """Seconds that reading all of the model's files takes, and "warm" if the page cache held them before.

    None for a model without files. Raises PointError.
    """
    paths = _paths(spec)
    if not paths:
        return None, "unknown"
    warm = all(_held(path) == 1.0 for path in paths)
    block = bytearray(_BLOCK_BYTES)
    began = perf_counter()
    for path in paths:
        with _opened(path) as descriptor:
            while os.readv(descriptor, [block]):
                pass
    return perf_counter() - began, "warm" if warm else "unknown"


def drop_files(spec: ModelSpec) -> None:
    """Make the page cache forget the model's files. Raises PointError where it keeps a page of them."""
    for path in _paths(spec):
        with _opened(path) as descriptor:
            page_cache.drop(descriptor)
        if held := _held(path):
            raise PointError(
                f"the page cache keeps {held:.1%} of {path}: another program reads or maps it, it belongs to another user, or its"
                " file system lives in memory. Move it to a disk, or leave drop_page_cache out",
                kind="unsupported",
            )


def _paths(spec: ModelSpec) -> list[Path]:
    names = dict.fromkeys((spec.graph, spec.weights, *spec.files))
    return [Path(spec.folder, name) for name in names if name and name != spec.labels]


def _held(path: Path) -> float:
    """The part of a file that is in the page cache."""
    with _opened(path) as descriptor:
        return page_cache.resident_fraction(descriptor, os.fstat(descriptor).st_size)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise PointError(f"{path} cannot be read ({exc.strerror}): put the file back", kind="error") from exc
    try:
        yield descriptor
    except OSError as exc:
        raise PointError(f"{path} cannot be measured ({exc.strerror}): copy it to a local disk", kind="error") from exc
    finally:
        os.close(descriptor)
