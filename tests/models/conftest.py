"""Pictures in every kind of file, and a small repository of real networks."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.torch import TorchEngine
from dlmodels.images import InputSpec, Pixels
from dlmodels.repository import ModelSpec, read_model
from dlmodels.zoo.build import build
from PIL import Image

from .networks import SMALL

WIDTH, HEIGHT = 30, 20


def picture(width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """RGB: two smooth ramps and a hard-edged square, so that no flip, turn or exchange of channels goes unnoticed."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :, 0] = np.linspace(0, 255, width).astype(np.uint8)
    image[:, :, 1] = np.linspace(255, 0, height).astype(np.uint8)[:, None]
    image[height // 4 : height // 2, width // 8 : width // 3, 2] = 200
    return image


def encode(file_format: str, image: Image.Image | Pixels | None = None, **options: object) -> bytes:
    """A file by Pillow."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(picture() if image is None else image)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def encode_16_bit(extension: str) -> bytes:
    """A file with 16 bits per sample, by OpenCV."""
    return cv2.imencode(extension, picture()[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes()


def every_kind() -> dict[str, bytes]:
    """One file of each kind that is supported, all of the same picture."""
    image = Image.fromarray(picture())
    turned = [image.rotate(90), image.rotate(180)]
    return {
        "jpeg": encode("JPEG"),
        "jpeg progressive": encode("JPEG", progressive=True),
        "jpeg with restart markers": encode("JPEG", restart_marker_rows=1),
        "jpeg grey": encode("JPEG", image.convert("L")),
        "jpeg cmyk": encode("JPEG", image.convert("CMYK"), quality=95),
        "png": encode("PNG"),
        "png palette": encode("PNG", image.convert("P")),
        "png black and white": encode("PNG", image.convert("1")),
        "png with alpha": encode("PNG", image.convert("RGBA")),
        "png 16 bit": encode_16_bit(".png"),
        "png animated": encode("PNG", image, save_all=True, append_images=turned),
        "bmp": encode("BMP"),
        "bmp palette": encode("BMP", image.convert("P")),
        "webp": encode("WEBP"),
        "webp lossless": encode("WEBP", lossless=True),
        "webp with alpha": encode("WEBP", image.convert("RGBA")),
        "webp animated": encode("WEBP", image, lossless=True, save_all=True, append_images=turned),
        "tiff": encode("TIFF"),
        "tiff lzw": encode("TIFF", compression="tiff_lzw"),
        "tiff jpeg": encode("TIFF", compression="jpeg"),
        "tiff 16 bit": encode_16_bit(".tiff"),
        "tiff of two pages": encode("TIFF", image, save_all=True, append_images=turned[1:]),
        "ppm": encode("PPM"),
        "pgm": encode("PPM", image.convert("L")),
        "pbm": encode("PPM", image.convert("1")),
    }


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small networks with random weights."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("squeezenet1_1", "shufflenet_v2_x0_5"):
        build(name, folder)
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Write a file below the test's folder."""

    def _write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return _write


@pytest.fixture(scope="session")
def engine() -> Engine:
    started = TorchEngine(Place("cpu", 1))
    started.start()
    return started


@pytest.fixture
def computes_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this CPU pass for one with instructions for bfloat16: torch computes in it on every CPU, only slowly without."""
    monkeypatch.setattr("dlmodels.engines.torch_precision._cpu_has_bf16", lambda: True)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., ModelSpec]:
    """Save a network as TorchScript in a folder of its own, as a person would drop it in."""

    def _script(module: torch.nn.Module, classes: int = 5, image_input: InputSpec = SMALL) -> ModelSpec:
        torch.manual_seed(0)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        folder = tmp_path / "scripted"
        folder.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            torch.jit.save(torch.jit.script(module.eval()), folder / "net.pt")
        return read_model(folder, classes=classes, image_input=image_input)

    return _script


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., ModelSpec]:
    """Save a network as torch.export does in a folder of its own; `images` None: any batch size."""

    def _export(module: torch.nn.Module, images: int | None = None, classes: int = 5) -> ModelSpec:
        torch.manual_seed(0)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        folder = tmp_path / "exported"
        folder.mkdir(exist_ok=True)
        example = torch.zeros(images or 2, *SMALL.shape)
        sizes = ({0: torch.export.Dim("n")},) if images is None else None
        torch.export.save(torch.export.export(module.eval(), (example,), dynamic_shapes=sizes), folder / "net.pt2")
        return read_model(folder, classes=classes, image_input=SMALL)

    return _export
