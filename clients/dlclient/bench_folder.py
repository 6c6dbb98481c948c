"""Writing a bench's result folder so that whatever ends the bench, even kill -9, loses no finished point and doubles none."""

import fcntl
import os
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from dlclient.bench_result import (
    LOGS_DIR,
    POINTS_FILE,
    SAMPLES_DIR,
    Bench,
    Point,
    Sample,
    encode_lines,
    read_bench,
    read_points,
    samples_file,
)
from dlclient.errors import ResultError
from dlclient.results import RUN_FILE, write_json


class BenchFolder:
    """A result folder that one process writes: `with BenchFolder(path, bench, resume=...) as folder`.

    `done`: the points that it held already. Entering raises ResultError where the folder holds another bench, or this one and
    `resume` is false, or another process writes it.
    """

    def __init__(self, path: Path, bench: Bench, *, resume: bool) -> None:
        self.path = path
        self.bench = bench
        self.done: dict[str, Point] = {}
        self._resume = resume
        self._points: BinaryIO | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._prepare(opened)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def append(self, point: Point, samples: Sequence[Sample] = ()) -> None:
        """Keep a finished point: its samples first, so that a point that is there has them."""
        if samples:
            _write_synced(self.path / samples_file(point.id), encode_lines(samples))
        assert self._points is not None, "used outside of its with statement"
        self._points.write(encode_lines([point]))
        self._points.flush()
        os.fsync(self._points.fileno())
        self.done[point.id] = point

    def finish(self) -> Bench:
        """Say in run.json that the bench came to its end."""
        simulated = any(point.simulated for point in self.done.values())
        self.bench = msgspec.structs.replace(self.bench, finished=now(), simulated=simulated)
        write_json(self.path / RUN_FILE, self.bench)
        return self.bench

    def _prepare(self, opened: ExitStack) -> None:
        try:
            for folder in (self.path / SAMPLES_DIR, self.path / LOGS_DIR):
                folder.mkdir(parents=True, exist_ok=True)
            lock = opened.enter_context((self.path / ".lock").open("wb"))
        except OSError as exc:
            raise ResultError(f"cannot write to {self.path}: {exc.strerror}; name another --results folder") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ResultError(
                f"another bench is writing to {self.path}: wait for its end or name another folder"
            ) from exc
        self._take_up()
        self._points = opened.enter_context((self.path / POINTS_FILE).open("ab"))

    def _take_up(self) -> None:
        if not (self.path / RUN_FILE).exists():
            # a draft of run.json: what a kill at the very beginning leaves
            ours = {SAMPLES_DIR, LOGS_DIR, ".lock", f"{RUN_FILE}.tmp"}
            if any(one.name not in ours for one in self.path.iterdir()):
                raise ResultError(
                    f"{self.path} holds something else than a bench's result; name an empty --results folder"
                )
            write_json(self.path / RUN_FILE, self.bench)
            return
        found = read_bench(self.path)
        if not self._resume:
            raise ResultError(
                f"{self.path} holds a result already: add --resume to go on with it, or name another folder"
            )
        if (found.program, found.name) != (self.bench.program, self.bench.name):
            raise ResultError(
                f"{self.path} holds a result of {found.program} {found.name!r}, not of {self.bench.program} {self.bench.name!r}: "
                "name its own folder to resume it"
            )
        self.bench = msgspec.structs.replace(self.bench, started=found.started)
        write_json(self.path / RUN_FILE, self.bench)
        points = self.path / POINTS_FILE
        if not points.exists():
            return
        content = points.read_bytes()
        if torn := len(content) - (content.rfind(b"\n") + 1):
            os.truncate(points, len(content) - torn)
        self.done = {point.id: point for point in read_points(self.path)}


def now() -> str:
    """This moment as result files have it: ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write_synced(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
