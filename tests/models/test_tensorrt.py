"""TensorRT, as far as it can be checked without a GPU: files, settings, what is missing; the rest where there is one."""

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from dlmodels.engines.base import Place
from dlmodels.engines.tensorrt import TensorRtEngine, TensorRtSettings, read_settings
from dlmodels.engines.tensorrt_plan import DEFAULT_MAX_BATCH, plan_name
from dlmodels.errors import EngineUnavailableError, LoadError, RepositoryError, SettingError
from dlmodels.repository import ModelSpec, read_model

from .onnx_files import IMAGE, Net, noise


def described(folder: Path, **parameters: object) -> ModelSpec:
    """As a person would drop it in, and say what it is."""
    spec = read_model(folder, engine="tensorrt", classes=5, image_input=IMAGE)
    return msgspec.structs.replace(spec, parameters=parameters)


def test_settings_of_an_onnx_file_shape_the_engine() -> None:
    parameters: dict[str, object] = {"datatype": "fp16", "workspace_mb": 512, "max_batch": 8, "output": "prob"}
    spec = ModelSpec("m", "tensorrt", weights="net.onnx", parameters=parameters)
    assert read_settings(spec) == TensorRtSettings("fp16", 512, 8, "prob")


@pytest.mark.parametrize(
    ("weights", "parameters", "expected"),
    [
        (
            "net.onnx",
            {"precision": "fp16"},
            "has a setting 'precision', which does not exist. Valid are: datatype, work",
        ),
        ("net.onnx", {"datatype": "int8"}, "datatype: Invalid enum value 'int8'"),
        ("net.onnx", {"max_batch": 0}, "max_batch: Expected `int` >= 1"),
        (
            "net.engine",
            {"datatype": "fp16"},
            "is a saved engine, which was built with its own datatype: leave datatype out",
        ),
        ("net.engine", {"max_batch": 4}, "which was built with its own max_batch: leave max_batch out"),
        ("net.engine", {"workspace_mb": 4}, "which was built with its own workspace_mb"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(weights: str, parameters: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingError, match=re.escape(expected)):
        read_settings(ModelSpec("m", "tensorrt", weights=weights, parameters=parameters))


def test_a_saved_engine_may_have_its_output_named() -> None:
    spec = ModelSpec("m", "tensorrt", weights="net.engine", parameters={"output": "prob"})
    assert read_settings(spec).output == "prob"


@pytest.mark.parametrize(
    ("graph", "weights", "architecture"), [("", "net.pt", ""), ("net.xml", "net.bin", ""), ("", "net.onnx", "resnet18")]
)
def test_other_files_are_refused(graph: str, weights: str, architecture: str) -> None:
    spec = ModelSpec("m", "tensorrt", graph=graph, weights=weights, architecture=architecture)
    with pytest.raises(
        RepositoryError, match=r"tensorrt takes an \*.onnx or an \*.engine as weights, and nothing else"
    ):
        read_settings(spec)


class TestPlanName:
    """The file that a built engine is kept in."""

    def test_equal_models_have_one_engine_and_defaults_may_be_spelt_out(self, tmp_path: Path) -> None:
        Net().write(tmp_path)
        spec = described(tmp_path)
        name = plan_name(spec, TensorRtSettings(), "H200", "10.1")
        assert re.fullmatch(r"[\w.-]+-[0-9a-f]{16}\.engine", name)
        assert plan_name(spec, TensorRtSettings("fp32", None, DEFAULT_MAX_BATCH), "H200", "10.1") == name

    def test_whatever_would_change_the_engine_changes_the_name(self, tmp_path: Path) -> None:
        Net().write(tmp_path)
        spec, settings = described(tmp_path), TensorRtSettings()
        names = {
            plan_name(spec, settings, "H200", "10.1"),
            plan_name(spec, settings, "H100", "10.1"),
            plan_name(spec, settings, "H200", "10.2"),
            plan_name(spec, TensorRtSettings("fp16"), "H200", "10.1"),
            plan_name(spec, TensorRtSettings("tf32"), "H200", "10.1"),
            plan_name(spec, TensorRtSettings(workspace_mb=5), "H200", "10.1"),
            plan_name(spec, TensorRtSettings(max_batch=5), "H200", "10.1"),
            plan_name(
                msgspec.structs.replace(spec, input=msgspec.structs.replace(IMAGE, width=9)), settings, "H200", "10.1"
            ),
        }
        Net(softmax=True).write(tmp_path)
        names.add(plan_name(described(tmp_path), settings, "H200", "10.1"))
        assert len(names) == 9

    def test_the_content_counts_where_its_hash_is_known(self, tmp_path: Path) -> None:
        path = Net().write(tmp_path)
        spec = described(tmp_path)
        hashed = msgspec.structs.replace(
            spec, files={name: msgspec.structs.replace(facts, sha256="ab") for name, facts in spec.files.items()}
        )
        name = plan_name(hashed, TensorRtSettings(), "H200", "10.1")
        path.touch()
        assert plan_name(hashed, TensorRtSettings(), "H200", "10.1") == name

    def test_a_file_that_is_gone_is_told(self, tmp_path: Path) -> None:
        path = Net().write(tmp_path)
        spec = described(tmp_path)
        path.unlink()
        with pytest.raises(LoadError, match="put the file back"):
            plan_name(spec, TensorRtSettings(), "H200", "10.1")


def test_it_is_told_where_the_engine_cannot_work() -> None:
    with pytest.raises(EngineUnavailableError, match=r"call start\(\) first"):
        TensorRtEngine(Place("cuda:0", 1)).prepare(ModelSpec("m", "tensorrt"))
    with pytest.raises(EngineUnavailableError, match="computes on cuda only, and this worker has cpu"):
        TensorRtEngine(Place("cpu", 1)).start()
    if not TensorRtEngine.version():
        assert TensorRtEngine.missing("cuda:0").endswith("install NVIDIA's wheel for this CUDA version")


@pytest.mark.gpu
@pytest.mark.parametrize("net", [Net(), Net(batch=2), Net(channels_last=True)], ids=["plain", "fixed", "nhwc"])
def test_a_built_engine_gives_the_networks_answers_and_is_kept(tmp_path: Path, net: Net) -> None:
    net.write(tmp_path)
    engine = TensorRtEngine(Place("cuda:0", 1))
    try:
        engine.start()
    except EngineUnavailableError as exc:
        pytest.skip(str(exc))
    for _ in range(2):
        model = engine.prepare(described(tmp_path, max_batch=None if net.batch else 4))
        assert model.most_images == (net.batch or 4)
        for _ in range(2):
            model.load()
            for count in (1, 2):
                assert np.abs(model.run(noise(count)) - net.answer(noise(count))).max() < 1e-3
            model.unload()
    assert len(list((tmp_path / ".cache").iterdir())) == 1
