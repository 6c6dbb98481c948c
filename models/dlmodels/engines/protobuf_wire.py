"""The fields of a protobuf message, read where they lie: what tells ONNX's files apart without the onnx package.

The encoding is the one of Protocol Buffers: each field is a tag (its number and its wire type), then its value. Nothing is
copied, and a field that nobody looks into costs a few steps however large it is, so a model of gigabytes is read at once.
"""

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}


class WireError(ValueError):
    """The bytes are no protobuf message, or end in the middle of one."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field in order; a value is an int (varint) or the bytes. Raises WireError."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"a field of number 0 at byte {position}")
        if kind == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == BYTES:
            size, position = _varint(message, position)
        elif kind in _FIXED_BYTES:
            size = _FIXED_BYTES[kind]
        else:
            raise WireError(f"a field of the unknown wire type {kind} at byte {position}")
        if position + size > end:
            raise WireError(f"it ends {position + size - end} bytes too early")
        yield number, message[position : position + size]
        position += size


def text(value: int | memoryview) -> str:
    """A string field. Raises WireError."""
    try:
        return str(blob(value), "utf-8")
    except UnicodeDecodeError as exc:
        raise WireError("a name in it is no text") from exc


def blob(value: int | memoryview) -> memoryview:
    """A field of bytes or of a message. Raises WireError where it is a number."""
    if isinstance(value, int):
        raise WireError("a field has a number where a message is expected")
    return value


def integer(value: int | memoryview) -> int:
    """A varint field, as the signed 64 bits that it stands for. Raises WireError."""
    if not isinstance(value, int):
        raise WireError("a field has bytes where a number is expected")
    return value - (1 << 64) if value >= 1 << 63 else value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number at `position`, seven bits a byte, and where it ends."""
    value = 0
    for count in range(_MOST_VARINT_BYTES):
        if position + count >= len(message):
            raise WireError("it ends in the middle of a number")
        byte = message[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise WireError(f"a number at byte {position} does not end")
