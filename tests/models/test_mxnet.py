"""MXNet's files in MXNet."""

import hashlib
import json
import pickle
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import torch
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.mxnet import MxnetEngine
from dlmodels.engines.mxnet_import import import_mxnet
from dlmodels.engines.mxnet_model import MxnetModel
from dlmodels.errors import EngineUnavailableError, ForwardError, LoadError, RepositoryError, SettingError
from dlmodels.images import InputSpec
from dlmodels.repository import ModelSpec, read_model

from .mxnet_files import Net, params_file
from .networks import SMALL, pictures

BATCH = pictures(3, (3, 16, 16))


@pytest.fixture(scope="module")
def mxnet() -> Engine:
    started = MxnetEngine(Place("cpu", 1))
    started.start()
    return started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small network, as a person would drop it in."""
    Net().write(tmp_path)
    return tmp_path


def described(
    folder: Path, parameters: dict[str, object] | None = None, image_input: InputSpec = SMALL, classes: int = 5
) -> ModelSpec:
    """As a person would drop it in, and say what it is."""
    spec = read_model(folder, engine="mxnet", classes=classes, image_input=image_input)
    return msgspec.structs.replace(spec, parameters=parameters or {})


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize(
    "net",
    [Net(), Net(softmax=False), Net(data="pixels"), Net(more_outputs=True), Net(softmax=False, more_outputs=True)],
    ids=["checkpoint", "scores", "other input name", "two outputs", "two outputs, scores"],
)
def test_answers_are_torchs_for_any_batch_and_after_a_reload(
    mxnet: Engine, tmp_path: Path, net: Net, fusion: bool
) -> None:
    net.write(tmp_path)
    model = mxnet.prepare(described(tmp_path, {"fusion": fusion}))
    expected = net.answers(BATCH)
    for _ in range(2):
        model.load()
        model.load()
        for count in (3, 1, 2, 3):
            assert np.abs(model.run(BATCH[:count]) - expected[:count]).max() < 1e-5
        model.unload()
        model.unload()
    assert model.settings["fusion"] is fusion


def test_what_gluon_exports_and_module_saves_is_read(mxnet: Engine, tmp_path: Path) -> None:
    mx = import_mxnet()
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3), mx.gluon.nn.BatchNorm(), mx.gluon.nn.GlobalAvgPool2D(), mx.gluon.nn.Dense(5))
    net.initialize(mx.init.Normal(1))
    net.hybridize()
    scores = net(mx.nd.from_numpy(BATCH.copy())).asnumpy()
    (tmp_path / "exported").mkdir()
    net.export(str(tmp_path / "exported" / "net"), epoch=7)
    (tmp_path / "saved").mkdir()
    symbol, arguments, states = mx.model.load_checkpoint(str(tmp_path / "exported" / "net"), 7)
    mx.model.save_checkpoint(str(tmp_path / "saved" / "net"), 12, symbol, arguments, states)
    for name in ("exported", "saved"):
        model = mxnet.prepare(described(tmp_path / name))
        model.load()
        assert np.abs(model.run(BATCH) - torch.from_numpy(scores).softmax(1).numpy()).max() < 1e-5
        model.unload()


def test_files_that_are_read_answer_like_those_that_are_mapped_and_stay_as_they_are(folder: Path) -> None:
    path = folder / "net-0000.params"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for map_files in (True, False):
        engine = MxnetEngine(Place("cpu", 1, map_files=map_files))
        engine.start()
        model = engine.prepare(described(folder, {"fusion": False}))  # mxnet then writes ones over fixed gammas
        model.load()
        maps = Path("/proc/self/maps").read_text()
        assert (str(path) in maps) is map_files
        assert np.abs(model.run(BATCH) - Net().answers(BATCH)).max() < 1e-5
        model.unload()
        assert str(path) not in Path("/proc/self/maps").read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("before", ["", "import torch; torch.set_num_threads(1)"], ids=["alone", "after torch"])
def test_threads_are_set_and_read_back_and_nothing_else_of_the_process_is_changed(folder: Path, before: str) -> None:
    code = f"""
import os, sys, pathlib
{before}
import cv2  # it changes LD_LIBRARY_PATH
import numpy as np
environment, names = dict(os.environ), set(vars(np))
from dlmodels.engines.base import Place
from dlmodels.engines.mxnet import MxnetEngine
from dlmodels.images import InputSpec
from dlmodels.repository import read_model
spec = read_model(pathlib.Path(sys.argv[1]), engine="mxnet", classes=5, image_input=InputSpec(width=16, height=16))
for threads in (2, 1, 3):
    engine = MxnetEngine(Place("cpu", threads))
    engine.start()
    if "torch" in sys.modules:
        assert sys.modules["torch"].get_num_threads() == (1 if threads == 2 else before)
    model = engine.prepare(spec)
    model.load()
    model.run(np.zeros((1, 3, 16, 16), np.float32))
    print(model.settings["threads"])
    before = threads
    if "torch" in sys.modules:
        before = sys.modules["torch"].get_num_threads()
