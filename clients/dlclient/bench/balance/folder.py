"""Writing a comparison's result folder: whatever ends it, even kill -9, loses no finished cell."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from dlclient.balance_result import CELLS_FILE, Balance, Cell, read_balance, read_cells
from dlclient.bench_folder import now
from dlclient.bench_result import encode_lines
from dlclient.errors import ResultError
from dlclient.results import RUN_FILE, write_json

_MAY_GROW = frozenset({"started", "finished", "command", "environment", "cells", "policies"})
"""Of run.json: what may differ when a comparison goes on; the rest sets its figures."""


class BalanceFolder:
    """A result folder that one process writes. `done`: the cells that it holds, by id.

    Entering raises ResultError where the folder holds something else, or a comparison and `resume` is false.
    """

    def __init__(self, path: Path, balance: Balance, *, resume: bool) -> None:
        self.path = path
        self.balance = balance
        self.done: dict[str, Cell] = {}
        self._resume = resume
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = self._open.enter_context((self.path / ".lock").open("wb"))
        except OSError as exc:
            raise ResultError(f"cannot write to {self.path}: {exc.strerror}; name another --results folder") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._take_up()
        except BlockingIOError as exc:
            self._open.close()
            raise ResultError(
                f"another dlbench is writing to {self.path}: wait for its end or name another folder"
            ) from exc
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def append(self, cell: Cell) -> None:
        """Keep a finished cell."""
        with (self.path / CELLS_FILE).open("ab") as file:
            file.write(encode_lines([cell]))
            file.flush()
            os.fsync(file.fileno())
        self.done[cell.id] = cell

    def finish(self) -> None:
        """Say in run.json that it came to its end, with all that it holds."""
        self.balance = msgspec.structs.replace(self.balance, finished=now(), cells=len(self.done))
        write_json(self.path / RUN_FILE, self.balance)

    def _take_up(self) -> None:
        if not (self.path / RUN_FILE).exists():
            if any(one.name not in {".lock", f"{RUN_FILE}.tmp"} for one in self.path.iterdir()):
                raise ResultError(f"{self.path} holds something else than a comparison; name an empty --results folder")
        elif not self._resume:
            raise ResultError(
                f"{self.path} holds a result already: add --resume to go on with it, or name another folder"
            )
        else:
            self._go_on(read_balance(self.path))
        write_json(self.path / RUN_FILE, self.balance)

    def _go_on(self, found: Balance) -> None:
        """Raises ResultError where the folder was begun with other settings."""
        for name in Balance.__struct_fields__:
            if name not in _MAY_GROW and getattr(found, name) != getattr(self.balance, name):
                raise ResultError(
                    f"{self.path} was begun with another {name.replace('_', ' ')} ({getattr(found, name)}): give the same options, or name "
                    "another folder"
                )
        self.balance = msgspec.structs.replace(self.balance, started=found.started)
        path = self.path / CELLS_FILE
        if path.exists():
            content = path.read_bytes()
            if torn := len(content) - (content.rfind(b"\n") + 1):
                os.truncate(path, len(content) - torn)
            self.done = {cell.id: cell for cell in read_cells(self.path)}
