"""How graphs want their pictures, and which output is the scores."""

import re

import numpy as np
import pytest
from dlmodels.engines.graph_input import GraphInput, TensorInfo, image_input, scores_output
from dlmodels.errors import ForwardError, LoadError, SettingError
from dlmodels.images import InputSpec
from dlmodels.spec import ModelSpec

SPEC = ModelSpec("m", "onnxruntime", classes=5, input=InputSpec(width=20, height=10))
Shape = tuple[int | None, ...] | None


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((None, 3, 10, 20), GraphInput("x", None, channels_last=False, dtype="float32")),
        ((1, 3, 10, 20), GraphInput("x", 1, channels_last=False, dtype="float32")),
        ((None, 3, None, None), GraphInput("x", None, channels_last=False, dtype="float32")),
        ((None, None, None, None), GraphInput("x", None, channels_last=False, dtype="float32")),
        ((8, 10, 20, 3), GraphInput("x", 8, channels_last=True, dtype="float32")),
        ((None, None, None, 3), GraphInput("x", None, channels_last=True, dtype="float32")),
        (None, GraphInput("x", None, channels_last=False, dtype="float32")),
    ],
)
def test_layout_and_batch_follow_from_the_shape(shape: Shape, expected: GraphInput) -> None:
    assert image_input([TensorInfo("x", "float32", shape)], SPEC, "f") == expected


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ([], "has 0 inputs (none)"),
        ([TensorInfo("a", "float32", None), TensorInfo("b", "float32", None)], "has 2 inputs ('a', 'b')"),
        ([TensorInfo("x", "uint8", (None, 3, 10, 20))], "takes uint8, and pictures come as float32 or float16"),
        (
            [TensorInfo("x", "float32", (None, 3, 20, 10))],
            "shape (?, 3, 20, 10), and 'm' is described with 3 channels of 10",
        ),
        ([TensorInfo("x", "float32", (None, 1, 10, 20))], "correct width, height or bw of its input"),
        ([TensorInfo("x", "float32", (None, 600))], "takes pictures of shape (?, 600)"),
        ([TensorInfo("x", "float32", (0, 3, 10, 20))], "takes pictures of shape (0, 3, 10, 20)"),
    ],
)
def test_what_takes_no_such_pictures_is_refused(tensors: list[TensorInfo], expected: str) -> None:
    with pytest.raises(LoadError, match=re.escape(expected)):
        image_input(tensors, SPEC, "f")


def test_small_batches_are_filled_up_and_large_ones_refused() -> None:
    images = np.ones((2, 3, 4, 5), np.float32)
    arranged = GraphInput("x", 3, channels_last=True, dtype="float16").arrange(images)
    assert arranged.shape == (3, 4, 5, 3)
    assert arranged.dtype == np.float16
    assert arranged[:2].min() == 1
    assert arranged[2].max() == 0
    with pytest.raises(ForwardError, match="takes batches of 1, not of 2: send fewer images"):
        GraphInput("x", 1, channels_last=False, dtype="float32").arrange(images)


def test_pictures_that_lie_right_already_are_not_copied() -> None:
    images = np.ones((2, 3, 4, 5), np.float32)
    assert GraphInput("x", None, channels_last=False, dtype="float32").arrange(images) is images


def outputs(*shapes: Shape) -> list[TensorInfo]:
    """Named a, b, ..."""
    return [TensorInfo(name, "float32", shape) for name, shape in zip("abcdef", shapes, strict=False)]


def test_the_only_output_is_the_scores_whatever_its_shape() -> None:
    assert scores_output(outputs((None, 7)), SPEC, "", "f") == "a"
    assert scores_output(outputs(None), SPEC, "", "f") == "a"


def test_of_several_outputs_the_one_with_a_number_for_each_class_is_taken() -> None:
    assert scores_output(outputs((None, 7), (None, 5, 1, 1), (None, None)), SPEC, "", "f") == "b"


def test_the_models_settings_choose_among_outputs() -> None:
    assert scores_output(outputs((None, 5), (None, 5)), SPEC, "b", "f") == "b"
    with pytest.raises(SettingError, match=re.escape("f has no output 'c': correct `output`; there are 'a' (?, 5)")):
        scores_output(outputs((None, 5)), SPEC, "c", "f")


@pytest.mark.parametrize("shapes", [((None, 5), (None, 5)), ((None, 7), (None, 9)), (None, (None, None))])
def test_outputs_that_leave_a_doubt_are_an_error(shapes: tuple[Shape, ...]) -> None:
    with pytest.raises(LoadError, match=r"outputs of 5 classes, where one is expected: name it as `output`"):
        scores_output(outputs(*shapes), SPEC, "", "f")
