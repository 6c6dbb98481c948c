"""Headers and completeness of image files."""

import io
import struct
import zlib

import numpy as np
import pytest
from dlmodels.errors import ImageError
from dlmodels.image_files import inspect
from dlmodels.images import InputSpec, decode
from PIL import Image

from .conftest import HEIGHT, WIDTH, encode, every_kind

KINDS = every_kind()
SPEC = InputSpec(width=WIDTH, height=HEIGHT)
ENOUGH = 1 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_size_is_read_from_the_header_as_pillow_reads_it(kind: str) -> None:
    with Image.open(io.BytesIO(KINDS[kind])) as image:
        expected = image.size
    found = inspect(KINDS[kind], ENOUGH)
    assert (found.width, found.height) == expected == (WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_like_object_will_do(kind: str) -> None:
    data = KINDS[kind]
    expected = decode(data, SPEC)
    assert np.array_equal(decode(memoryview(data), SPEC), expected)
    assert np.array_equal(decode(bytearray(data), SPEC), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_file_cut_off_anywhere_is_refused_or_whole_and_nothing_is_logged(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = KINDS[kind]
    expected = decode(data, SPEC)
    refused = 0
    for size in range(len(data)):
        try:
            image = decode(data[:size], SPEC)
        except ImageError:
            refused += 1
        else:  # what was cut off was behind the first picture, or metadata
            assert np.array_equal(image, expected), f"silently different after {size} of {len(data)} bytes"
    assert refused > len(data) / 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_file_is_refused_or_decoded_but_never_anything_else(kind: str) -> None:
    random = np.random.default_rng(7)
    outcomes = {"decoded": 0, "refused": 0}
    for _ in range(150):
        damaged = bytearray(KINDS[kind])
        for place in random.integers(0, len(damaged), 3):
            damaged[place] = random.integers(0, 256)
        try:
            assert decode(damaged, SPEC, ENOUGH).shape == (HEIGHT, WIDTH, 3)
            outcomes["decoded"] += 1
        except ImageError:
            outcomes["refused"] += 1
    assert sum(outcomes.values()) == 150


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"hello, world", "begins with b'hello, w'"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b'{"data": 1}', "JSON"),
        (b"PK\3\4" + bytes(30), "zip"),
        (b"%PDF-1.7", "PDF"),
        (encode("GIF"), "GIF"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(100), "JPEG 2000"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"RIFF\x00\x00\x00\x00WEBP", "truncated"),
        (b"RIFF\x00\x00\x00\x00WEBPxxxx" + bytes(40), "truncated"),
        (b"BM", "truncated"),
        (b"II*\0", "truncated"),
        (b"P6 3", "truncated"),
        (bytes(1000), "begins with"),
    ],
)
def test_what_is_no_image_is_told_apart_by_its_first_bytes(data: bytes, expected: str) -> None:
    with pytest.raises(ImageError, match=expected):
        decode(data, SPEC)


def test_random_bytes_are_refused() -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        with pytest.raises(ImageError):
            decode(random.bytes(int(random.integers(0, 3000))), SPEC)


@pytest.mark.parametrize("kind", KINDS)
def test_pixel_limit_is_exact(kind: str) -> None:
    decode(KINDS[kind], SPEC, WIDTH * HEIGHT)
    with pytest.raises(ImageError, match=rf"{WIDTH} x {HEIGHT} pixels, more than the limit of {WIDTH * HEIGHT - 1}"):
        decode(KINDS[kind], SPEC, WIDTH * HEIGHT - 1)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, idat: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", idat) + _chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "bomb",
    [
        _png(60_000, 60_000, zlib.compress(bytes(1 << 20))),
        b"BM" + bytes(12) + struct.pack("<Iii", 40, 60_000, 60_000) + bytes(100),
        b"P6 60000 60000 255\n" + bytes(100),
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\x00" * 2 + bytes(100),
        b"\xff\xd8\xff\xc0\x00\x11\x08\xea\x60\xea\x60\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xda\x00\x02\xff\xd9",
    ],
)
def test_header_that_promises_gigapixels_is_refused_before_decoding(bomb: bytes) -> None:
    with pytest.raises(ImageError, match="more than the limit"):
        decode(bomb, SPEC)


@pytest.mark.parametrize(
    "data", [_png(0, 10), b"P6 0 7 255\n", b"BM" + bytes(12) + struct.pack("<Iii", 40, -3, 3) + bytes(9)]
)
def test_picture_without_pixels_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="nothing to look at"):
        decode(data, SPEC)


def test_png_with_pixels_missing_is_refused() -> None:
    with pytest.raises(ImageError, match="PNG data is truncated or damaged"):
        decode(_png(30, 20, zlib.compress(bytes(400))), SPEC)


def test_png_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(KINDS["png"])
    data[60] ^= 1
    with pytest.raises(ImageError, match="damaged"):
        decode(data, SPEC)


def test_jpeg_with_hundreds_of_scans_is_refused() -> None:
    data = KINDS["jpeg progressive"]
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="scans"):
        decode(data[:-2] + scan * 200 + b"\xff\xd9", SPEC)


def test_jpeg_may_be_followed_by_anything() -> None:
    assert np.array_equal(decode(KINDS["jpeg"] + b"trailer" * 9, SPEC), decode(KINDS["jpeg"], SPEC))


def test_jpeg_whose_thumbnail_alone_is_whole_is_refused() -> None:
    thumbnail = KINDS["jpeg"]
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = thumbnail[:2] + segment + thumbnail[2:]
    decode(with_thumbnail, SPEC)
    with pytest.raises(ImageError, match="truncated"):
        decode(with_thumbnail[:-200], SPEC)


def test_tiff_of_floats_is_refused() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        decode(encode("TIFF", Image.fromarray(np.zeros((9, 9), np.float32))), SPEC)


def test_big_endian_tiff_is_read() -> None:
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (278, 3, 1), (279, 4, 2)]
    directory = struct.pack(">H", len(entries)) + b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in entries
    )
    data = (b"MM\0*" + struct.pack(">I", 8) + directory + bytes(4)).ljust(200, b"\0") + bytes((10, 200))
    assert decode(data, InputSpec(width=2, height=1, bw=True)).ravel().tolist() == [10, 200]
