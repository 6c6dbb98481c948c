"""Decoding and preprocessing."""

import io
import re

import cv2
import numpy as np
import pytest
from dlmodels.errors import SettingError
from dlmodels.images import InputSpec, Pixels, decode, fit, normalize, normalize_into, stack, validate
from PIL import Image, ImageOps

from .conftest import HEIGHT, WIDTH, encode, every_kind, picture

KINDS = every_kind()
SAME_SIZE = InputSpec(width=WIDTH, height=HEIGHT, rgb=True)
IMAGENET = InputSpec(rgb=True, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def by_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)


def difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"tiff 16 bit", "png 16 bit"}))
def test_pixels_are_those_that_pillow_sees(kind: str) -> None:
    assert difference(decode(KINDS[kind], SAME_SIZE), by_pillow(KINDS[kind])) <= 2


@pytest.mark.parametrize("kind", ["png", "png with alpha", "bmp", "webp lossless", "tiff", "tiff lzw", "ppm"])
def test_lossless_files_come_out_as_they_went_in(kind: str) -> None:
    assert np.array_equal(decode(KINDS[kind], SAME_SIZE), picture())


@pytest.mark.parametrize("kind", ["png 16 bit", "tiff 16 bit"])
def test_16_bits_become_8(kind: str) -> None:
    assert difference(decode(KINDS[kind], SAME_SIZE), picture()) <= 1


@pytest.mark.parametrize("kind", ["png animated", "webp animated", "tiff of two pages"])
def test_first_picture_of_many_counts(kind: str) -> None:
    assert difference(decode(KINDS[kind], SAME_SIZE), picture()) == 0
    assert difference(decode(KINDS[kind], SAME_SIZE), picture()[::-1, ::-1]) > 100


