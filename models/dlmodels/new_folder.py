"""A model folder that is there only when it is whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlmodels.errors import ModelError


@contextmanager
def new_folder(folder: Path, error: type[ModelError]) -> Iterator[Path]:
    """A hidden folder to fill; it takes the place of `folder` when the block ends, and is gone if the block fails.

    Raises `error` where the disk is full or the folder cannot be written.
    """
    folder = folder.absolute()
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")  # hidden: no scan takes it for a model
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        _replace(folder, unfinished)
    except OSError as exc:
        raise error(f"{folder} cannot be written ({exc}): choose another --repository, or free space") from exc
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _replace(folder: Path, finished: Path) -> None:
    """Put the finished folder in its place; what was there goes only when the new one is there."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    finished.rename(folder)
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)
