"""The result folder while a run writes it: made before anything is measured, records written as they happen."""

import time
from fnmatch import fnmatch
from pathlib import Path

import msgspec
from dlclient.limits import LIMITS_FILE
from dlclient.results import PLAN_FILE, REQUESTS_FILE, RUN_FILE, Record, Run, share_file, write_run
from dlclient.timeline import SAMPLES_FILE

from dlload.errors import RecordError
from dlload.plan import Plan

_RESERVE_FILE = ".reserve"
_RESERVE_BYTES = 1 << 18
"""Kept free while records are written, so that a disk that they fill up still takes run.json: that of 64 services."""
_OWN_FILES = frozenset({PLAN_FILE, REQUESTS_FILE, RUN_FILE, LIMITS_FILE, SAMPLES_FILE, "report.html", _RESERVE_FILE})


_REPORT_FOLDERS = {"pictures": {".png", ".svg"}, "tables": {".csv", ".md"}}
"""What a report keeps beside its page, by the suffixes of its files."""


def new_folder(
    asked: Path | None, *, overwrite: bool, run_number: int, now: time.struct_time, kind: str = "stream"
) -> Path:
    """Make the folder of a run. Raises RecordError.

    `asked`: the folder itself, for the first run of a process; later ones (started again in the web page) get -2, -3.
    Without it the folder is results/KIND-DATE-TIME below the current one.
    """
    if asked is None:
        return _fresh(Path("results") / time.strftime(f"{kind}-%Y%m%d-%H%M%S", now))
    if run_number > 1:
        return _fresh(asked.with_name(f"{asked.name}-{run_number}"))
    try:
        found = {path.name for path in asked.iterdir()} if asked.exists() else set()
        if found and not overwrite:
            raise RecordError(
                f"--results {asked}: not empty; name a new folder, or replace an old stream by --overwrite"
            )
        if found and not found & _OWN_FILES:
            raise RecordError(f"--results {asked}: not the folder of a stream, so it is not replaced; name another one")
        asked.mkdir(parents=True, exist_ok=True)
        for name in found:
            if name in _OWN_FILES or fnmatch(name, share_file("*")):
                (asked / name).unlink()
        for name, suffixes in _REPORT_FOLDERS.items():
            if name in found:
                _clear(asked / name, suffixes)
    except OSError as exc:
        raise _cannot("use", asked, exc) from exc
    return asked


def _clear(folder: Path, suffixes: set[str]) -> None:
    """Remove an old report's files, and the folder if nothing else is in it. Links are somebody else's."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.suffix in suffixes and path.is_file():
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _fresh(wanted: Path) -> Path:
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        except OSError as exc:
            raise _cannot("make", folder, exc) from exc
        else:
            return folder


class Recorder:
    """Writes one run's files into its folder. Each record reaches the kernel at once: a kill loses none of them."""

    def __init__(self, folder: Path, name: str = REQUESTS_FILE) -> None:
        self.folder = folder
        self.path = folder / name
        self._requests = self.path.open("xb", buffering=0)
        self._reserve = folder / _RESERVE_FILE
        if name == REQUESTS_FILE:  # who else writes records leaves run.json to others
            self._reserve.write_bytes(bytes(_RESERVE_BYTES))
        self._encoder = msgspec.json.Encoder()
        self._failed: RecordError | None = None

    def save_plan(self, plan: Plan) -> None:
        """Write plan.jsonl."""
        try:
            (self.folder / PLAN_FILE).write_bytes(plan.encode())
        except OSError as exc:
            raise _cannot("write to", self.folder, exc) from exc

    def save_limits(self, content: bytes) -> None:
        """Write limits.json."""
        try:
            (self.folder / LIMITS_FILE).write_bytes(content)
        except OSError as exc:
            raise _cannot("write to", self.folder, exc) from exc

    def write(self, record: Record) -> None:
        """Append one record to requests.jsonl. After one failure nothing is written any more: its line may be torn."""
        if self._failed is not None:
            raise self._failed
        line = self._encoder.encode(record) + b"\n"
        try:
            while line:  # a disk that fills up takes part of a line, and fails at the rest
                line = line[self._requests.write(line) :]
        except OSError as exc:
            self._failed = _cannot("write to", self.folder, exc)
            raise self._failed from exc

    def save_run(self, run: Run) -> Path:
        """Write run.json."""
        try:
            return write_run(self.folder, run)
        except OSError as exc:
            raise _cannot("write to", self.folder, exc) from exc

    def close(self) -> None:
        """No more records come; what is left to write may have the space that was kept for it."""
        self._requests.close()
        if self.path.name == REQUESTS_FILE:
            self._reserve.unlink(missing_ok=True)


def open_recorder(folder: Path, name: str = REQUESTS_FILE) -> Recorder:
    """For records in a file of that name. Raises RecordError where the folder cannot be written to."""
    try:
        return Recorder(folder, name)
    except OSError as exc:
        raise _cannot("write to", folder, exc) from exc


def _cannot(do: str, folder: Path, exc: OSError) -> RecordError:
    return RecordError(
        f"cannot {do} the result folder {folder}: {exc.strerror}; free some space or name another --results"
    )
