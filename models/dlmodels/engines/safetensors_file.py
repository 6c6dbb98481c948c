"""Where each tensor lies in a safetensors file, checked so that the file can then be mapped or copied blindly.

A file is ``<u64 header size><header: JSON><data>``; the header gives each tensor's type, shape and place in the data. Our
own files say ``layout: channels_last`` in its metadata: filters (4 dimensions) then lie as (out, height, width, in), which
is how the convolutions want them, and the header gives the shape in that order.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from dlmodels.engines.file_stamp import Stamp, check_stamp, stamp
from dlmodels.errors import LoadError

ITEM_BYTES = MappingProxyType(
    {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
)
CHANNELS_LAST = "channels_last"
FILTER_DIMENSIONS = 4
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Of its bytes in the file."""
    end: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A checked file and where its tensors lie in it, without overlaps."""

    path: Path
    stamp: Stamp
    tensors: tuple[TensorPlace, ...]
    channels_last: bool = False
    """Whether tensors of 4 dimensions lie as (out, height, width, in)."""

    def check_unchanged(self) -> None:
        """Raises LoadError if the file is gone or is not the one that was checked."""
        check_stamp(self.path, self.stamp)


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_tensor_file(path: Path) -> TensorFile:
    """Read and check the header. Raises LoadError saying what is wrong with the file."""
    found = stamp(path)
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        start = 8 + header_bytes
        if header_bytes > _MAX_HEADER_BYTES or start > found.bytes:
            raise _broken(path, "its header does not fit into it")
        header = file.read(header_bytes)
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(raw.pop("__metadata__", msgspec.Raw(b"{}")), type=dict[str, str])
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise _broken(path, f"its header is not what it should be ({exc})") from exc
    tensors = sorted(
        (
            TensorPlace(name, entry.dtype, entry.shape, start + entry.data_offsets[0], start + entry.data_offsets[1])
            for name, entry in entries.items()
        ),
        key=lambda tensor: (tensor.begin, tensor.end),
    )
    _check_places(path, tensors, start, found.bytes)
    layout = metadata.get("layout", "")
    if layout not in ("", CHANNELS_LAST):
        raise LoadError(f"{path} has the layout {layout!r}, which is not known here: build the model again")
    return TensorFile(path, found, tuple(tensors), layout == CHANNELS_LAST)


def _check_places(path: Path, tensors: list[TensorPlace], start: int, size: int) -> None:
    if not tensors:
        raise _broken(path, "it holds no tensor")
    position = start
    for tensor in tensors:
        item = ITEM_BYTES.get(tensor.dtype)
        if item is None:
            raise LoadError(f"{path}: tensor {tensor.name!r} has the type {tensor.dtype}: convert it to F32")
        if tensor.begin != position or min(tensor.shape, default=1) < 0:
            raise _broken(path, f"tensor {tensor.name!r} is not where the one before it ends")
        if math.prod(tensor.shape) * item != tensor.end - tensor.begin:
            raise _broken(path, f"tensor {tensor.name!r} of shape {tensor.shape} has {tensor.end - tensor.begin} bytes")
        if tensor.begin % item:
            raise LoadError(
                f"{path}: tensor {tensor.name!r} is not aligned: write the file with the safetensors library"
            )
        position = tensor.end
    if position != size:
        raise _broken(path, f"it has {size} bytes where its header speaks of {position}")


def _broken(path: Path, why: str) -> LoadError:
    return LoadError(f"{path} is no whole safetensors file: {why}. Copy it again, or build the model again")
