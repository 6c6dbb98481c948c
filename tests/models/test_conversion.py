"""Models of one format made into another: ways, checks, and what is left behind where it fails."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from dlmodels.conversion.agreement import Agreement, answers, compare
from dlmodels.conversion.convert import Request, convert
from dlmodels.conversion.onnx_weights import gather, write_onnx
from dlmodels.conversion.photographs import PHOTOGRAPHS, photographs
from dlmodels.conversion.routes import TARGETS, Target, route, source_of, table
from dlmodels.conversion.torch_networks import write_pt2
from dlmodels.engines.onnx_file import read_onnx_file
from dlmodels.errors import BuildError, ConversionError, DisagreementError, LoadError, ModelError
from dlmodels.images import InputSpec
from dlmodels.new_folder import new_folder
from dlmodels.repository import ModelSpec, read_model, scan, verify_files, write_model
from dlmodels.zoo.build import build

from .networks import SMALL, Tiny
from .onnx_files import CLASSES, IMAGE, Net, noise

ZOO = ModelSpec("m", "torch", architecture="resnet18", weights="w.safetensors")
ONNX = ModelSpec("m", "onnxruntime", weights="m.onnx")
MXNET = ModelSpec("m", "mxnet", graph="m-symbol.json", weights="m-0000.params")
IR = ModelSpec("m", "openvino", graph="m.xml", weights="m.bin")
CAFFE = ModelSpec("m", "opencv", graph="deploy.prototxt", weights="m.caffemodel")


def onnx_model(folder: Path, net: Net | None = None) -> ModelSpec:
    """A model folder of a small ONNX network, with labels."""
    (net or Net()).write(folder)
    (folder / "corresp.txt").write_text("".join(f"{index} class {index}\n" for index in range(CLASSES)))
    spec = read_model(folder, engine="onnxruntime", image_input=IMAGE)
    return write_model(folder, msgspec.structs.replace(spec, name="net"))


class TestRoutes:
    """What can be made of what."""

    @pytest.mark.parametrize(
        ("spec", "target", "steps"),
        [
            (ZOO, "onnx", ("onnx",)),
            (ZOO, "openvino", ("onnx", "openvino")),
            (ZOO, "pt2", ("pt2",)),
            (ZOO, "mxnet", ("onnx", "mxnet")),
            (MXNET, "openvino", ("onnx", "openvino")),
            (ONNX, "mxnet", ("mxnet",)),
            (msgspec.structs.replace(ONNX, engine="opencv"), "openvino", ("openvino",)),
            (ModelSpec("m", "torch", weights="m.pt"), "onnx", ("onnx",)),
            (ModelSpec("m", "torch", weights="m.pt2"), "torchscript", ("torchscript",)),
        ],
    )
    def test_every_format_is_reached_step_by_step(
        self, spec: ModelSpec, target: Target, steps: tuple[str, ...]
    ) -> None:
        assert route(spec, target) == steps

    @pytest.mark.parametrize(
        ("spec", "target", "expected"),
        [
            (
                IR,
                "onnx",
                "'m' is OpenVINO IR (.xml and .bin), of which no framework here makes ONNX (.onnx). What can be",
            ),
            (MXNET, "pt2", "of which no framework here makes torch.export (.pt2)"),
            (ONNX, "torchscript", "of which no framework here makes TorchScript (.pt)"),
            (ONNX, "onnx", "'m' is ONNX (.onnx) already: choose another --to"),
            (CAFFE, "onnx", "'m' (opencv, weights 'm.caffemodel') cannot be converted"),
            (ModelSpec("m", "simulated"), "onnx", "'m' (simulated, weights 'none') cannot be converted"),
            (ModelSpec("m", "tensorrt", weights="m.engine"), "onnx", "cannot be converted"),
        ],
    )
    def test_what_no_framework_offers_is_told_with_all_that_there_is(
        self, spec: ModelSpec, target: Target, expected: str
    ) -> None:
        with pytest.raises(ConversionError, match=re.escape(expected)) as caught:
            route(spec, target)
        assert "already" in str(caught.value) or table() in str(caught.value)

    def test_the_table_names_every_target(self) -> None:
        assert all(target in table() for target in TARGETS)
        assert source_of(ZOO) == "zoo"


class TestAgreement:
    """When two formats are one and the same model."""

    def test_photographs_are_real_and_as_the_model_takes_them(self) -> None:
        batch = photographs(InputSpec(width=30, height=20))
        assert batch.shape == (len(PHOTOGRAPHS), 3, 20, 30)
        assert all(picture.std() > 20 for picture in batch)
        assert len({picture.tobytes() for picture in batch}) == len(PHOTOGRAPHS)

    def test_answers_are_those_of_single_pictures_and_of_a_batch(self, tmp_path: Path) -> None:
        net = Net()
        rows = answers(onnx_model(tmp_path / "net", net), noise(3))
        assert np.abs(rows - np.concatenate([net.answer(noise(3))] * 2)).max() < 1e-5

    def test_a_fixed_batch_is_asked_in_its_portions(self, tmp_path: Path) -> None:
        net = Net(batch=2)
        rows = answers(onnx_model(tmp_path / "net", net), noise(3))
        assert np.abs(rows - np.concatenate([net.answer(noise(3))] * 2)).max() < 1e-5

    def test_classes_and_probabilities_both_count(self) -> None:
        one = np.array([[0.6, 0.4], [0.3, 0.7]], np.float32)
        other = np.array([[0.6, 0.4], [0.6, 0.4]], np.float32)
        agreement = compare(one, other)
        assert (agreement.pictures, agreement.same_class) == (2, 1)
        assert agreement.largest_difference == pytest.approx(0.3)
        assert not agreement.within(0.5)
        assert Agreement(2, 2, 0.3).within(0.3)
        assert not Agreement(2, 2, 0.3).within(0.2)
        with pytest.raises(ConversionError, match="they are other models"):
            compare(one, one[:, :1])

    @pytest.mark.parametrize(("margin", "same"), [(0.9e-4, 1), (1.1e-4, 0)])
    def test_classes_that_are_tied_may_change_places(self, margin: float, same: int) -> None:
        one = np.array([[0.5 + margin, 0.5]], dtype=np.float32)
        assert compare(one, one[:, ::-1]).same_class == same


class TestNewFolder:
    """A folder that is there only when it is whole."""

    def test_it_appears_at_the_end_and_replaces_what_was_there(self, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        (tmp_path / "m/model.toml").write_text("engine = 'simulated'")
        with new_folder(tmp_path / "m", BuildError) as unfinished:
            (unfinished / "new").touch()
            assert [spec.name for spec in scan(tmp_path)] == ["m"]
        assert [path.name for path in (tmp_path / "m").iterdir()] == ["new"]
        assert [path.name for path in tmp_path.iterdir()] == ["m"]

    @pytest.mark.parametrize("failure", [KeyboardInterrupt, ModelError])
    def test_nothing_is_left_where_it_fails(self, tmp_path: Path, failure: type[BaseException]) -> None:
        def fail() -> None:
            with new_folder(tmp_path / "m", BuildError) as unfinished:
                (unfinished / "new").touch()
                raise failure

        with pytest.raises(failure):
            fail()
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_that_refuses_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with (
            pytest.raises(ConversionError, match=r"cannot be written .* choose another --repository, or free space"),
            new_folder(tmp_path / "file/m", ConversionError),
        ):
            pass


class TestOnnxWeights:
    """Within the file, or beside it where they are too many."""

    def test_few_weights_stay_within_the_file(self, tmp_path: Path) -> None:
        assert write_onnx(Net().proto(), tmp_path / "m.onnx") == ("m.onnx",)
        assert not read_onnx_file(tmp_path / "m.onnx").data_files

    def test_many_weights_go_to_one_file_beside_it(self, tmp_path: Path) -> None:
        net = Net()
        model = net.proto()
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1024, np.float32), "large"))
        assert write_onnx(model, tmp_path / "net.onnx", most_bytes=100) == ("net.onnx", "net.onnx.data")
        assert read_onnx_file(tmp_path / "net.onnx").data_files == {"net.onnx.data"}
        spec = read_model(tmp_path, engine="onnxruntime", classes=CLASSES, image_input=IMAGE)
        assert spec.files.keys() == {"net.onnx", "net.onnx.data"}
        assert np.abs(answers(spec, noise(2))[:2] - net.answer(noise(2))).max() < 1e-5

    def test_an_exporters_many_files_are_gathered(self, tmp_path: Path) -> None:
        parts, place = tmp_path / "parts", tmp_path / "m"
        parts.mkdir()
        place.mkdir()
        net = Net(more_outputs=[("other", 700)])
        onnx.save_model(
            net.proto(), parts / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0
        )
        assert len(list(parts.iterdir())) == 3
        assert gather(parts / "m.onnx", place / "m.onnx", most_bytes=100) == ("m.onnx", "m.onnx.data")
        assert sorted(path.name for path in place.iterdir()) == ["m.onnx", "m.onnx.data"]
        spec = read_model(place, engine="onnxruntime", classes=CLASSES, image_input=IMAGE)
        assert np.abs(answers(spec, noise(2))[:2] - net.answer(noise(2))).max() < 1e-5
        assert gather(parts / "m.onnx", tmp_path / "one.onnx") == ("one.onnx",)
        assert not read_onnx_file(tmp_path / "one.onnx").data_files

    def test_parts_that_are_missing_are_told(self, tmp_path: Path) -> None:
        path = Net().write(tmp_path, data="weights")
        (tmp_path / "weights").unlink()
        with pytest.raises(ConversionError, match="cannot be read"):
            gather(path, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("squeezenet1_1", "openvino"),
        ("squeezenet1_1", "pt2"),
        ("shufflenet_v2_x0_5", "onnx"),
        ("shufflenet_v2_x0_5", "torchscript"),
    ],
)
def test_a_network_of_the_zoo_answers_alike_in_every_format(
    repository: Path, tmp_path: Path, name: str, target: Target
) -> None:
    lines: list[str] = []
    done = convert(Request(repository / name, target, tmp_path), lines.append)
    source = read_model(repository / name)
    assert done.agreement.pictures == done.agreement.same_class == 2 * len(PHOTOGRAPHS)
    assert done.agreement.largest_difference < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}-{target}"]
    assert done.spec == read_model(tmp_path / f"{name}-{target}")
    assert (done.spec.name, done.spec.architecture) == (f"{name}-{target}", "")
    assert (done.spec.input, done.spec.classes, done.spec.labels) == (source.input, source.classes, source.labels)
    assert {path.name for path in Path(done.spec.folder).iterdir()} == {*done.spec.files, "model.toml"}
    assert all(facts.sha256 for facts in done.spec.files.values())
    verify_files(done.spec)
    assert lines[0] == f"{name}: asking torch about photographs"
    assert lines[-1].startswith(f"{name}-{target}: asking")


@pytest.mark.parametrize("name", ["googlenet_caffe", "shufflenet_v1"])
def test_normalization_across_channels_and_groups_answer_alike_on_every_engine_that_reads_onnx(
    tmp_path: Path, name: str
) -> None:
    expected = answers(build(name, tmp_path))
    made = convert(Request(tmp_path / name, "onnx", tmp_path), expected=expected)
    assert made.agreement.within(1e-4)
    for engine in ("openvino", "opencv"):
        spec = read_model(Path(made.spec.folder), engine=engine)
        assert compare(expected, answers(spec)).within(1e-3), engine


def test_an_onnx_file_becomes_openvinos_with_labels_and_the_chosen_output(tmp_path: Path) -> None:
    net = Net(more_outputs=[("ones", CLASSES)])
    net.write(tmp_path / "net")
    spec = read_model(tmp_path / "net", engine="onnxruntime", classes=CLASSES, image_input=IMAGE)
    write_model(tmp_path / "net", msgspec.structs.replace(spec, parameters={"output": "ones", "optimization": "basic"}))
    done = convert(Request(tmp_path / "net", "openvino", tmp_path, name="other"))
    assert (done.spec.name, done.spec.graph, done.spec.weights) == ("other", "model.xml", "model.bin")
    assert done.spec.parameters == {"output": "ones"}
    assert np.allclose(answers(done.spec, noise(2)), 1 / CLASSES)


def test_weights_keep_their_precision(tmp_path: Path) -> None:
    net = Net(more_outputs=[("other", 7000)])
    onnx_model(tmp_path / "net", net)
    done = convert(Request(tmp_path / "net", "openvino", tmp_path))
    assert done.spec.files["model.bin"].bytes >= 7000 * 3 * 4
    assert np.abs(answers(done.spec, noise(2))[:2] - net.answer(noise(2))).max() < 1e-6


def test_torchscript_becomes_onnx(script: Callable[..., ModelSpec], tmp_path: Path) -> None:
    spec = write_model(tmp_path / "scripted", script(Tiny()))
    done = convert(Request(Path(spec.folder), "onnx", tmp_path))
    assert done.agreement.within(1e-5)
    assert read_onnx_file(tmp_path / "scripted-onnx/model.onnx").inputs[0].shape == (None, 3, 16, 16)


class Shuffled(Tiny):
    """With an operator that torch's exporter by tracing does not know by itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores."""
        scores: torch.Tensor = self.last(torch.channel_shuffle(self.convolution(x).relu(), 2)[:, :, 3:].mean((2, 3)))
        return scores


