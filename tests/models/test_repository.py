"""Model folders."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from dlmodels.errors import LoadError, RepositoryError
from dlmodels.images import InputSpec
from dlmodels.repository import (
    FileFacts,
    ModelSpec,
    clear,
    is_name,
    read_model,
    scan,
    survey,
    verify_files,
    write_model,
)

Write = Callable[[str, bytes | str], Path]
SIMULATED = 'engine = "simulated"\n'
OWN_FILES = (
    *("model.toml", "corresp.txt", "weights.safetensors", "net.pt", "net.pt2", "net-symbol.json", "net-0000.params"),
    *("deploy.prototxt", "net.caffemodel", "net.xml", "net.bin", "net.onnx", "net.onnx.data", "net.engine"),
    ".cache/net.blob",
)


def test_written_model_is_read_back_with_sizes_and_hashes(write: Write, tmp_path: Path) -> None:
    write("m/weights.safetensors", b"12345")
    write("m/corresp.txt", "0 cat\n")
    spec = ModelSpec(
        name="m",
        engine="torch",
        architecture="resnet18",
        weights="weights.safetensors",
        labels="corresp.txt",
        classes=7,
        multi_label=True,
        input=InputSpec(width=30, rgb=True, scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), interp="area"),
        parameters={"threads": 2},
    )
    written = write_model(tmp_path / "m", spec)
    assert read_model(tmp_path / "m") == written
    assert written.folder == str(tmp_path / "m")
    assert written.weights_bytes == 5
    assert written.files["weights.safetensors"] == FileFacts(
        "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5", 5
    )
    assert msgspec.structs.replace(written, folder="", files={}) == spec
    verify_files(written)


def test_a_simulated_model_needs_no_file_but_model_toml(write: Write, tmp_path: Path) -> None:
    write("fake/model.toml", SIMULATED + "classes = 5\n[parameters]\nforward_s = [0.01, 0.02]\n")
    spec = read_model(tmp_path / "fake")
    assert (spec.name, spec.engine, spec.classes) == ("fake", "simulated", 5)
    assert spec.parameters == {"forward_s": [0.01, 0.02]}
    assert spec.weights_bytes == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("engine = ", "cannot be read"),
        ("", "missing required field `engine`"),
        (SIMULATED + "wights = 'x'", "a setting 'wights', which does not exist. Did you mean 'weights'?"),
        (SIMULATED + "folder = '/'", "a setting 'folder', which does not exist. Valid are: engine, name, architecture"),
        (SIMULATED + "[input]\nwith = 3", "[input] has a setting 'with', which does not exist. Did you mean 'width'?"),
        (SIMULATED + "[input]\ninterp = 'bicubic'", "[input] has an interp 'bicubic', which does not exist."),
        (SIMULATED + "[files.x]\nsize = 3", "has a setting 'size', which does not exist. Valid are: sha256, bytes"),
        (SIMULATED + "classes = 'many'", "classes: Expected `int`, got `str`"),
        (SIMULATED + "classes = 0", "has 0 classes: it needs at least 1"),
        (SIMULATED + "[input]\nwidth = '3'", "input.width: Expected `int`, got `str`"),
        (SIMULATED + "[input]\nwidth = -1", "width -1 (keep the image's own) is not supported"),
        (SIMULATED + "[input]\nmean = [1.0, 2.0]", "mean has 2 numbers"),
        ("engine = 'caffe'", "is for the engine 'caffe': there are torch, mxnet, onnxruntime"),
        ("engine = 'openvino'\ngraph = 'net.xml'", "is named in model.toml and cannot be read (No such file"),
        ("engine = 'openvino'\ngraph = '../net.xml'", "give a path inside the folder"),
        (SIMULATED + "[files.'model.onnx.data']\nbytes = 1\nsha256 = ''", "is named in model.toml and cannot be read"),
        (SIMULATED + "name = 'a b'", "is named 'a b': rename the folder"),
        (SIMULATED + "weights = '/etc/passwd'", "give a path inside the folder"),
        (SIMULATED + "weights = '../other/x'", "give a path inside the folder"),
        (SIMULATED + "labels = 'none.txt'", "is named in model.toml and cannot be read (No such file"),
        (SIMULATED + "labels = 'sub'", "is named in model.toml and is no file"),
        (SIMULATED + "weights = 'w'\n[files.w]\nsha256 = ''\nbytes = 4", "has 3 bytes, not 4 as model.toml says"),
        (SIMULATED + "labels = 'link'", "symbolic link that leads out of the model's folder"),
    ],
)
def test_bad_model_toml_is_refused_with_its_key_and_a_cure(
    write: Write, tmp_path: Path, text: str, expected: str
) -> None:
    write("m/model.toml", text)
    write("m/w", "abc")
    write("m/sub/x", "")
    (tmp_path / "m/link").symlink_to(write("outside.txt", "0 secret"))
    with pytest.raises(RepositoryError, match=re.escape(expected)):
        read_model(tmp_path / "m")


def test_a_link_within_the_folder_is_fine(write: Write, tmp_path: Path) -> None:
    write("m/v2.bin", "abc")
    (tmp_path / "m/w").symlink_to("v2.bin")
    write("m/model.toml", SIMULATED + "weights = 'w'")
    assert read_model(tmp_path / "m").weights_bytes == 3


def test_what_the_caller_says_must_agree_with_model_toml(write: Write, tmp_path: Path) -> None:
    write("m/model.toml", "engine = 'simulated'\nclasses = 5\narchitecture = 'resnet18'")
    assert read_model(tmp_path / "m", classes=5, architecture="resnet18").classes == 5
    with pytest.raises(RepositoryError, match="says classes = 5, not 6 as asked"):
        read_model(tmp_path / "m", classes=6)
    with pytest.raises(RepositoryError, match="says architecture = 'resnet18', not 'vgg16' as asked"):
        read_model(tmp_path / "m", architecture="vgg16")


def test_input_of_the_caller_replaces_that_of_model_toml(write: Write, tmp_path: Path) -> None:
    write("m/model.toml", SIMULATED)
    assert read_model(tmp_path / "m", image_input=InputSpec(width=5)).input.width == 5


class TestWithoutModelToml:
    """A folder that a person dropped in."""

    def test_newest_torchscript_is_the_model_and_labels_count_the_classes(self, write: Write, tmp_path: Path) -> None:
        for age, name in enumerate(("b.pt", "a.pt")):
            os.utime(write(f"Net/{name}", "x" * (age + 1)), (1000 - age, 1000 - age))
        write("Net/corresp.txt", "0 a\n1 b\n2 c\n")
        spec = read_model(tmp_path / "Net")
        assert (spec.name, spec.engine, spec.architecture) == ("net", "torch", "")
        assert (spec.weights, spec.labels, spec.classes) == ("b.pt", "corresp.txt", 3)
        assert spec.input == InputSpec()
        assert spec.files == {"b.pt": FileFacts("", 1)}

    def test_the_caller_says_classes_and_input(self, write: Write, tmp_path: Path) -> None:
        write("net/a.pt", "x")
        spec = read_model(tmp_path / "net", classes=12, image_input=InputSpec(width=32, height=32))
        assert (spec.classes, spec.labels, spec.input.width) == (12, "", 32)

    def test_weights_of_a_named_architecture_are_taken(self, write: Write, tmp_path: Path) -> None:
        write("net/a.pt", "x")
        write("net/a.safetensors", "xy")
        spec = read_model(tmp_path / "net", classes=12, architecture="resnet18")
        assert (spec.weights, spec.architecture) == ("a.safetensors", "resnet18")

    @pytest.mark.parametrize(
        ("files", "engine", "graph", "weights"),
        [
            (("net.pt2",), "torch", "", "net.pt2"),
            (("net-symbol.json", "net-0010.params"), "mxnet", "net-symbol.json", "net-0010.params"),
            (("deploy.prototxt", "net.caffemodel"), "opencv", "deploy.prototxt", "net.caffemodel"),
            (("net.xml", "net.bin"), "openvino", "net.xml", "net.bin"),
            (("net.onnx", "net.onnx.data"), "onnxruntime", "", "net.onnx"),
            (("net.engine",), "tensorrt", "", "net.engine"),
        ],
    )
    def test_every_format_is_found_with_all_its_files(
        self, write: Write, tmp_path: Path, files: tuple[str, ...], engine: str, graph: str, weights: str
    ) -> None:
        for name in files:
            write(f"net/{name}", "abc")
        spec = read_model(tmp_path / "net", classes=3)
        assert (spec.engine, spec.graph, spec.weights, spec.architecture) == (engine, graph, weights, "")
        assert spec.files == {name: FileFacts("", 3) for name in files}

    def test_the_caller_chooses_among_the_engines_that_read_a_format(self, write: Write, tmp_path: Path) -> None:
        write("net/net.onnx", "abc")
        for engine in ("onnxruntime", "openvino", "opencv", "tensorrt"):
            assert read_model(tmp_path / "net", engine=engine, classes=3).engine == engine
        with pytest.raises(
            RepositoryError, match=re.escape("no model folder for mxnet: it has neither model.toml nor")
        ):
            read_model(tmp_path / "net", engine="mxnet", classes=3)

    def test_the_callers_engine_decides_which_of_several_formats_is_taken(self, write: Write, tmp_path: Path) -> None:
        for name in ("net.pt", "net.onnx", "net.xml", "net.bin"):
            write(f"net/{name}", "abc")
        taken = {engine: read_model(tmp_path / "net", engine=engine, classes=3).weights for engine in ("", "torch")}
        assert taken == {"": "net.pt", "torch": "net.pt"}
        assert read_model(tmp_path / "net", engine="onnxruntime", classes=3).weights == "net.onnx"
        assert read_model(tmp_path / "net", engine="openvino", classes=3).weights == "net.bin"

    @pytest.mark.parametrize(
        ("files", "architecture", "expected"),
        [
            ((), "", "neither model.toml nor TorchScript (*.pt) or torch.export (*.pt2) or MXNet (*-symbol.json + "),
            (("notes.txt",), "", "or TensorRT engine (*.engine). Put a model there (`dlmodels build` makes one)"),
            (("net.caffemodel",), "", "has net.caffemodel but no *.prototxt beside it: a Caffe model is both"),
            (("net-0000.params",), "", "has net-0000.params but no *-symbol.json beside it: a MXNet model is both"),
            (("net.bin",), "", "has net.bin but no *.xml beside it: a OpenVINO IR model is both"),
            (("a.pt",), "", "say how many classes it has (nclasses)"),
            (("a.pt",), "resnet18", "run `dlmodels build resnet18`"),
        ],
    )
    def test_what_is_missing_is_said(
        self, write: Write, tmp_path: Path, files: tuple[str, ...], architecture: str, expected: str
    ) -> None:
        (tmp_path / "net").mkdir()
        for name in files:
            write(f"net/{name}", "")
        with pytest.raises(RepositoryError, match=re.escape(expected)):
            read_model(tmp_path / "net", architecture=architecture)

    def test_weights_linked_from_outside_are_refused(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "net").mkdir()
        (tmp_path / "net/a.pt").symlink_to(write("secret.pt", "x"))
        with pytest.raises(RepositoryError, match="leads out of the model's folder"):
            read_model(tmp_path / "net", classes=3)

    def test_no_folder_at_all_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match="there is no model folder"):
            read_model(tmp_path / "none")


class TestAnotherEngine:
    """A model.toml for one engine, asked for with another that reads the same file."""

    def test_the_other_engine_gets_the_model(self, write: Write, tmp_path: Path) -> None:
        write("m/net.onnx", "abc")
        write("m/model.toml", "engine = 'onnxruntime'\nweights = 'net.onnx'\nclasses = 7")
        spec = read_model(tmp_path / "m", engine="openvino")
        assert (spec.engine, spec.classes, spec.weights) == ("openvino", 7, "net.onnx")

    @pytest.mark.parametrize(
        ("text", "engine", "expected"),
        [
            (
                "engine = 'torch'\nweights = 'net.pt'",
                "openvino",
                "is for mllib torch, not openvino: change mllib, or convert",
            ),
            ("engine = 'onnxruntime'\nweights = 'net.onnx'", "mxnet", "is for mllib onnxruntime, not mxnet"),
            (
                "engine = 'onnxruntime'\nweights = 'net.onnx'\n[parameters]\noptimization = 'basic'",
                "openvino",
                "has parameters for onnxruntime, which openvino would not honour: remove [parameters]",
            ),
        ],
    )
    def test_what_it_cannot_read_or_would_ignore_is_refused(
        self, write: Write, tmp_path: Path, text: str, engine: str, expected: str
    ) -> None:
        write("m/net.onnx", "abc")
        write("m/net.pt", "abc")
        write("m/model.toml", text)
        with pytest.raises(RepositoryError, match=re.escape(expected)):
            read_model(tmp_path / "m", engine=engine)

    def test_graph_and_weights_that_model_toml_gives_no_facts_of_are_known_by_their_sizes(
        self, write: Write, tmp_path: Path
    ) -> None:
        write("m/net.xml", "abcd")
        write("m/net.bin", "abc")
        write("m/model.toml", "engine = 'openvino'\ngraph = 'net.xml'\nweights = 'net.bin'")
        assert read_model(tmp_path / "m").files == {"net.xml": FileFacts("", 4), "net.bin": FileFacts("", 3)}


class TestSurvey:
    """A folder of model folders."""

    def test_models_come_sorted_by_lower_case_name_and_the_rest_is_passed_over(
        self, write: Write, tmp_path: Path
    ) -> None:
        for name in ("Zebra", "apple", ".hidden", "m10"):
            write(f"{name}/model.toml", SIMULATED)
        write("README.md", "not a folder")
        assert [spec.name for spec in scan(tmp_path)] == ["apple", "m10", "zebra"]

    def test_torchscript_without_labels_is_skipped_with_the_reason(self, write: Write, tmp_path: Path) -> None:
        write("net/a.pt", "x")
        write("other/model.toml", SIMULATED)
        found = survey(tmp_path)
        assert [spec.name for spec in found.models] == ["other"]
        assert [skipped.folder for skipped in found.skipped] == ["net"]
        assert "no corresp*.txt" in found.skipped[0].reason

    def test_torchscript_with_labels_is_a_model_with_deepdetects_input(self, write: Write, tmp_path: Path) -> None:
        write("net/a.pt", "x")
        write("net/corresp.txt", "0 a\n1 b")
        assert [(spec.name, spec.classes, spec.input) for spec in scan(tmp_path)] == [("net", 2, InputSpec())]

    def test_two_models_of_one_name_are_refused(self, write: Write, tmp_path: Path) -> None:
        write("a/model.toml", SIMULATED + "name = 'same'")
        write("b/model.toml", SIMULATED + "name = 'Same'")
        with pytest.raises(RepositoryError, match=r"/a and .*/b both hold a model named 'same'"):
            scan(tmp_path)

    def test_a_folder_that_holds_no_model_is_refused(self, write: Write, tmp_path: Path) -> None:
        write("good/model.toml", SIMULATED)
        (tmp_path / "empty").mkdir()
        with pytest.raises(RepositoryError, match=r"/empty is no model folder"):
            scan(tmp_path)

    def test_a_folder_that_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match="check --models-dir"):
            scan(tmp_path / "none")

    def test_no_model_at_all_is_no_error(self, tmp_path: Path) -> None:
        assert scan(tmp_path) == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", True),
        ("a", True),
        ("9.model_v1-b", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("ResNet", False),
        (".hidden", False),
        ("-a", False),
        ("a/b", False),
        ("a b", False),
        ("a\n", False),
        ("é", False),
    ],
)
def test_names(name: str, expected: bool) -> None:
    assert is_name(name) is expected


class TestVerify:
    """The content of files."""

    @staticmethod
    def model(write: Write, tmp_path: Path) -> ModelSpec:
        write("m/w", "abc")
        return write_model(tmp_path / "m", ModelSpec("m", "torch", weights="w"))

    def test_a_changed_byte_is_noticed(self, write: Write, tmp_path: Path) -> None:
        spec = self.model(write, tmp_path)
        write("m/w", "abd")
        with pytest.raises(LoadError, match="another content than its sha256"):
            verify_files(spec)

    def test_a_changed_size_is_noticed(self, write: Write, tmp_path: Path) -> None:
        spec = self.model(write, tmp_path)
        write("m/w", "ab")
        with pytest.raises(LoadError, match="has 2 bytes in place of 3"):
            verify_files(spec)

    def test_a_missing_file_is_noticed(self, write: Write, tmp_path: Path) -> None:
        spec = self.model(write, tmp_path)
        (tmp_path / "m/w").unlink()
        with pytest.raises(LoadError, match="put it back, or build 'm' again"):
            verify_files(spec)

    def test_where_no_hash_is_known_the_size_counts(self, write: Write, tmp_path: Path) -> None:
        spec = msgspec.structs.replace(self.model(write, tmp_path), files={"w": FileFacts("", 3)})
        verify_files(spec)
        write("m/w", "abcd")
        with pytest.raises(LoadError, match="4 bytes in place of 3"):
            verify_files(spec)


class TestClear:
    """Deleting a model's files."""

    @staticmethod
    def folder(write: Write, tmp_path: Path) -> Path:
        for name in (*OWN_FILES, "notes.txt", "sub/keep.txt"):
            write(f"m/{name}", "x")
        (tmp_path / "m/linked").symlink_to(write("outside/file.txt", "x").parent)
        (tmp_path / "m/linked.pt").symlink_to(tmp_path / "outside/file.txt")
        return tmp_path / "m"

    def test_lib_deletes_the_models_own_files(self, write: Write, tmp_path: Path) -> None:
        folder = self.folder(write, tmp_path)
        clear(folder, "lib")
        assert sorted(path.name for path in folder.iterdir()) == ["linked", "notes.txt", "sub"]
        assert (tmp_path / "outside/file.txt").exists()

    def test_full_empties_the_folder(self, write: Write, tmp_path: Path) -> None:
        folder = self.folder(write, tmp_path)
        clear(folder, "full")
        assert list(folder.iterdir()) == []
        assert (tmp_path / "outside/file.txt").exists()

    def test_dir_deletes_the_folder_too(self, write: Write, tmp_path: Path) -> None:
        folder = self.folder(write, tmp_path)
        clear(folder, "dir")
        assert not folder.exists()
        assert (tmp_path / "outside/file.txt").exists()

    @pytest.mark.parametrize("how", ["lib", "full", "dir"])
    def test_a_linked_folder_is_left_alone(self, write: Write, tmp_path: Path, how: str) -> None:
        folder = self.folder(write, tmp_path)
        (tmp_path / "link").symlink_to(folder)
        with pytest.raises(RepositoryError, match="symbolic link"):
            clear(tmp_path / "link", how)  # type: ignore[arg-type]
        assert (folder / "model.toml").exists()

    @pytest.mark.parametrize("how", ["full", "dir"])
    def test_a_folder_of_models_is_left_alone(self, write: Write, tmp_path: Path, how: str) -> None:
        folder = self.folder(write, tmp_path)
        with pytest.raises(RepositoryError, match="holds other models"):
            clear(tmp_path, how)  # type: ignore[arg-type]
        assert (folder / "model.toml").exists()
