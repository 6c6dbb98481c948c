"""200 hostile images and bodies of random bytes: each gets its documented error, and the server is as well as before."""

import base64
import contextlib
import io
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Iterator

import cv2
import httpx
import numpy as np
import psutil
import pytest

from tests.conftest import Server, simulated, status_of
from tests.server.conftest import photograph

MIB = 1 << 20
MAX_PIXELS = 4_000_000


def encode(kind: str, width: int = 64, height: int = 48) -> bytes:
    image = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(kind, image)[1])


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_bomb(width: int, height: int, rows: int) -> bytes:
    """A PNG that claims width x height and holds `rows` rows of zeros, well compressed."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes((1 + 3 * width) * rows), 9))
    return b"\x89PNG\r\n\x1a\n" + header + data + png_chunk(b"IEND", b"")


def jpeg_bomb(width: int, height: int) -> bytes:
    """A small JPEG whose header claims other dimensions."""
    image = bytearray(photograph(1, 32, 32))
    frame = image.index(b"\xff\xc0")
    image[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(image)


def hostile() -> Iterator[bytes]:
    """Exactly 200 of them: truncated, bombs, and things that are no image."""
    draws = random.Random(7)
    for kind, count in ((".jpg", 50), (".png", 40), (".webp", 20), (".bmp", 20)):
        whole = encode(kind)
        for number in range(count):
            yield whole[: 1 + (len(whole) - 12) * number // count]
    for width, height in [(60000, 60000), (65000, 200), (10000, 1000), (2001, 2000), (1 << 30, 1 << 30), (3000, 3000)]:
        yield png_bomb(width, height, 4 if width < 100_000 else 0)
    yield png_bomb(3000, 3000, 3000)
    for width, height in [(65000, 65000), (65500, 100), (5000, 4000), (3000, 3000)]:
        yield jpeg_bomb(width, height)
    yield png_bomb(0, 0, 0)
    yield jpeg_bomb(0, 10)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cat.jpg", photograph(1))
    yield archive.getvalue()
    yield from (
        b"",
        b"\0",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"BM",
        b"RIFF\0\0\0\0WEBP",
    )
    yield from (b"<html></html>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7\n", b"\x7fELF" + bytes(60))
    yield from (
        b"hello, world",
        b"\x80\x04\x95.",
        b"P6\n99999 99999\n255\n",
        b"II*\0" + b"\xff" * 40,
        b"MM\0*" + bytes(40),
    )
    yield photograph(1).replace(b"\xff\xda", b"\xff\x00")
    while True:
        yield draws.randbytes(draws.randrange(1, 5000))


HOSTILE = [image for image, _ in zip(hostile(), range(200), strict=False)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One worker; its simulated service decodes what it gets."""
    server = Server("--workers", "1", "--devices", "cpu", "--max-pixels", str(MAX_PIXELS)).wait_ready()
    with server.client() as client:
        simulated(client, "sim", decode=True)
    yield server
    assert server.stop() == 0


def resident(server: Server) -> int:
    """Memory of all the server's processes."""
    process = psutil.Process(server.process.pid)
    return sum(int(one.memory_info().rss) for one in [process, *process.children()])


def send_all(client: httpx.Client) -> None:
    for number, image in enumerate(HOSTILE):
        raw = client.post("/predict/sim", content=image, headers={"Content-Type": "application/octet-stream"})
        status = status_of(raw)
        assert (status["code"], status["dd_code"]) == (400, 1005), (number, image[:40], raw.text)
        assert len(status["dd_msg"]) > len("Service Input Error: ") + 10
        json = client.post("/predict", json={"service": "sim", "data": [base64.b64encode(image).decode()]})
        assert status_of(json)["dd_code"] == 1005, (number, image[:40], json.text)


def test_hostile_images_get_errors_and_leave_the_server_as_it_was(server: Server) -> None:
    with server.client() as client:
        good = [
            client.post("/predict/sim", content=photograph(5), headers={"Content-Type": "image/jpeg"}).json()["body"]
        ]
        send_all(client)
        before = resident(server)
        for _ in range(3):
            send_all(client)
        grown = resident(server) - before
        assert grown < 16 * MIB, f"{grown / MIB:.1f} MiB more after 1200 more hostile calls"
        good.append(
            client.post("/predict/sim", content=photograph(5), headers={"Content-Type": "image/jpeg"}).json()["body"]
        )
        assert good[0] == good[1]
        assert "restart" not in "".join(server.log)


def test_bodies_of_random_bytes_are_refused_as_no_json(server: Server) -> None:
    draws = random.Random(11)
    with server.client() as client:
        for size in (1, 10, 1000, 100_000):
            for path in ("/predict", "/services/random", "/train"):
                method = "PUT" if path.startswith("/services") else "POST"
                status = status_of(client.request(method, path, content=b"\xfe" + draws.randbytes(size)))
                assert (status["code"], status.get("dd_code")) == (400, None)


def test_bytes_that_are_no_http_end_the_connection_and_nothing_else(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    draws = random.Random(13)
    for size in (1, 100, 100_000):
        # It may be closed before all was sent.
        with socket.create_connection((host, int(port))) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(draws.randbytes(size) + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    with server.client() as client:
        assert client.get("/healthz").status_code == 200
