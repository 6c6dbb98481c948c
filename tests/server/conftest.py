"""Servers that the API tests share: 8 workers on the simulated engine, and 2 on torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from tests.conftest import Server, simulated


@dataclass(frozen=True)
class Target:
    """A running server, a client of it, one of its services and a folder whose images it may read."""

    server: Server
    client: httpx.Client
    service: str
    images: Path
    simulated: bool
    workers: int


def photograph(seed: int, width: int = 320, height: int = 240) -> bytes:
    """A JPEG with structure at several scales, so that networks tell such images apart."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    noisy = np.clip(smooth + generator.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six JPEG files, and a folder `some` with two of them."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "some").mkdir()
    for number in range(6):
        (folder / f"image-{number}.jpg").write_bytes(photograph(number))
    for number in range(2):
        (folder / "some" / f"image-{number}.jpg").write_bytes(photograph(number))
    return folder


@pytest.fixture(scope="module", params=["8 simulated workers", "2 torch workers"])
def target(request: pytest.FixtureRequest, images: Path) -> Iterator[Target]:
    """The same tests on both: 8 workers on the simulated engine, 2 on torch."""
    is_simulated = request.param == "8 simulated workers"
    if is_simulated:
        options = ["--workers", "8", "--devices", "cpu"]
    else:
        options = ["--workers", "2", "--models-dir", str(request.getfixturevalue("repository"))]
    server = Server(*options, "--data-root", str(images), "--max-body-mb", "8", cwd=images).wait_ready()
    client = server.client()
    if is_simulated:
        simulated(client, "squeezenet1_1", forward_s=0.001, bytes=1_000_000)
    yield Target(server, client, "squeezenet1_1", images, is_simulated, 8 if is_simulated else 2)
    client.close()
    assert server.stop() == 0
