"""What a suite asks for and there is not: told before anything runs, or a point that says so."""

from pathlib import Path
from typing import Any

import pytest
from dlclient.bench.changes import parse_set
from dlclient.bench.checking import check, unsupported
from dlclient.bench.known import Known, conversion, conversions, folder_for, look, to_be_built
from dlclient.bench.matrix import expand
from dlclient.bench.problems import Source
from dlclient.bench.reading import parse_suite, read_suite, ready_suites
from dlclient.bench_result import Setting
from dlclient.errors import SuiteError
from dlmodels.errors import ConversionError
from dlmodels.repository import ModelSpec
from dlmodels.zoo.catalog import CATALOG

ROOT = Path(__file__).parents[3]


def problems(table: dict[str, Any], known: Known = Known()) -> list[str]:  # noqa: B008  frozen
    source = Source("my.toml")
    suite = parse_suite({"name": "my"} | table, source)
    try:
        check(suite, source, known)
    except SuiteError:
        return source.problems
    return []


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ({"models": "resnet18"}, []),
        ({"models": "stream-2018", "engines": ["own", "onnxruntime", "caffe"]}, []),
        ({"models": "anything", "engines": "simulated", "options": {"forward_s": [0.1, 0.2]}}, []),
        ({"models": "mine"}, []),
        ({"models": "resnet81"}, ["models: there is no model 'resnet81', neither in the repository nor in the zoo. Did you mean 'resnet18'?"]),
        ({"models": "mime"}, ["models: there is no model 'mime', neither in the repository nor in the zoo. Did you mean 'mine'?"]),
        ({"models": "torn"}, ["models: torn/model.toml cannot be read: copy it again"]),
        ({"models": "resnet18", "engines": ["toch", "openvno"]}, ["engines: there is no engine 'toch'. Did you mean 'torch'?", "engines: there is no engine 'openvno'. Did you mean 'openvino'?"]),
        ({"models": "resnet18", "options": {"hint": "latency"}}, ["options.hint: torch has a setting 'hint', which does not exist."]),
        ({"models": "resnet18", "engines": "openvino", "options": {"hint": ["latency", "fast"]}}, ["options.hint: openvino: hint: Invalid enum value 'fast'"]),
        ({"models": "resnet18", "engines": ["torch", "openvino"], "options": {"hint": "latency"}}, ["options.hint: torch has a setting 'hint', which does not exist. Valid are: datatype, compile, cuda_graphs; settings of one engine are for a [[matrix]] of its own"]),
        ({"models": "resnet18", "options": {"datatype": "fp32"}}, ["options.datatype: what is computed in has a list of its own: write precision"]),
        ({"models": "resnet18", "precision": "fp23"}, ["precision: torch: torch has no datatype 'fp23'"]),
        ({"models": "resnet18", "engines": ["torch", "opencv"], "precision": "bf16"}, []),
        ({"models": "sim", "engines": "simulated", "precision": "fp32"}, ["precision: simulated cannot be told a precision: leave it out"]),
        ({"models": "resnet18", "inputs": ["tensor", "raw"]}, ["inputs: in process there is no input 'raw'. There are: tensor, image"]),
        ({"models": "resnet18", "exclude": [{"engines": "toch"}]}, ["exclude: there is no engine 'toch'."]),
        ({"models": "resnet18", "batch_sizes": [1, 2], "threads": [1, 2, 3], "zip": [["batch_sizes", "threads"]]}, ["zip: zipped lists must be equally long"]),
        ({"models": "resnet18", "exclude": [{"models": "resnet18"}]}, ["exclude: no point is left: exclude less"]),
        ({"models": "resnet18", "questions": "accuracy"}, ["dataset: the question accuracy needs labelled images: name their folder"]),
    ],
)  # fmt: skip
def test_what_there_is_not_is_told_with_the_nearest_that_there_is(matrix: dict[str, Any], expected: list[str]) -> None:
    known = Known(
        repository={"mine": ModelSpec("mine", "openvino")},
        broken={"torn": "torn/model.toml cannot be read: copy it again"},
    )
    found = problems({"matrix": [matrix]}, known)
    assert len(found) == len(expected), found
    for problem, text in zip(found, expected, strict=True):
        where = "" if text.startswith("dataset") else "matrix 1, "
        assert problem.startswith(f"my.toml: {where}{text}")


def test_folders_that_are_missing_files_or_empty_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    table = {
        "images": str(tmp_path / "none"),
        "dataset": str(tmp_path / "empty"),
        "repository": str(tmp_path / "file"),
        "matrix": [{"models": "resnet18", "questions": ["accuracy"]}],
    }
    images, dataset, repository = problems(table)
    assert "none does not exist: name one with images in it" in images
    assert "empty is empty: put images there" in dataset
    assert "file is a file: name a folder of model folders" in repository


