"""dlclient.samples: real photographs, always the same."""

import io
from pathlib import Path

import numpy as np
from dlclient.samples import PHOTOGRAPHS, sample_images, sample_names, write_samples
from PIL import Image


def test_each_photograph_comes_in_each_size_as_a_jpeg_in_colour() -> None:
    images = sample_images()
    assert tuple(images) == sample_names()
    assert len(images) == 3 * len(PHOTOGRAPHS) == 48
    for name, content in images.items():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            assert max(image.size) == int(name.removesuffix(".jpg").rpartition("-")[2])


def test_every_photograph_is_another_picture_with_something_on_it() -> None:
    small = sample_images(sizes=(64,))
    assert len(set(small.values())) == len(PHOTOGRAPHS)
    for content in small.values():
        with Image.open(io.BytesIO(content)) as image:
            assert np.asarray(image).std() > 5


def test_the_same_bytes_come_every_time_and_into_a_folder(tmp_path: Path) -> None:
    images = sample_images(sizes=(64, 100))
    paths = write_samples(tmp_path / "new" / "folder", sizes=(64, 100))
    assert {path.name: path.read_bytes() for path in paths} == images
