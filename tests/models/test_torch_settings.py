"""What a model may ask of torch, and what it is told where that cannot be had."""

import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from dlmodels.engines import engine_type
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.torch import TorchEngine
from dlmodels.engines.torch_precision import Precision, _lacking_cpu, _lacking_gpu
from dlmodels.engines.torch_settings import TorchSettings
from dlmodels.errors import SettingError
from dlmodels.repository import ModelSpec, read_model

from .networks import by_torchvision, pictures


@pytest.fixture
def spec(repository: Path) -> ModelSpec:
    return read_model(repository / "squeezenet1_1")


def asking(spec: ModelSpec, **parameters: object) -> ModelSpec:
    return msgspec.structs.replace(spec, parameters=parameters)


def test_what_is_used_is_read_back(engine: Engine, spec: ModelSpec) -> None:
    assert engine.prepare(spec).settings == {
        "datatype": "fp32",
        "threads": 1,
        "layout": "channels_last",
        "weights": "mapped",
        "compile": False,
        "cuda_graphs": False,
    }
    assert engine_type("torch").settings_type is TorchSettings


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"datatyp": "fp32"}, "has a setting 'datatyp', which does not exist. Did you mean 'datatype'?"),
        ({"datatype": "fp64"}, "torch has no datatype 'fp64': use one of fp32, tf32, bf16, fp16"),
        ({"datatype": "fp16"}, "datatype fp16 is for GPUs: use fp32, or bf16"),
        ({"datatype": "tf32"}, "datatype tf32 is for GPUs"),
        ({"cuda_graphs": True}, "cuda_graphs is for GPUs, and this is a CPU"),
        ({"compile": "yes"}, "Expected `bool`, got `str`"),
    ],
)
def test_what_cannot_be_had_is_refused(
    engine: Engine, spec: ModelSpec, parameters: dict[str, object], expected: str
) -> None:
    with pytest.raises(SettingError, match=re.escape(expected)):
        engine.prepare(asking(spec, **parameters))


def test_cuda_graphs_may_be_switched_off_where_there_are_none(engine: Engine, spec: ModelSpec) -> None:
    assert engine.prepare(asking(spec, cuda_graphs=False)).settings["cuda_graphs"] is False


@pytest.mark.usefixtures("computes_bf16")
def test_bf16_computes_what_torchvision_does_in_bf16_with_weights_of_half_the_size(
    engine: Engine, spec: ModelSpec
) -> None:
    model = engine.prepare(asking(spec, datatype="bf16"))
    model.load()
    reference = by_torchvision(Path(spec.folder).parent, spec.name).to(torch.bfloat16)
    with torch.inference_mode():
        expected = reference(torch.from_numpy(pictures(2)).to(torch.bfloat16)).float().softmax(1).numpy()
    found = model.run(pictures(2))
    assert np.abs(found - expected).max() < 0.05
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-5  # softmax in float32
    assert model.settings["datatype"] == "bf16"
    assert model.weights_bytes < 0.51 * spec.weights_bytes
    model.unload()
    model.load()
    assert np.array_equal(model.run(pictures(2)), found)


@pytest.mark.parametrize(
    ("datatype", "has_bf16", "said"),
    [("fp32", False, ""), ("bf16", True, ""), ("bf16", False, "AVX512_BF16 or AMX"), ("fp16", True, "is for GPUs")],
)
def test_a_cpu_has_what_its_instructions_say(datatype: str, has_bf16: bool, said: str) -> None:
    found = _lacking_cpu(datatype, has_bf16=has_bf16)
    assert (said in found) if said else not found


@pytest.mark.parametrize(
    ("datatype", "capability", "said"),
    [("tf32", (7, 5), "or later, this one has 7.5"), ("bf16", (8, 0), ""), ("fp16", (7, 0), ""), ("tf32", (9, 0), "")],
)
def test_a_gpu_has_what_its_generation_has(datatype: str, capability: tuple[int, int], said: str) -> None:
    found = _lacking_gpu(datatype, capability)
    assert (said in found) if said else not found


def test_tf32_is_on_only_while_a_model_computes_that_asked_for_it(engine: Engine) -> None:
    assert engine.version()
    seen = []
    for name in ("fp32", "tf32"):
        with Precision(name, torch.float32).computing():
            seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
    assert seen == [(False, False), (True, True)]
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_files_are_read_and_not_mapped_where_the_page_cache_is_to_be_dropped(repository: Path, tmp_path: Path) -> None:
    # A file of its own: what another test of this process has left to the garbage collector may still map a shared one.
    shutil.copytree(repository / "squeezenet1_1", tmp_path / "m")
    spec = read_model(tmp_path / "m")
    reading = TorchEngine(Place("cpu", 1, map_files=False))
    reading.start()
    model = reading.prepare(spec)
    model.load()
    first = model.run(pictures(2))
    assert str(Path(spec.folder) / spec.weights) not in Path("/proc/self/maps").read_text()
    assert model.settings["weights"] == "read"
    model.unload()
    model.load()
    assert np.array_equal(model.run(pictures(2)), first)