def test_of_a_server_only_what_it_can_be_told_is_asked() -> None:
    matrix = {
        "models": "whatever",
        "threads": [0, 2],
        "affinity": "0",
        "inputs": "tensor",
        "in_flight": 0,
        "options": {"hint": "latency"},
    }
    found = problems({"target": "http://127.0.0.1:8080", "matrix": [matrix]})
    assert [problem.split(": ")[1] for problem in found] == [
        "matrix 1, inputs", "matrix 1, threads", "matrix 1, affinity", "matrix 1, in_flight", "matrix 1, options.hint",
    ]  # fmt: skip
    assert problems({"target": "http://127.0.0.1:8080", "matrix": [{"models": "whatever", "devices": "cuda:1"}]}) == []


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (Setting(model="resnet18", engine="torch"), ""),
        (Setting(model="resnet18", engine="torch", device="cuda:1"), "no GPU cuda:1, there is one"),
        (Setting(model="resnet18", engine="openvino", device="cuda:0"), "openvino computes on cpu only"),
        (Setting(model="resnet18", engine="opencv", precision="bf16"), "opencv: datatype: Invalid enum value 'bf16'"),
        (Setting(model="resnet18", engine="opencv"), ""),
        (Setting(model="gluon-resnet18_v1", engine="torch"), "torch cannot run gluon-resnet18_v1: "),
        (Setting(model="gluon-resnet18_v1", engine="onnxruntime"), ""),
        (Setting(model="resnet18", engine="simulated"), "resnet18 is a real model"),
        (Setting(model="sim", engine="simulated"), ""),
        (Setting(model="sim", engine="tensorrt", device="cuda:7", target="http://127.0.0.1:1"), ""),
    ],
)
def test_a_point_that_this_machine_cannot_measure_says_why(setting: Setting, text: str) -> None:
    found = list(unsupported([setting], Known(gpus=1)))
    assert [one for one, _ in found] == ([setting] if text else [])
    assert all(text in reason for _, reason in found)


def test_a_network_that_an_engine_does_not_run_is_not_converted_for_it() -> None:
    network = next(network for network in CATALOG.values() if network.not_for)
    setting = Setting(model=network.name, engine=network.not_for[0])
    assert [one for one, _ in unsupported([setting], Known(gpus=1))] == [setting]


def test_models_are_converted_to_onnx_first_as_several_engines_read_it() -> None:
    assert conversions("openvino") == ("onnx", "openvino")
    assert conversions("mxnet") == ("mxnet",)
    assert conversions("simulated") == ()
    assert conversion(to_be_built(CATALOG["resnet18"]), "openvino") == "onnx"
    assert conversion(ModelSpec("x", "onnxruntime", weights="x.onnx"), "mxnet") == "mxnet"
    with pytest.raises(ConversionError, match="What can be converted"):
        conversion(to_be_built(CATALOG["gluon-resnet18_v1"]), "torch")


def test_the_folder_of_a_model_is_its_own_or_what_was_converted_from_it(tmp_path: Path) -> None:
    for name, file in (("net", "net.pt"), ("net-onnx", "net.onnx")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(b"weights")
        (tmp_path / name / "corresp.txt").write_text("0 cat\n")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "model.toml").write_text("engine =")
    assert folder_for("net", "openvino", "torch", tmp_path) == tmp_path / "net-onnx"
    assert folder_for("net", "mxnet", "torch", tmp_path) is None
    known = look(["net", "torn", "gone"], ["own", "onnxruntime", "mxnet"], tmp_path, gpus=0)
    assert known.engine_of("net") == "torch"
    assert known.folders == {("net", "torch"): tmp_path / "net", ("net", "onnxruntime"): tmp_path / "net-onnx"}
    assert "model.toml cannot be read" in known.broken["torn"]


@pytest.mark.parametrize(
    ("name", "number", "reproduces"),
    [("stream-2018", 24, "cortex"), ("deepdetect-report", 104, "dd_performances"), ("gluon-zoo", 216, ""), ("low-batch", 30, ""), ("dli", 60, "dli"), ("quick", 4, "")],
)  # fmt: skip
def test_each_ready_suite_is_right_and_names_what_it_reproduces(name: str, number: int, reproduces: str) -> None:
    suite, source = read_suite(ready_suites()[name])
    assert len(check(suite, source, Known())) == number
    assert suite.reproduces == reproduces
    published = (ROOT / "dashboards/reference/published.csv").read_text()
    assert f",{reproduces}," in published
    assert suite.title


def test_each_ready_suite_can_be_reduced_to_one_small_network() -> None:
    for name, path in ready_suites().items():
        suite, source = read_suite(path, parse_set(["models=squeezenet1_1,batch_sizes=1,2,budget.max_s=1"]))
        settings = check(suite, source, Known())
        assert {setting.model for setting in settings} == {"squeezenet1_1"}
        assert {setting.batch_size for setting in settings} <= {1, 2}, name
        assert len(settings) == len(expand(suite, Known()))
