"""Where each array lies in an MXNet `.params` file, checked so that the file can then be used where it lies.

A file is ``<u64 0x112><u64 0><u64 arrays>`` and the arrays, then ``<u64 names>`` and the names, each ``<u64 length><bytes>``.
An array is ``<u32 magic><i32 storage><i32 dimensions><i64 each><i32 device><i32 its number><i32 type><data>``; MXNet 0.x and
1.0 wrote no storage type, and before that 32-bit dimensions whose number stands in place of the magic
(NDArray::Save and LegacyLoad in MXNet's src/ndarray/ndarray.cc). MXNet's own reader is not used: it copies everything.
"""

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dlmodels.errors import LoadError

DTYPES = MappingProxyType(
    {0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool"}
)
"""MXNet's type numbers, as numpy calls them (mshadow's TypeFlag)."""
_ITEM_BYTES = MappingProxyType(
    {"float32": 4, "float64": 8, "float16": 2, "uint8": 1, "int32": 4, "int8": 1, "int64": 8, "bool": 1}
)
_LIST_MAGIC = 0x112
_FIRST_MAGIC, _MAGIC, _NUMPY_MAGIC = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = 0
_MOST_DIMENSIONS = 32
_PREFIXES = ("arg:", "aux:")


@dataclass(frozen=True, slots=True)
class ArrayPlace:
    """One array of a file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Of its bytes in the file."""
    bytes: int


def read_params(path: Path) -> Mapping[str, ArrayPlace]:
    """Name, without "arg:" or "aux:", -> place. Raises LoadError saying what is wrong with the file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return _Reader(path, mapped).arrays()
    except ValueError as exc:  # an empty file cannot be mapped
        raise LoadError(f"{path} is empty: copy it again, or build the model again") from exc
    except OSError as exc:
        raise LoadError(f"the weights {path} cannot be read ({exc.strerror}): put the file back") from exc


class _Reader:
    """Goes through a file once, looking at everything but the data."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self._path = path
        self._mapped = mapped
        self._position = 0

    def arrays(self) -> Mapping[str, ArrayPlace]:
        size = len(self._mapped)
        if size < 24 or self._numbers("<Q")[0] != _LIST_MAGIC:
            raise LoadError(
                f"{self._path} is no .params file of MXNet: save the network with net.export() or Module.save_checkpoint()"
            )
        self._numbers("<Q")
        places = list(self._places(*self._numbers("<Q")))
        names = list(self._names(*self._numbers("<Q")))
        if not places or len(names) != len(places):
            raise self._broken(f"it holds {len(places)} arrays and {len(names)} names")
        if self._position != size:
            raise self._broken(f"its arrays end at byte {self._position}, and it has {size}")
        bare = [name[4:] if name.startswith(_PREFIXES) else name for name in names]
        return MappingProxyType(dict(zip(bare, places, strict=True)))

    def _places(self, count: int) -> Iterator[ArrayPlace]:
        for _ in range(count):
            shape = self._shape()
            _device, _index, flag = self._numbers("<3i")
            dtype = DTYPES.get(flag)
            if dtype is None:
                raise self._broken(f"an array at byte {self._position} has the unknown type {flag}")
            bytes_ = math.prod(shape) * _ITEM_BYTES[dtype]
            begin = self._position
            self._skip(bytes_)
            yield ArrayPlace(dtype, shape, begin, bytes_)

    def _shape(self) -> tuple[int, ...]:
        (magic,) = self._numbers("<I")
        each = "q"
        if magic in (_MAGIC, _NUMPY_MAGIC):
            if self._numbers("<i")[0] != _DENSE:
                raise LoadError(f"{self._path} holds sparse arrays, which are not served: save them as dense ones")
            (dimensions,) = self._numbers("<i")
        elif magic == _FIRST_MAGIC:
            (dimensions,) = self._numbers("<I")
        else:
            dimensions, each = magic, "I"
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise self._broken(f"an array at byte {self._position} has {dimensions} dimensions")
        shape = self._numbers(f"<{dimensions}{each}")
        if min(shape) < 1:
            raise self._broken(f"an array at byte {self._position} has the shape {shape}")
        return shape

    def _names(self, count: int) -> Iterator[str]:
        for _ in range(count):
            (length,) = self._numbers("<Q")
            begin = self._position
            self._skip(length)
            try:
                yield self._mapped[begin : self._position].decode("utf-8")
            except UnicodeDecodeError as exc:
                raise self._broken(f"the name at byte {begin} is no text") from exc

    def _numbers(self, form: str) -> tuple[int, ...]:
        begin = self._position
        self._skip(struct.calcsize(form))
        return struct.unpack_from(form, self._mapped, begin)

    def _skip(self, size: int) -> None:
        self._position += size
        if self._position > len(self._mapped):
            raise self._broken(f"it ends {self._position - len(self._mapped)} bytes too early")

    def _broken(self, why: str) -> LoadError:
        return LoadError(f"{self._path} is no whole .params file: {why}. Copy it again, or build the model again")
