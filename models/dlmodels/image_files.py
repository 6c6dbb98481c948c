"""What an image file says of itself, checked before anything is decoded: format, size, and whether the file is whole.

Only formats whose damage is noticed are let through. OpenCV 4.11 fails cleanly on a WebP, BMP, TIFF or PNM file that is
cut off anywhere. A JPEG must reach its end marker. A PNG is rebuilt from its checked chunks, because OpenCV's reader
crashes on broken animations and spends seconds on wrong lengths. JPEG 2000 crashes it too, and this OpenCV has no GIF:
both are refused. What no check of the file's structure can find is damage inside the compressed pixels of a JPEG.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from types import MappingProxyType

from dlmodels.errors import ImageError

SUPPORTED = "JPEG, PNG, WebP, BMP, TIFF and PNM"

Data = bytes | bytearray | memoryview

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # neither stuffing, a restart marker nor fill
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SIZE = struct.Struct(">HH")
_JPEG_MAX_SCANS = 100  # progressive files have about 10; thousands over a large picture are an attack
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"IDAT", b"eXIf", b"IEND"))
_PNG_CHUNK = struct.Struct(">I4s")
_PNG_SIZE = struct.Struct(">II")
_BMP_SIZES = struct.Struct("<Iii")  # bytes of the information header, then width and height, negative if top down
_TIFF_ENTRY = "HHI4s"
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_SAMPLES = 256, 257, 258, 339
_TIFF_TYPES = MappingProxyType({1: "B", 3: "H", 4: "I"})
_PNM = re.compile(rb"P[1-6]" + 2 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})" + rb"\s")
_OTHERS = MappingProxyType(
    {
        b"GIF8": "a GIF",
        b"\x00\x00\x00\x0cjP": "a JPEG 2000 file",
        b"\xff\x4f\xff\x51": "a JPEG 2000 file",
        b"PK": "a zip archive",
        b"%PDF": "a PDF file",
        b"<": "text: HTML, XML or SVG",
        b"{": "text: JSON",
    }
)
"""First bytes of what people send by mistake -> what it is, for the message."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file whose structure is whole."""

    format: str
    width: int
    """As stored; a quarter turn by EXIF orientation exchanges it with the height."""
    height: int
    data: Data
    """What to decode: the bytes as they came, or the PNG rebuilt without what is not needed."""


def inspect(data: Data, max_pixels: int) -> ImageFile:
    """Check the header and the completeness of an image file. Raises ImageError saying what is wrong with it."""
    if len(data) == 0:
        raise ImageError("the image is empty (0 bytes); send the bytes of an image file")
    file = _read(data)
    if file.width < 1 or file.height < 1:
        raise ImageError(f"the {file.format} image is {file.width} x {file.height} pixels: there is nothing to look at")
    if file.width * file.height > max_pixels:
        raise ImageError(
            f"the image has {file.width} x {file.height} pixels, more than the limit of {max_pixels}; send it smaller"
        )
    return file


def broken(image_format: str) -> ImageError:
    """The error for a file that does not hold the picture that its header promises."""
    return ImageError(f"the {image_format} data is truncated or damaged; send the whole file")


def _read(data: Data) -> ImageFile:
    head = bytes(data[:16])
    if head.startswith(b"\xff\xd8\xff"):
        return _read_jpeg(data)
    if head.startswith(_PNG_SIGNATURE):
        return _read_png(data)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _read_webp(data)
    if head.startswith(b"BM"):
        return _read_bmp(data)
    if head.startswith((b"II*\0", b"MM\0*")):
        return _read_tiff(data)
    if re.match(rb"P[1-6]\s", head):
        return _read_pnm(data)
    what = next((name for start, name in _OTHERS.items() if head.startswith(start)), f"it begins with {head[:8]!r}")
    raise ImageError(f"not an image that can be read here ({what}); send one of {SUPPORTED}")