@pytest.mark.parametrize("opset", [9, 11, 17])
def test_shuffled_channels_become_onnx(script: Callable[..., ModelSpec], tmp_path: Path, opset: int) -> None:
    spec = write_model(tmp_path / "scripted", script(Shuffled()))
    done = convert(Request(Path(spec.folder), "onnx", tmp_path, opset=opset))
    assert done.agreement.within(1e-5)
    assert {"Reshape", "Transpose"} < read_onnx_file(Path(done.spec.folder) / done.spec.weights).operators


def test_other_answers_are_an_error_and_nothing_is_left(tmp_path: Path) -> None:
    onnx_model(tmp_path / "net")
    of_another = answers(onnx_model(tmp_path / "other", Net(seed=1)))
    with pytest.raises(
        DisagreementError, match=r"answers otherwise as openvino: the same class for \d+ of 10 pictures, and"
    ):
        convert(Request(tmp_path / "net", "openvino", tmp_path), expected=of_another)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "other"]


@pytest.mark.parametrize(
    ("request_", "error", "expected"),
    [
        (
            Request(Path("net"), "openvino", Path(), name="A B"),
            ConversionError,
            "no model can be named 'A B': give --name",
        ),
        (Request(Path("net"), "openvino", Path(), name="net"), ConversionError, "is the model that is to be converted"),
        (Request(Path("net"), "openvino", Path(), name="net", force=True), ConversionError, "give another --name"),
        (Request(Path("net"), "openvino", Path(), name="taken"), BuildError, "exists already"),
        (
            Request(Path("net"), "openvino", Path(), opset=13),
            ConversionError,
            "--opset is for what torch writes as ONNX",
        ),
        (Request(Path("net"), "pt2", Path()), ConversionError, "of which no framework here makes torch.export"),
        (Request(Path("broken"), "openvino", Path()), LoadError, "is no whole ONNX file"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: Request, error: type[ModelError], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx_model(Path("net"))
    shutil.copytree("net", "broken")
    path = Path("broken/net.onnx")
    path.write_bytes(path.read_bytes()[:-30])
    Path("broken/model.toml").unlink()
    Path("taken").mkdir()
    with pytest.raises(error, match=re.escape(expected)):
        convert(request_)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "net", "taken"]


@pytest.mark.parametrize("opset", [5, 99])
def test_an_operator_set_that_torch_does_not_write_is_told(repository: Path, tmp_path: Path, opset: int) -> None:
    with pytest.raises(
        ConversionError, match=rf"torch writes ONNX operator sets 9 to 20, not {opset}: correct --opset"
    ):
        convert(Request(repository / "squeezenet1_1", "onnx", tmp_path, opset=opset))
    assert list(tmp_path.iterdir()) == []


def test_the_operator_set_that_is_asked_for_is_written(script: Callable[..., ModelSpec], tmp_path: Path) -> None:
    spec = write_model(tmp_path / "scripted", script(Tiny()))
    done = convert(Request(Path(spec.folder), "onnx", tmp_path, opset=12))
    assert read_onnx_file(Path(done.spec.folder) / done.spec.weights).opsets == {"": 12}


class Stack(torch.nn.Module):
    """What no ONNX operator computes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 5)."""
        values: torch.Tensor = torch.linalg.svd(x.mean(1))[1]
        return values[:, :5]


def test_an_operator_that_onnx_lacks_is_named(script: Callable[..., ModelSpec], tmp_path: Path) -> None:
    spec = write_model(tmp_path / "scripted", script(Stack(), image_input=SMALL))
    with pytest.raises(ConversionError, match=r"cannot write 'scripted' as ONNX with operator set 17 \(.*linalg_svd"):
        convert(Request(Path(spec.folder), "onnx", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["scripted"]


@pytest.mark.parametrize("target", ["onnx", "torchscript"])
def test_an_exported_network_becomes_what_torch_writes(tmp_path: Path, target: Target) -> None:
    torch.manual_seed(0)
    write_pt2(Tiny().eval(), ModelSpec("m", "torch", input=SMALL), tmp_path / "net.pt2")
    spec = read_model(tmp_path, classes=5, image_input=SMALL)
    done = convert(Request(Path(write_model(tmp_path, spec).folder), target, tmp_path / "made"))
    assert done.agreement.within(1e-5)
    with torch.inference_mode():
        batch = torch.from_numpy(noise(7))
        expected = torch.export.load(tmp_path / "net.pt2").module()(batch).softmax(1).numpy()
    assert np.abs(answers(done.spec, noise(7))[7:] - expected).max() < 1e-5


def test_the_command_says_what_it_does_and_where_the_model_is(tmp_path: Path) -> None:
    onnx_model(tmp_path / "net")
    program = [sys.executable, "-m", "dlmodels.cli", "convert"]
    ran = subprocess.run(
        [*program, "net", "--to", "openvino", "--repository", tmp_path], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("net: asking onnxruntime about photographs\nnet: writing openvino\n")
    assert f"net-openvino: {tmp_path / 'net-openvino'} is ready; the same class for all of 10 answers" in ran.stdout
    again = subprocess.run(
        [*program, tmp_path / "net", "--to", "openvino", "--repository", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1
    assert "give --force" in again.stderr
    assert again.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["none", "--to", "onnx"], 1, "there is no model 'none', neither in"),
        (["none"], 2, "the following arguments are required: --to"),
        (["none", "--to", "tflite"], 2, "invalid choice: 'tflite'"),
        (["none", "--to", "onnx", "--tolerance", "7"], 2, "'7' is no probability between 0 and 1"),
    ],
)
def test_a_wrong_command_is_told(tmp_path: Path, arguments: list[str], code: int, expected: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "dlmodels.cli", "convert", *arguments, "--repository", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == code
    assert expected in ran.stderr
