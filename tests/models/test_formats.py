"""Which files in a folder make a model."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from dlmodels.engines import engine_type, known_engines
from dlmodels.errors import RepositoryError
from dlmodels.formats import FORMATS, expected, find_files, readers_of

Write = Callable[[str, bytes | str], Path]


def found(folder: Path, engine: str = "") -> tuple[str, str]:
    """Names of the graph's and the weights' files."""
    files = find_files(folder, engine)
    assert files is not None
    return (files.graph.name if files.graph else "", files.weights.name)


def test_every_format_is_read_by_engines_that_there_are() -> None:
    for kind in FORMATS:
        assert set(kind.engines) <= set(known_engines())
        suffix = kind.weights.removeprefix("*").removeprefix("-[0-9][0-9][0-9][0-9]")
        for engine in kind.engines:
            assert any(suffix in text for text in engine_type(engine).formats), f"{engine} does not speak of {suffix}"


def test_weights_belong_to_the_graph_of_their_own_name(write: Write, tmp_path: Path) -> None:
    for age, stem in enumerate(("new", "old")):
        for name in (f"{stem}-0003.params", f"{stem}.bin"):
            os.utime(write(name, "x"), (1000 - age, 1000 - age))
        for name in (f"{stem}-symbol.json", f"{stem}.xml"):
            os.utime(write(name, "x"), (1000 + age, 1000 + age))
    assert found(tmp_path, "mxnet") == ("new-symbol.json", "new-0003.params")
    assert found(tmp_path, "openvino") == ("new.xml", "new.bin")


def test_the_newest_weights_are_taken_whatever_the_graph_is_called(write: Write, tmp_path: Path) -> None:
    os.utime(write("net-0001.params", "x"), (1, 1))
    os.utime(write("net-0002.params", "x"), (2, 2))
    write("other-symbol.json", "x")
    assert found(tmp_path) == ("other-symbol.json", "net-0002.params")


def test_of_several_prototxt_that_for_deployment_is_taken(write: Write, tmp_path: Path) -> None:
    for age, name in enumerate(("deploy.prototxt", "resnet_solver.prototxt", "train_val.prototxt")):
        os.utime(write(name, "x"), (1000 + age, 1000 + age))
    write("net.caffemodel", "x")
    assert found(tmp_path) == ("deploy.prototxt", "net.caffemodel")


@pytest.mark.parametrize(
    "names",
    [
        ("params.txt",),
        ("net.params",),
        ("net-1.params", "net-symbol.json"),
        ("net.json",),
        ("weights.safetensors",),
        (),
    ],
)
def test_other_files_are_no_model(write: Write, tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(name, "x")
    assert find_files(tmp_path) is None


def test_a_folder_is_no_model_file(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").mkdir()
    assert find_files(tmp_path) is None


def test_half_a_model_is_told_unless_there_is_a_whole_one(write: Write, tmp_path: Path) -> None:
    write("pytorch_model.bin", "x")
    with pytest.raises(RepositoryError, match=r"has pytorch_model.bin but no \*.xml beside it"):
        find_files(tmp_path)
    write("net.onnx", "x")
    assert found(tmp_path) == ("", "net.onnx")


def test_a_graph_alone_is_told_to_the_engine_that_would_read_it(write: Write, tmp_path: Path) -> None:
    write("deploy.prototxt", "x")
    assert find_files(tmp_path) is None
    with pytest.raises(RepositoryError, match=r"has deploy.prototxt but no \*.caffemodel beside it"):
        find_files(tmp_path, "opencv")


def test_readers_are_known_by_the_name_of_the_weights() -> None:
    assert readers_of("net.onnx") == ("onnxruntime", "openvino", "opencv", "tensorrt")
    assert readers_of("net-0000.params") == ("mxnet",)
    assert readers_of("weights.safetensors") == ()


def test_what_is_expected_names_both_halves() -> None:
    assert expected("openvino") == "OpenVINO IR (*.xml + *.bin) or ONNX (*.onnx)"
