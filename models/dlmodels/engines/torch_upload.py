"""How the bytes of a tensor file get to a GPU: file -> pinned memory -> device, in groups, while the first ones compute."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from dlmodels.engines.arena import Arena, Run
from dlmodels.engines.blob import Blob, Section, plan_blob
from dlmodels.engines.parallel_read import ParallelReader, Wanted
from dlmodels.engines.safetensors_file import TensorFile
from dlmodels.engines.torch_copier import Copier
from dlmodels.engines.torch_memory import CAST_FROM, DTYPES, Mark, Source, room_for, stored_dtype
from dlmodels.errors import OutOfMemoryError

STAGING_BYTES = 32 << 20
"""Of one buffer; no more than that is converted at once, since it lies on the device beside what it becomes."""


class Staging:
    """Two pinned buffers, through which everything goes that comes from a file straight to the GPU.

    While the GPU fetches one, the other is filled from the file. Shared by all models of an engine.
    """

    def __init__(self, copier: Copier, buffers: Sequence[torch.Tensor]) -> None:
        self.size = len(buffers[0])
        self._copier = copier
        self._buffers = list(buffers)
        self._fetched: list[Mark | None] = [None] * len(buffers)
        self._turn = 0

    @contextmanager
    def buffer(self) -> Iterator[torch.Tensor]:
        """The next buffer, once the GPU has fetched what it held; on leaving, a copy from it must be under way."""
        self._turn = (self._turn + 1) % len(self._buffers)
        fetched = self._fetched[self._turn]
        if fetched is not None:
            self._copier.finish(fetched)
        yield self._buffers[self._turn]
        self._fetched[self._turn] = self._copier.mark()


@dataclass(frozen=True, slots=True)
class HostTier:
    """Pinned memory, allocated once, and who has which pages of it."""

    arena: Arena
    memory: torch.Tensor
    """uint8, as long as the arena."""

    def parts(self, runs: Sequence[Run], begin: int, end: int) -> Iterator[tuple[int, torch.Tensor]]:
        """What lies from `begin` to `end` of the bytes that fill the runs: (where it begins, memory) in order."""
        position = 0
        for run in runs:
            low, high = max(begin, position), min(end, position + run.end - run.begin)
            if low < high:
                yield low, self.memory[run.begin + low - position : run.begin + high - position]
            position += run.end - run.begin


class Lane(Protocol):
    """What a file needs to get to a device, shared by all models of an engine."""

    @property
    def torch(self) -> torch.device:
        """Where to."""

    @property
    def copier(self) -> Copier:
        """Who copies."""

    @property
    def staging(self) -> Staging:
        """The way round the host tier."""

    @property
    def host(self) -> HostTier | None:
        """The host tier."""

    @property
    def reader(self) -> ParallelReader:
        """Who reads."""

    def release_cached(self) -> None:
        """Give what torch keeps for its next allocation back to the device."""


class UploadedFile(Source):
    """Copied into a device's memory, each tensor aligned for its kernels; `datatype` is converted to on the device."""

    way = "copied"

    def __init__(
        self, file: TensorFile, lane: Lane, cast_to: torch.dtype | None, groups: Sequence[Sequence[int]]
    ) -> None:
        self._file = file
        self._lane = lane
        self._cast_to = cast_to
        self._blob = plan_blob(file.tensors, groups)
        self._begins, self.bytes = _device_begins(self._blob, cast_to)
        sections = [section for group in self._blob.groups for section in group]
        self.places = tuple(
            next(
                self._begins[section] + _shrunk(section, cast_to, place - section.begin)
                for section in sections
                if section.dtype == tensor.dtype and section.begin <= place <= section.end
            )
            for tensor, place in zip(file.tensors, self._blob.places, strict=True)
        )
        self._runs: tuple[Run, ...] = ()

    @property
    def staged_bytes(self) -> int:
        """Whole pages of the arena, for the content in the file's own types."""
        return self.bytes if self._lane.host is None else self._lane.host.arena.pages_of(self._blob.bytes)

    @property
    def staged(self) -> bool:
        """Whether the host tier holds the file's content."""
        return bool(self._runs)

    def stage(self) -> None:
        """Read the file into the host tier. Raises LoadError or OutOfMemoryError."""
        if self._runs:
            return
        host = self._lane.host
        if host is None:
            raise OutOfMemoryError("there is no host tier: give it memory, or ask for the disk tier")
        self._file.check_unchanged()
        runs = host.arena.allocate(self._blob.bytes)
        try:
            for begin, memory in host.parts(runs, 0, self._blob.bytes):
                self._read(begin, memory)
        except BaseException:
            host.arena.free(runs)
            raise
        self._runs = runs

    def unstage(self) -> None:
        """Give the pages back, once nothing is copied from them any more."""
        if self._runs and self._lane.host is not None:
            for mark in self.marks:
                self._lane.copier.finish(mark)
            self._lane.host.arena.free(self._runs)
        self._runs = ()

    def load(self) -> torch.UntypedStorage:
        """Start all copies, from the host tier or through the staging buffers; groups in their order."""
        if not self._runs:
            self._file.check_unchanged()
        copier = self._lane.copier
        storage = self._allocate()
        marks = []
        copier.begin()
        try:
            with room_for(
                self.bytes, str(self._file.path), str(self._lane.torch)
            ):  # a conversion takes some for a while
                for group in self._blob.groups:
                    for section in group:
                        self._bring(section, storage)
                    marks.append(copier.mark())
        except BaseException:
            copier.finish(copier.mark())  # the memory may be anybody's once it is given back
            raise
        self.marks = tuple(marks)
        return storage.untyped_storage()

    def _bring(self, section: Section, storage: torch.Tensor) -> None:
        dtype = DTYPES[section.dtype]
        to = stored_dtype(section.dtype, self._cast_to)
        for begin, memory in self._parts(section):
            offset = self._begins[section] + _shrunk(section, self._cast_to, begin - section.begin)
            size = _shrunk(section, self._cast_to, len(memory))
            target, source = storage[offset : offset + size], memory
            if to == dtype:
                self._lane.copier.copy(target, source)
                continue
            items = STAGING_BYTES // dtype.itemsize
            target, source = target.view(to), source.view(dtype)
            for first in range(0, len(source), items):
                self._lane.copier.copy(target[first : first + items], source[first : first + items])

    def _parts(self, section: Section) -> Iterator[tuple[int, torch.Tensor]]:
        """The section's bytes in pinned memory: (where in the blob they begin, memory)."""
        if self._runs and self._lane.host is not None:
            yield from self._lane.host.parts(self._runs, section.begin, section.end)
            return
        staging = self._lane.staging
        for begin in range(section.begin, section.end, staging.size):
            with staging.buffer() as buffer:
                part = buffer[: min(staging.size, section.end - begin)]
                self._read(begin, part)
                yield begin, part

    def _read(self, begin: int, memory: torch.Tensor) -> None:
        """Fill `memory` with what the blob has from `begin` on; gaps between tensors stay as they are."""
        view = memoryview(memory.numpy())  # type: ignore[arg-type]  # numpy 1's types lack the buffer protocol
        wanted: list[Wanted] = [
            (piece.file_begin, view[piece.begin - begin : piece.begin - begin + piece.bytes])
            for piece in self._blob.within(begin, begin + len(memory))
        ]
        self._lane.reader.read(self._file.path, wanted)

    def _allocate(self) -> torch.Tensor:
        try:
            return self._empty()
        except OutOfMemoryError:
            self._lane.release_cached()  # what torch keeps for later may be in pieces that are too small
            return self._empty()

    def _empty(self) -> torch.Tensor:
        with room_for(self.bytes, str(self._file.path), str(self._lane.torch)):
            return torch.empty(self.bytes, dtype=torch.uint8, device=self._lane.torch)


def _shrunk(section: Section, cast_to: torch.dtype | None, size: int) -> int:
    """Bytes on the device that `size` bytes of the section's file type become."""
    if cast_to is None or section.dtype != CAST_FROM:
        return size
    return size // DTYPES[CAST_FROM].itemsize * cast_to.itemsize


def _device_begins(blob: Blob, cast_to: torch.dtype | None) -> tuple[dict[Section, int], int]:
    """Where each section begins on the device, and the size of all."""
    begins, position = {}, 0
    for group in blob.groups:
        for section in group:
            begins[section] = position
            position += _shrunk(section, cast_to, section.end - section.begin)
    return begins, position
