"""How the bytes of a tensor file get to where torch computes: mapped on a CPU, read and copied on a GPU."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch

from dlmodels.engines.safetensors_file import ITEM_BYTES, TensorFile, TensorPlace
from dlmodels.errors import LoadError, OutOfMemoryError

STAGING_BYTES = 32 << 20
_ALIGNMENT = 256  # cudaMalloc's own; a kernel for unaligned tensors can be slower
_MOST_PIECES = 1024  # IOV_MAX of Linux
# torch has a type for a GPU that is full, which TorchScript loses on the way; for a machine that is full it has only
# RuntimeError. What is left to go by is the text.
_OUT_OF_MEMORY = ("CUDA out of memory", "DefaultCPUAllocator", "Cannot allocate memory", "could not create a memory")


def is_out_of_memory(exc: RuntimeError) -> bool:
    """Whether torch failed for want of memory, on whichever device."""
    return isinstance(exc, torch.OutOfMemoryError) or any(text in str(exc) for text in _OUT_OF_MEMORY)


class Source(ABC):
    """Brings one file's tensors into one storage, again and again."""

    offsets: tuple[int, ...]
    """Where each tensor of the file begins in the storage, in its own items."""
    bytes: int
    """Of the storage."""

    @abstractmethod
    def load(self) -> torch.UntypedStorage:
        """The file's tensors; complete when this returns. Raises LoadError or OutOfMemoryError."""


class MappedFile(Source):
    """The file itself, mapped privately: nothing is read before it is used, and the page cache is used in place."""

    def __init__(self, file: TensorFile) -> None:
        self._file = file
        self.offsets = tuple(tensor.begin // ITEM_BYTES[tensor.dtype] for tensor in file.tensors)
        self.bytes = file.stamp.bytes

    def load(self) -> torch.UntypedStorage:
        """Map the file."""
        self._file.check_unchanged()
        try:
            mapped = torch.UntypedStorage.from_file(str(self._file.path), shared=False, nbytes=self.bytes)
        except RuntimeError as exc:
            raise LoadError(f"{self._file.path} cannot be mapped ({exc}): check the file and free memory") from exc
        return cast("torch.UntypedStorage", mapped)


class Staging:
    """Two buffers in page-locked memory, through which everything on its way to one GPU goes.

    While the GPU fetches one, the other is filled from the file. Shared by all models of an engine.
    """

    def __init__(self, device: torch.device, size: int = STAGING_BYTES) -> None:
        self.size = size
        self._gpu = device.type == "cuda"
        self._buffers = [torch.empty(size, dtype=torch.uint8, pin_memory=self._gpu) for _ in range(2)]
        self._fetched = [torch.Event("cuda") if self._gpu else None for _ in range(2)]
        self._turn = 0

    @contextmanager
    def buffer(self) -> Iterator[torch.Tensor]:
        """The next buffer, once the GPU has fetched what it held; on leaving, a copy from it must be under way."""
        self._turn ^= 1
        fetched = self._fetched[self._turn]
        if fetched is not None:
            fetched.synchronize()
        yield self._buffers[self._turn]
        if fetched is not None:
            fetched.record()


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What goes through a staging buffer at once: adjacent in the file, in the storage with gaps for alignment."""

    file_begin: int
    begin: int
    """Of its place in the storage."""
    pieces: tuple[tuple[int, int], ...]
    """From where to where in the chunk the bytes of the file go."""


class CopiedFile(Source):
    """Read into a device's memory, each tensor aligned for its kernels."""

    def __init__(self, file: TensorFile, device: torch.device, staging: Staging) -> None:
        self._file = file
        self._device = device
        self._staging = staging
        places, self.bytes = _aligned(file.tensors)
        self.offsets = tuple(
            place // ITEM_BYTES[tensor.dtype] for place, tensor in zip(places, file.tensors, strict=True)
        )
        self._chunks = tuple(_chunks(file.tensors, places, staging.size))

    def load(self) -> torch.UntypedStorage:
        """Read the file and copy it to the device."""
        self._file.check_unchanged()
        storage = self._allocate()
        try:
            descriptor = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise LoadError(f"{self._file.path} cannot be read ({exc.strerror}): put the file back") from exc
        try:
            for chunk in self._chunks:
                self._copy(descriptor, chunk, storage)
        finally:
            os.close(descriptor)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return storage.untyped_storage()

    def _allocate(self) -> torch.Tensor:
        try:
            return self._empty()
        except OutOfMemoryError:
            if self._device.type != "cuda":
                raise
            torch.cuda.empty_cache()  # what torch keeps for later may be in pieces that are too small
            return self._empty()

    def _empty(self) -> torch.Tensor:
        try:
            return torch.empty(self.bytes, dtype=torch.uint8, device=self._device)
        except RuntimeError as exc:
            if not is_out_of_memory(exc):
                raise
            raise OutOfMemoryError(
                f"{self._device} has no room for the {self.bytes} bytes of {self._file.path}: unload another model"
            ) from exc

    def _copy(self, descriptor: int, chunk: _Chunk, storage: torch.Tensor) -> None:
        with self._staging.buffer() as buffer:
            view = memoryview(buffer.numpy())  # type: ignore[arg-type]  # numpy 1's types lack the buffer protocol
            wanted = sum(end - begin for begin, end in chunk.pieces)
            read = os.preadv(descriptor, [view[begin:end] for begin, end in chunk.pieces], chunk.file_begin)
            if read != wanted:
                raise LoadError(f"{self._file.path} ended while it was read: copy it again, or build the model again")
            size = chunk.pieces[-1][1]
            storage[chunk.begin : chunk.begin + size].copy_(buffer[:size], non_blocking=True)


def _aligned(tensors: Sequence[TensorPlace]) -> tuple[tuple[int, ...], int]:
    """Where each tensor begins in an aligned storage, and the storage's size."""
    places, position = [], 0
    for tensor in tensors:
        places.append(position)
        position += -(-(tensor.end - tensor.begin) // _ALIGNMENT) * _ALIGNMENT
    return tuple(places), position


def _chunks(tensors: Sequence[TensorPlace], places: Sequence[int], size: int) -> Iterator[_Chunk]:
    """The copies that fill the storage, each of at most `size` bytes of it; large tensors are cut."""
    pieces: list[tuple[int, int]] = []
    file_begin = begin = 0
    for tensor, place in zip(tensors, places, strict=True):
        done, length = 0, tensor.end - tensor.begin
        while done < length:
            room = begin + size - (place + done)
            if pieces and (room <= 0 or len(pieces) == _MOST_PIECES):
                yield _Chunk(file_begin, begin, tuple(pieces))
                pieces = []
            if not pieces:
                file_begin, begin, room = tensor.begin + done, place + done, size
            take = min(room, length - done)
            pieces.append((place + done - begin, place + done - begin + take))
            done += take
    if pieces:
        yield _Chunk(file_begin, begin, tuple(pieces))
