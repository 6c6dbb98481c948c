"""Servers that the API tests share: on the simulated engine, on torch, and on every other engine that works here."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import tomli_w

from tests.conftest import DEADLINE_S, Server, made_once, simulated


@dataclass(frozen=True)
class Target:
    """A running server, a client of it, one of its services and a folder whose images it may read."""

    server: Server
    client: httpx.Client
    service: str
    images: Path
    engine: str
    workers: int
    repository: str = ""
    """What a request calls the folder of its model."""
    fixed_size: bool = False
    """Its graph takes images of 224 x 224 and no others."""

    @property
    def simulated(self) -> bool:
        """Whether no real network answers."""
        return self.engine == "simulated"


def photograph(seed: int, width: int = 320, height: int = 240) -> bytes:
    """A JPEG with structure at several scales, so that networks tell such images apart."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    noisy = np.clip(smooth + generator.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; the test's own time-out bounds it."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.02)


@pytest.fixture
def small_models(tmp_path: Path) -> Callable[..., Path]:
    """A maker of models folders: simulated models of these names, all with these parameters."""

    def make(*names: str, **parameters: object) -> Path:
        folder = tmp_path / "models"
        for name in names:
            (folder / name).mkdir(parents=True)
            table = {"engine": "simulated", "parameters": parameters}
            (folder / name / "model.toml").write_text(tomli_w.dumps(table))
        return folder

    return make


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


NETWORK = "squeezenet1_1"
TARGETS = ("torchscript", "pt2", "onnx", "openvino", "mxnet")
"""What the network is converted to."""
FORMATS = {
    "torchscript": ("torch", "torchscript"),
    "pt2": ("torch", "pt2"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "openvino"),
    "mxnet": ("mxnet", "mxnet"),
    "opencv": ("opencv", "onnx"),
}
"""A service for each engine and format beside torch's own: its name -> (engine, what the folder holds)."""
_CONVERT = """
import sys
from pathlib import Path
from dlmodels.conversion.convert import Request, convert
for target in sys.argv[3:]:
    convert(Request(Path(sys.argv[1]), target, Path(sys.argv[2])))
"""


@pytest.fixture(scope="session")
def formats(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network in every format that it can be converted to, each in a folder."""

    def convert(folder: Path) -> None:
        shutil.copytree(repository / NETWORK, folder / NETWORK)
        command = [sys.executable, "-c", _CONVERT, str(folder / NETWORK), str(folder), *TARGETS]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=2 * DEADLINE_S)
        assert done.returncode == 0, done.stderr

    return made_once(tmp_path_factory, "formats", convert)


@pytest.fixture(scope="session")
def every_engine(formats: Path, images: Path) -> Iterator[Server]:
    """A server of 2 workers with that network on every engine, one service for each of `FORMATS`."""
    options = ["--workers", "2", "--models-dir", str(formats), "--data-root", str(images), "--max-body-mb", "8"]
    server = Server(*options, cwd=images).wait_ready()
    with server.client() as client:
        for name, (engine, kind) in FORMATS.items():
            creation = {"mllib": engine, "model": {"repository": f"{NETWORK}-{kind}"}}
            answer = client.put(f"/services/{name}", json=creation)
            assert answer.status_code == 201, answer.text
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module", params=["simulated", "two-front-ends", "torch", *FORMATS])
def target(request: pytest.FixtureRequest, images: Path) -> Iterator[Target]:
    """The same tests on 8 workers with the simulated engine, on 2 with two front ends, on 2 with torch, and on 2 with each
    other engine and format.
    """
    if request.param in FORMATS:
        server: Server = request.getfixturevalue("every_engine")
        engine, kind = FORMATS[request.param]
        with server.client() as client:
            yield Target(server, client, request.param, images, engine, 2, f"{NETWORK}-{kind}", fixed_size=True)
        return
    is_simulated = request.param != "torch"
    workers, fronts = {"simulated": (8, 1), "two-front-ends": (2, 2), "torch": (2, 1)}[request.param]
    if is_simulated:
        options = ["--workers", str(workers), "--devices", "cpu", "--front-ends", str(fronts)]
    else:
        options = ["--workers", "2", "--models-dir", str(request.getfixturevalue("repository"))]
    server = Server(*options, "--data-root", str(images), "--max-body-mb", "8", cwd=images).wait_ready()
    with server.client() as client:
        if is_simulated:
            simulated(client, NETWORK, forward_s=0.001, bytes=1_000_000)
        yield Target(server, client, NETWORK, images, "simulated" if is_simulated else request.param, workers, NETWORK)
    assert server.stop() == 0
