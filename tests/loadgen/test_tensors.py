"""dlload.protocols.tensors: which inputs an image can be made into, and how."""

import io

import numpy as np
import pytest
from dlload.errors import ImagesError, OptionError, TargetError
from dlload.protocols.tensors import InputForm, Normalization, input_form, read_input, tensor
from PIL import Image


@pytest.mark.parametrize(
    ("datatype", "shape", "size", "is_first", "of_four"),
    [
        ("FP32", [-1, 3, 224, 160], (224, 160, 3), True, (4, 3, 224, 160)),
        ("UINT8", [-1, 224, 160, 3], (224, 160, 3), False, (4, 224, 160, 3)),
        ("FP32", [4, 1, 28, 28], (28, 28, 1), True, (4, 1, 28, 28)),
    ],
)
def test_the_layout_is_told_by_where_the_channels_are(
    datatype: str,
    shape: list[int],
    size: tuple[int, ...],
    is_first: bool,
    of_four: tuple[int, ...],
) -> None:
    form = input_form("x", datatype, shape, "model m")
    assert (form.size, form.is_channels_first, form.shape_of(4)) == (size, is_first, of_four)
    form.check(4)


@pytest.mark.parametrize(("shape", "of_two"), [([-1], (2,)), ([-1, 1], (2, 1)), ([-1, -1], (2, 1))])
def test_files_have_one_element_an_image(shape: list[int], of_two: tuple[int, ...]) -> None:
    assert input_form("x", "BYTES", shape, "model m").shape_of(2) == of_two


@pytest.mark.parametrize(
    ("datatype", "shape", "says"),
    [
        ("INT64", [-1, 3, 8, 8], "images are sent as BYTES, UINT8, FP32"),
        ("FP32", [-1, -1, -1, 3], "which size images should have is open"),
        ("FP32", [-1, 3, 8, 9000], "which size"),
        ("FP32", [-1, 5, 8, 8], "neither NHWC nor NCHW"),
        ("FP32", [-1, 10], "neither NHWC nor NCHW"),
        ("BYTES", [-1, 8, 8], "not one file an image"),
        ("BYTES", [-1, 3], "not one file an image"),
    ],
)
def test_an_input_that_no_image_fits_says_what_to_do(datatype: str, shape: list[int], says: str) -> None:
    with pytest.raises(TargetError, match=f"model m has input x .*{says}.*--input-tensor"):
        input_form("x", datatype, shape, "model m")


@pytest.mark.parametrize(
    ("form", "images"),
    [
        (InputForm("x", "FP32", (2, 3, 8, 8)), 1),
        (InputForm("x", "UINT8", (8, 8, 3)), 2),
        (InputForm("x", "BYTES", (1,)), 3),
    ],
)
def test_a_batch_that_an_input_cannot_take_is_refused(form: InputForm, images: int) -> None:
    with pytest.raises(OptionError, match=f"--batch-size {images}: input x"):
        form.check(images)


def test_an_input_may_be_told_in_words() -> None:
    assert read_input("in:put:fp32:-1,3,8,8") == InputForm("in:put", "FP32", (-1, 3, 8, 8))


@pytest.mark.parametrize("text", ["image", "image:FP32", "image:FP32:a", ":FP32:1", "x:FP32:-1,3", "x:INT8:-1,3,8,8"])
def test_an_input_told_wrongly_says_how(text: str) -> None:
    with pytest.raises(OptionError, match="NAME:TYPE:SHAPE"):
        read_input(text)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scale": 0.0}, "no 0"),
        ({"std": (1.0, 0.0, 1.0)}, "no 0"),
        ({"mean": (float("nan"),)}, "finite"),
        ({"mean": (1.0, 2.0)}, "--mean: 2 numbers"),
    ],
)
def test_a_normalization_that_is_none_is_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        Normalization(**settings)  # type: ignore[arg-type]


def encoded(mode: str, colour: object, **how: object) -> bytes:
    content = io.BytesIO()
    Image.new(mode, (6, 4), colour).save(content, "PNG", **how)  # type: ignore[arg-type]
    return content.getvalue()


@pytest.mark.parametrize(
    ("mode", "colour", "pixel"),
    [("RGB", (10, 20, 30), [10, 20, 30]), ("L", 7, [7, 7, 7]), ("RGBA", (1, 2, 3, 4), [1, 2, 3]), ("P", 0, [0, 0, 0])],
)
def test_every_mode_becomes_three_channels_of_the_inputs_size(mode: str, colour: object, pixel: list[int]) -> None:
    made = tensor(encoded(mode, colour), InputForm("x", "UINT8", (-1, 2, 5, 3)), Normalization())
    assert made.shape == (2, 5, 3)
    assert (made == np.array(pixel)).all()


def test_one_channel_is_grey() -> None:
    made = tensor(encoded("RGB", (255, 255, 255)), InputForm("x", "FP32", (-1, 1, 2, 2)), Normalization(scale=1 / 255))
    assert made.shape == (1, 2, 2)
    assert made.dtype == np.float32
    assert made == pytest.approx(1.0)


def test_the_orientation_of_a_photograph_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: turn it clockwise
    picture = Image.new("RGB", (4, 2))
    picture.putpixel((0, 0), (255, 0, 0))
    content = io.BytesIO()
    picture.save(content, "PNG", exif=exif)
    made = tensor(content.getvalue(), InputForm("x", "UINT8", (4, 2, 3)), Normalization())
    assert made[0, 1, 0] == 255
    assert made.sum() == 255


@pytest.mark.parametrize("content", [b"", b"\xff\xd8 no jpeg", encoded("RGB", 0)[:44]])
def test_what_is_no_image_is_told(content: bytes) -> None:
    with pytest.raises(ImagesError, match="cannot be decoded"):
        tensor(content, InputForm("x", "UINT8", (2, 2, 3)), Normalization())
