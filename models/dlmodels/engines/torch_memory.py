"""How the bytes of a tensor file get to where torch computes on a CPU: mapped, read, or converted to a smaller type."""

import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import cast

import torch

from dlmodels.engines.parallel_read import ParallelReader
from dlmodels.engines.safetensors_file import ITEM_BYTES, TensorFile
from dlmodels.errors import LoadError, OutOfMemoryError

DTYPES = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)
"""safetensors' names of types -> torch's."""
CAST_FROM = "F32"
"""The one type that a model's `datatype` converts; counters, indices and masks stay as they are."""
Mark = object
"""A point in the order of a device's copies."""
_ALIGNMENT = 64
# torch has a type for a GPU that is full, which TorchScript loses on the way; for a machine that is full it has only
# RuntimeError. What is left to go by is the text.
_OUT_OF_MEMORY = ("CUDA out of memory", "DefaultCPUAllocator", "Cannot allocate memory", "could not create a memory")


def is_out_of_memory(exc: RuntimeError) -> bool:
    """Whether torch failed for want of memory, on whichever device."""
    return isinstance(exc, torch.OutOfMemoryError) or any(text in str(exc) for text in _OUT_OF_MEMORY)


class Source(ABC):
    """Brings one file's tensors into one storage, again and again."""

    places: tuple[int, ...]
    """Where each tensor of the file begins in the storage, in bytes."""
    bytes: int
    """Of the storage."""
    way: str
    """How the bytes get there, for people."""
    marks: tuple[Mark, ...] = ()
    """Of copies that `load` has left under way, a group of tensors each."""

    @abstractmethod
    def load(self) -> torch.UntypedStorage:
        """The file's tensors; complete once all of `marks` are reached. Raises LoadError or OutOfMemoryError."""

    @property
    def staged_bytes(self) -> int:
        """What the content takes of the host tier while staged."""
        return self.bytes

    @property
    def staged(self) -> bool:
        """Whether the host tier holds the file's content."""
        return False

    def stage(self) -> None:
        """See Model.stage."""
        raise NotImplementedError("there is no host tier")

    def unstage(self) -> None:  # noqa: B027  there is nothing to do where there is no host tier
        """See Model.unstage."""


class MappedFile(Source):
    """The file itself, mapped privately: nothing is read before it is used, and the page cache is used in place."""

    way = "mapped"

    def __init__(self, file: TensorFile) -> None:
        self._file = file
        self.places = tuple(tensor.begin for tensor in file.tensors)
        self.bytes = file.stamp.bytes

    def load(self) -> torch.UntypedStorage:
        """Map the file."""
        self._file.check_unchanged()
        try:
            mapped = torch.UntypedStorage.from_file(str(self._file.path), shared=False, nbytes=self.bytes)
        except RuntimeError as exc:
            raise LoadError(f"{self._file.path} cannot be mapped ({exc}): check the file and free memory") from exc
        return cast("torch.UntypedStorage", mapped)


class ReadFile(Source):
    """Read into memory of its own, which goes with the storage: nothing is kept, nothing mapped from the file."""

    way = "read"

    def __init__(self, file: TensorFile, reader: ParallelReader) -> None:
        self._file = file
        self._reader = reader
        first = min(tensor.begin for tensor in file.tensors)
        self._begin = first // _ALIGNMENT * _ALIGNMENT  # so that what is aligned in the file stays so
        self.bytes = max(tensor.end for tensor in file.tensors) - self._begin
        self.places = tuple(tensor.begin - self._begin for tensor in file.tensors)

    def load(self) -> torch.UntypedStorage:
        """Read the file."""
        self._file.check_unchanged()
        memory = anonymous(self.bytes, str(self._file.path))
        with memoryview(memory) as view:
            self._reader.read(self._file.path, [(self._begin, view)])
        return torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()


class ConvertedFile(Source):
    """A copy in a smaller type, made anew at each load from the file, which stays as it is."""

    way = "converted"

    def __init__(self, file: TensorFile, dtype: torch.dtype, whole: Source) -> None:
        self._file = file
        self._dtype = dtype
        self._whole = whole
        places, position = [], 0
        for tensor in file.tensors:
            places.append(position)
            items = (tensor.end - tensor.begin) // ITEM_BYTES[tensor.dtype]
            size = items * stored_dtype(tensor.dtype, dtype).itemsize
            position += -(-size // _ALIGNMENT) * _ALIGNMENT
        self.places = tuple(places)
        self.bytes = max(position, _ALIGNMENT)

    def load(self) -> torch.UntypedStorage:
        """Read and convert."""
        read = self._whole.load()
        with room_for(self.bytes, str(self._file.path), "cpu"):
            storage = torch.empty(self.bytes, dtype=torch.uint8).untyped_storage()
        for tensor, begin, place in zip(self._file.tensors, self._whole.places, self.places, strict=True):
            items = (tensor.end - tensor.begin) // ITEM_BYTES[tensor.dtype]
            source = _typed(read, DTYPES[tensor.dtype], begin, items)
            _typed(storage, stored_dtype(tensor.dtype, self._dtype), place, items).copy_(source)
        return storage


def stored_dtype(name: str, cast_to: torch.dtype | None) -> torch.dtype:
    """The type that a tensor of the file's type `name` has on the device."""
    return cast_to if cast_to is not None and name == CAST_FROM else DTYPES[name]


@contextmanager
def room_for(size: int, what: str, device: str) -> Iterator[None]:
    """Turn torch's failure to allocate into OutOfMemoryError."""
    try:
        yield
    except RuntimeError as exc:
        if not is_out_of_memory(exc):
            raise
        raise OutOfMemoryError(
            f"{device} has no room for the {size} bytes of {what}: unload another model, or use more memory"
        ) from exc


def _typed(storage: torch.UntypedStorage, dtype: torch.dtype, begin: int, items: int) -> torch.Tensor:
    return torch.empty(0, dtype=dtype).set_(storage, begin // dtype.itemsize, (items,), (1,))


def anonymous(size: int, what: str) -> mmap.mmap:
    """Memory of the process alone, in huge pages where the system has them: small ones cost as much as the read.

    Raises OutOfMemoryError.
    """
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as exc:
        raise OutOfMemoryError(f"cpu has no room for the {size} bytes of {what} ({exc}): unload another model") from exc
    with_huge_pages = getattr(mmap, "MADV_HUGEPAGE", None)
    if with_huge_pages is not None:
        _advise(memory, with_huge_pages)
    return memory


def _advise(memory: mmap.mmap, advice: int) -> None:
    """Harmless where the kernel was built without huge pages."""
    try:
        memory.madvise(advice)
    except OSError as exc:
        if exc.errno != 22:  # EINVAL: it knows no such advice
            raise