assert dict(os.environ) == environment
assert not set(vars(np)) & {{"bool", "int", "float", "object"}} - names
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "1", "3"]
    assert done.stderr == ""


def test_settings_that_it_would_ignore_are_refused(mxnet: Engine, folder: Path) -> None:
    wrong: tuple[tuple[dict[str, object], str], ...] = (
        ({"fuse": True}, "Did you mean 'fusion'"),
        ({"datatype": "fp16"}, "datatype"),
        ({"output": "prob"}, "has no output 'prob'"),
    )
    for parameters, expected in wrong:
        with pytest.raises(SettingError, match=expected):
            mxnet.prepare(described(folder, parameters))


def test_weights_bytes_count_the_second_form_of_fused_filters(mxnet: Engine, folder: Path) -> None:
    arrays = sum(array.nbytes for array in Net().weights.values())
    filters = sum(Net().weights[f"conv{number}_weight"].nbytes for number in (0, 1))
    assert mxnet.prepare(described(folder, {"fusion": False})).weights_bytes == arrays
    assert mxnet.prepare(described(folder)).weights_bytes == arrays + filters


def _other_network(folder: Path) -> None:
    arrays = {f"arg:other_{name}": array for name, array in Net().weights.items()}
    (folder / "net-0000.params").write_bytes(params_file(arrays))


def _other_shapes(folder: Path) -> None:
    arrays = Net().weights | {"fc_weight": np.zeros((5, 9), np.float32)}
    (folder / "net-0000.params").write_bytes(params_file(arrays))


def _half(folder: Path) -> None:
    arrays: dict[str, Any] = {name: array.astype(np.float16) for name, array in Net().weights.items()}
    (folder / "net-0000.params").write_bytes(params_file(arrays))


def _edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "net-symbol.json"
        graph = json.loads(path.read_text())
        change(graph)
        path.write_text(json.dumps(graph))

    return edit


def _own_operator(graph: Any) -> None:
    next(node for node in graph["nodes"] if node["op"] == "Activation")["op"] = "MyActivation"


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_other_network, "lack 14 of its arrays (conv0_weight"),
        (_other_shapes, "wants 'fc_weight' with the shape (5, 8)"),
        (_half, "save the network in float32"),
        (lambda folder: (folder / "net-0000.params").write_bytes(pickle.dumps([1])), "is no .params file of MXNet"),
        (lambda folder: torch.save({}, folder / "net-0000.params"), "is no .params file of MXNet"),
        (lambda folder: (folder / "net-symbol.json").write_text("{}"), "is no whole symbol of MXNet"),
        (lambda folder: (folder / "net-symbol.json").write_bytes(b"\xff{"), "is no whole symbol of MXNet"),
        (_edit(lambda graph: graph["heads"].clear()), "names no output"),
        (_edit(lambda graph: graph["nodes"][3]["inputs"].append([99, 0, 0])), "is damaged at its node"),
        (_edit(lambda graph: graph["nodes"][3]["inputs"].append([3, 0, 0])), "is damaged at its node"),
        (_edit(_own_operator), "without operators of one's own"),
    ],
    ids=[
        "other network",
        "other shapes",
        "half",
        "pickle",
        "torch",
        "no graph",
        "no text",
        "no head",
        "no node",
        "loop",
        "operator",
    ],
)
def test_files_that_do_not_fit_are_refused_with_a_cure(
    mxnet: Engine, folder: Path, spoil: Callable[[Path], None], expected: str
) -> None:
    spoil(folder)
    with pytest.raises(LoadError, match=re.escape(expected)):
        mxnet.prepare(described(folder))


def test_another_size_or_number_of_classes_is_told_at_once(mxnet: Engine, tmp_path: Path) -> None:
    mx = import_mxnet().symbol
    symbol = mx.FullyConnected(mx.var("data"), num_hidden=5, name="fc")
    (tmp_path / "net-symbol.json").write_text(symbol.tojson())
    random = np.random.default_rng(0)
    arrays = {"fc_weight": random.standard_normal((5, 768), dtype=np.float32), "fc_bias": np.zeros(5, np.float32)}
    (tmp_path / "net-0000.params").write_bytes(params_file(arrays))
    mxnet.prepare(described(tmp_path))
    with pytest.raises(LoadError, match="correct width, height or bw of the input"):
        mxnet.prepare(described(tmp_path, image_input=InputSpec(width=20, height=16)))
    with pytest.raises(LoadError, match="where 7 classes are expected"):
        mxnet.prepare(described(tmp_path, classes=7))