def _read_jpeg(data: Data) -> ImageFile:
    """Walk over the segments of a JPEG to the end marker that follows a scan (ISO 10918-1, annex B)."""
    position, scans, size = 2, 0, None
    while found := _JPEG_MARKER.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        if marker == 0xD9:
            break
        if marker in _JPEG_FRAMES:
            if size is not None or position + 7 > len(data):
                raise broken("JPEG")
            size = _JPEG_SIZE.unpack_from(data, position + 3)  # after the segment's length and the sample precision
        if marker == 0xDA:
            scans += 1
            if scans > _JPEG_MAX_SCANS:
                raise ImageError(f"the JPEG has more than {_JPEG_MAX_SCANS} scans; save it again as a plain JPEG")
        position += int.from_bytes(data[position : position + 2], "big")
    if found is None or scans == 0 or size is None:
        raise broken("JPEG")
    return ImageFile("JPEG", size[1], size[0], data)


def _read_png(data: Data) -> ImageFile:
    """A PNG of the chunks that make its first picture, each with a right length and checksum (ISO 15948, 5.3)."""
    kept, position = [_PNG_SIGNATURE], len(_PNG_SIGNATURE)
    view = memoryview(data)
    while position + 12 <= len(view):
        length, kind = _PNG_CHUNK.unpack_from(view, position)
        end = position + 12 + length
        if end > len(view) or (len(kept) == 1 and (kind, length) != (b"IHDR", 13)):
            break
        if kind in _PNG_KEPT:
            if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
                break
            kept.append(bytes(view[position:end]))
        if kind == b"IEND":
            width, height = _PNG_SIZE.unpack_from(kept[1], 8)
            return ImageFile("PNG", width, height, b"".join(kept))
        position = end
    raise broken("PNG")


def _read_webp(data: Data) -> ImageFile:
    """The size from the first chunk of the three kinds of WebP (RFC 9649); libwebp checks the rest."""
    head = bytes(data[12:30])
    if len(head) < 18:
        raise broken("WebP")
    if head.startswith(b"VP8X"):
        width, height = int.from_bytes(head[12:15], "little") + 1, int.from_bytes(head[15:18], "little") + 1
    elif head.startswith(b"VP8L"):
        bits = int.from_bytes(head[9:13], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif head.startswith(b"VP8 "):
        width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (14, 16))
    else:
        raise broken("WebP")
    return ImageFile("WebP", width, height, data)


def _read_bmp(data: Data) -> ImageFile:
    if len(data) < 26:
        raise broken("BMP")
    header, width, height = _BMP_SIZES.unpack_from(data, 14)
    if header == 12:  # OS/2: 16-bit sizes
        width, height = struct.unpack_from("<HH", data, 18)
    return ImageFile("BMP", width, abs(height), data)


def _read_tiff(data: Data) -> ImageFile:
    """The size from the first directory (TIFF 6.0, section 2)."""
    order = "<" if data[0] == ord("I") else ">"
    found = {_TIFF_BITS: 1, _TIFF_SAMPLES: 1}
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (entries,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(order + _TIFF_ENTRY, data, directory + 2 + 12 * entry)
            if tag in (_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_SAMPLES):
                number = order + _TIFF_TYPES[kind]
                inline = count * struct.calcsize(number) <= 4  # else the value is where the numbers are
                place, where = (value, 0) if inline else (data, *struct.unpack(order + "I", value))
                (found[tag],) = struct.unpack_from(number, place, where)
        width, height = found[_TIFF_WIDTH], found[_TIFF_HEIGHT]
    except (struct.error, KeyError) as exc:
        raise broken("TIFF") from exc
    if found[_TIFF_BITS] > 16 or found[_TIFF_SAMPLES] == 3:
        raise ImageError("a TIFF of 32-bit or floating-point samples has no fixed range; save it with 8 or 16 bits")
    return ImageFile("TIFF", width, height, data)


def _read_pnm(data: Data) -> ImageFile:
    found = _PNM.match(data)
    if found is None:
        raise broken("PNM")
    return ImageFile("PNM", int(found[1]), int(found[2]), data)
