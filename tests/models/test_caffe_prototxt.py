"""What is read of Caffe's deploy.prototxt."""

from pathlib import Path

import pytest
from dlmodels.engines.caffe_prototxt import read_prototxt
from dlmodels.engines.graph_input import TensorInfo
from dlmodels.errors import LoadError

FREE = TensorInfo("data", "float32", (None, 3, 227, 227))


@pytest.mark.parametrize(
    "head",
    [
        'input: "data"\ninput_dim: 10\ninput_dim: 3\ninput_dim: 227\ninput_dim: 227\n',
        'input: "data" input_shape { dim: 10 dim: 3 dim: 227 dim: 227 }',
        "input: 'data'; input_shape: { dim: [10, 3, 227, 227] };",
        'layer { name: "data" type: "Input" top: "data" input_param { shape: { dim: 1 dim: 3 dim: 227 dim: 227 } } }',
        'name: "da" "ta" # a comment with { and "\ninput: "data"\ninput_shape < dim: 1, dim: 3, dim: 227, dim: 227 >',
    ],
    ids=["input_dim", "input_shape", "lists", "Input layer", "odd but valid"],
)
def test_the_input_is_found_in_each_of_caffes_forms_with_a_free_batch(tmp_path: Path, head: str) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_text(f'{head}\nlayer {{ name: "r" type: "ReLU" bottom: "data" top: "r" }}\n')
    found = read_prototxt(path)
    assert found.inputs == (FREE,)
    assert found.layers[-1] == "ReLU"


def test_layers_of_caffes_first_form_are_read(tmp_path: Path) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_text(
        'input: "data" layers { name: "c" type: CONVOLUTION blobs_lr: 1 convolution_param { kernel_size: 3 } }'
    )
    found = read_prototxt(path)
    assert found.layers == ("CONVOLUTION",)
    assert found.inputs == (TensorInfo("data", "float32", None),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no layers"),
        ('layer { type: "ReLU" }', "without an input"),
        ('input: "data" layer { type: "Data" }', "with a Data layer"),
        ('layers { type: IMAGE_DATA top: "data" }', "with a IMAGE_DATA layer"),
        ('layer { type: "ReLU"', "it ends too early"),
        ("layer { type: }", "line 1 has '}'"),
        ('input: "data"\nlayer } {', "line 2 has '}'"),
        ("\x80\x02}q\x00.", "line 1 has"),
        ("{" * 5000, "line 1 has '{'"),
        ("a {" * 5000, "line 1 has 'a'"),
    ],
    ids=["empty", "no input", "training", "old training", "cut off", "no value", "braces", "pickle", "deep", "deeper"],
)
def test_what_is_no_network_for_deployment_is_refused_with_a_cure(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_text(text)
    with pytest.raises(LoadError, match=expected):
        read_prototxt(path)


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deploy.prototxt"
    with pytest.raises(LoadError, match="put the file back"):
        read_prototxt(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LoadError, match=r"is no prototxt of Caffe"):
        read_prototxt(path)