@pytest.mark.parametrize("kind", ["jpeg grey", "pgm", "png black and white", "pbm"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    image = decode(KINDS[kind], SAME_SIZE)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(image[:, :, 0], image[:, :, 1])
    assert np.array_equal(image[:, :, 0], image[:, :, 2])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied(file_format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(file_format, exif=exif)
    expected = by_pillow(data)
    spec = InputSpec(width=expected.shape[1], height=expected.shape[0], rgb=True)
    assert difference(decode(data, spec), expected) <= 2


def test_channel_order_is_bgr_unless_rgb_is_asked_for() -> None:
    rgb = decode(KINDS["png"], SAME_SIZE)
    bgr = decode(KINDS["png"], InputSpec(width=WIDTH, height=HEIGHT))
    assert np.array_equal(bgr, rgb[:, :, ::-1])
    assert not np.array_equal(bgr, rgb)


def test_bw_gives_one_grey_channel() -> None:
    image = decode(KINDS["png"], InputSpec(width=WIDTH, height=HEIGHT, bw=True))
    assert image.shape == (HEIGHT, WIDTH, 1)
    luma = picture().astype(float) @ (0.299, 0.587, 0.114)
    assert np.abs(image[:, :, 0] - luma).max() < 1.5


@pytest.mark.parametrize("interp", ["nearest", "linear", "cubic", "area", "lanczos4"])
@pytest.mark.parametrize("size", [(7, 5), (64, 40)])
def test_resize_is_plain_and_keeps_no_aspect(interp: str, size: tuple[int, int]) -> None:
    spec = InputSpec(width=size[0], height=size[1], rgb=True, interp=interp)  # type: ignore[arg-type]
    expected = cv2.resize(picture(), size, interpolation=getattr(cv2, f"INTER_{interp.upper()}"))
    assert np.array_equal(decode(KINDS["png"], spec), expected)


def test_fitting_pixels_is_what_follows_decoding() -> None:
    spec = InputSpec(width=20, height=10, rgb=True, histogram_equalization=True)
    file = bytes(cv2.imencode(".png", np.random.default_rng(3).integers(0, 256, (33, 44, 3), dtype=np.uint8))[1])
    pixels = decode(file, InputSpec(width=44, height=33, rgb=True))
    assert np.array_equal(fit(pixels, spec), decode(file, spec))


def test_histogram_equalization_of_grey_spreads_the_grey_values() -> None:
    plain = InputSpec(width=WIDTH, height=HEIGHT, bw=True)
    equalized = InputSpec(width=WIDTH, height=HEIGHT, bw=True, histogram_equalization=True)
    expected = cv2.equalizeHist(decode(KINDS["png"], plain))
    assert np.array_equal(decode(KINDS["png"], equalized)[:, :, 0], expected)


def test_histogram_equalization_of_colours_spreads_the_luma_in_either_channel_order() -> None:
    rgb = decode(KINDS["png"], InputSpec(width=WIDTH, height=HEIGHT, rgb=True, histogram_equalization=True))
    bgr = decode(KINDS["png"], InputSpec(width=WIDTH, height=HEIGHT, histogram_equalization=True))
    assert difference(rgb, bgr[:, :, ::-1].copy()) <= 1
    assert difference(rgb, picture()) > 20


@pytest.mark.parametrize(
    "spec",
    [
        InputSpec(width=WIDTH, height=HEIGHT),
        InputSpec(width=WIDTH, height=HEIGHT, rgb=True, scale=1 / 255),
        InputSpec(width=WIDTH, height=HEIGHT, mean=(104.0, 117.0, 123.0)),
        InputSpec(width=WIDTH, height=HEIGHT, scale=1 / 255, mean=(0.5,), std=(0.25,)),
        InputSpec(width=WIDTH, height=HEIGHT, rgb=True, scale=1 / 255, mean=IMAGENET.mean, std=IMAGENET.std),
        InputSpec(width=WIDTH, height=HEIGHT, bw=True, scale=0.0039, mean=(0.4,), std=(0.2,)),
    ],
)
def test_normalization_is_scale_then_mean_then_std_in_planes(spec: InputSpec) -> None:
    image = decode(KINDS["png"], spec)
    mean, std = np.array(spec.mean or (0.0,)), np.array(spec.std or (1.0,))
    expected = ((image.astype(np.float64) * spec.scale - mean) / std).transpose(2, 0, 1)
    planes = normalize(image, spec)
    assert planes.dtype == np.float32
    assert planes.shape == spec.shape
    assert np.allclose(planes, expected, rtol=1e-6, atol=1e-6)


def test_stack_is_one_normalization_per_slot() -> None:
    images = [decode(KINDS[kind], IMAGENET) for kind in ("png", "jpeg grey", "bmp")]
    batch = stack(images, IMAGENET)
    assert batch.shape == (3, 3, 224, 224)
    for image, planes in zip(images, batch, strict=True):
        assert np.array_equal(planes, normalize(image, IMAGENET))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((3, 224, 224), np.float64),
        np.empty((3, 224, 223), np.float32),
        np.empty((224, 224, 3), np.float32).transpose(2, 0, 1),
    ],
)
def test_normalize_into_refuses_what_it_could_not_fill(out: object) -> None:
    with pytest.raises(ValueError, match="C-contiguous float32"):
        normalize_into(decode(KINDS["png"], IMAGENET), IMAGENET, out)  # type: ignore[arg-type]


def test_normalize_refuses_a_picture_of_another_size() -> None:
    with pytest.raises(ValueError, match=re.escape("(224, 224, 3)")):
        normalize(picture(), IMAGENET)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (InputSpec(width=-1), "width -1 (keep the image's own) is not supported"),
        (InputSpec(height=0), "height is 0; it must be 1 to 8192"),
        (InputSpec(width=8193), "width is 8193"),
        (InputSpec(mean=(1.0, 2.0)), "mean has 2 numbers; give one for all channels or 3"),
        (InputSpec(bw=True, mean=(1.0, 2.0, 3.0)), "mean has 3 numbers; give one for all channels or 1"),
        (InputSpec(std=(1.0, 0.0, 1.0)), "std holds a 0"),
        (InputSpec(std=(1.0, float("nan"), 1.0)), "std is [1.0, nan, 1.0]; its numbers must be finite"),
        (InputSpec(scale=0.0), "scale is 0.0"),
        (InputSpec(scale=float("inf")), "scale is inf"),
        (InputSpec(interp="bicubic"), "interp is 'bicubic'; it must be one of nearest"),  # type: ignore[arg-type]
    ],
)
def test_impossible_input_is_refused_by_the_name_of_its_parameter(spec: InputSpec, expected: str) -> None:
    with pytest.raises(SettingError, match=re.escape(expected)):
        validate(spec)


@pytest.mark.parametrize("spec", [InputSpec(), IMAGENET, InputSpec(width=1, height=8192, bw=True, mean=(0.5,))])
def test_possible_input_is_accepted(spec: InputSpec) -> None:
    validate(spec)