def test_a_broken_json_at_any_place_is_a_load_error(mxnet: Engine, folder: Path) -> None:
    path = folder / "net-symbol.json"
    text = path.read_text()
    for length in range(0, len(text) - 1, len(text) // 40):
        path.write_text(text[:length])
        with pytest.raises(LoadError, match="save the network with"):
            mxnet.prepare(described(folder))


def test_files_that_go_or_change_after_they_were_checked_do_not_load(mxnet: Engine, folder: Path) -> None:
    model = mxnet.prepare(described(folder))
    path = folder / "net-0000.params"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(LoadError, match="has changed since it was checked"):
        model.load()
    path.unlink()
    with pytest.raises(LoadError, match="put the file back"):
        model.load()


def test_what_is_no_model_of_mxnet_is_refused(mxnet: Engine, folder: Path) -> None:
    spec = described(folder)
    for wrong in ({"graph": ""}, {"architecture": "resnet18"}, {"weights": "net.pt"}):
        with pytest.raises(RepositoryError, match="mxnet takes a"):
            mxnet.prepare(msgspec.structs.replace(spec, **wrong))
    with pytest.raises(EngineUnavailableError, match="call start"):
        MxnetEngine(Place("cpu", 1)).prepare(spec)


def test_nothing_runs_before_it_is_loaded_and_bad_batches_are_told(mxnet: Engine, folder: Path) -> None:
    model = mxnet.prepare(described(folder))
    with pytest.raises(ForwardError, match="is not loaded"):
        model.run(BATCH)
    model.load()
    bad: Any
    for bad in (BATCH[:0], BATCH.astype(np.float64), BATCH[0], [b"raw"]):
        with pytest.raises(ForwardError, match="takes float32"):
            model.run(bad)
    with pytest.raises(ForwardError, match="failed on a batch of shape"):
        model.run(np.zeros((1, 1, 16, 16), np.float32))
    assert np.abs(model.run(BATCH) - Net().answers(BATCH)).max() < 1e-5


def test_the_callers_batch_stays_writable_and_read_only_batches_are_taken(mxnet: Engine, folder: Path) -> None:
    model = mxnet.prepare(described(folder))
    model.load()
    batch = BATCH.copy()
    model.run(batch)
    assert batch.flags.writeable
    batch.flags.writeable = False
    assert np.abs(model.run(batch) - Net().answers(BATCH)).max() < 1e-5


def test_memory_that_is_not_there_is_told_as_such(folder: Path) -> None:
    code = """
import pathlib, resource, sys
import numpy as np
from dlmodels.engines.base import Place
from dlmodels.engines.mxnet import MxnetEngine
from dlmodels.errors import OutOfMemoryError
from dlmodels.images import InputSpec
from dlmodels.repository import read_model
engine = MxnetEngine(Place("cpu", 1))
engine.start()
spec = read_model(pathlib.Path(sys.argv[1]), engine="mxnet", classes=5, image_input=InputSpec(width=16, height=16))
model = engine.prepare(spec)
model.load()
batch = np.zeros((40_000, 3, 16, 16), np.float32)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))
try:
    model.run(batch)
except OutOfMemoryError as exc:
    print(exc)
print(model.run(batch[:2]).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=False, capture_output=True, text=True, timeout=120
    )
    assert "no memory for a batch of 40000 on cpu: send fewer images" in done.stdout, done.stderr
    assert "(2, 5)" in done.stdout, done.stderr


def test_memory_after_two_hundred_loads_is_that_after_fifty(mxnet: Engine, folder: Path) -> None:
    model = mxnet.prepare(described(folder))
    assert isinstance(model, MxnetModel)
    process = psutil.Process()
    after_fifty = 0
    for cycle in range(200):
        model.load()
        model.run(BATCH[: 1 + cycle % 3])
        model.unload()
        if cycle == 49:
            after_fifty = process.memory_info().rss
    assert process.memory_info().rss < 1.05 * after_fifty
    assert model._operator is None
    assert not model._arrays


def test_where_mxnet_cannot_be_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MxnetEngine.missing("cpu") == ""
    assert "computes on cpu only" in MxnetEngine.missing("cuda:0")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "works with Python up to 3.12 on x86_64" in MxnetEngine.missing("cpu")
    with pytest.raises(EngineUnavailableError, match="convert the model to ONNX"):
        MxnetEngine(Place("cpu", 1)).start()
