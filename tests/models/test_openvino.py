"""OpenVINO's own files, and ONNX, in OpenVINO."""

import pickle
import re
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import openvino
import psutil
import pytest
from dlmodels.engines import openvino_runtime
from dlmodels.engines.base import Engine, Place
from dlmodels.engines.openvino import OpenVinoEngine
from dlmodels.engines.openvino_runtime import OpenVinoModel
from dlmodels.errors import (
    EngineUnavailableError,
    ForwardError,
    LoadError,
    OutOfMemoryError,
    RepositoryError,
    SettingError,
)
from dlmodels.repository import ModelSpec, clear, read_model, scan, write_model

from .onnx_files import IMAGE, Net, noise

CORES = psutil.cpu_count() or 1


def started(threads: int = 1, *, map_files: bool = True) -> Engine:
    """An engine of so many threads."""
    engine = OpenVinoEngine(Place("cpu", threads, map_files=map_files))
    engine.start()
    return engine


@pytest.fixture(scope="module")
def vino() -> Engine:
    return started()


def described(folder: Path, **parameters: object) -> ModelSpec:
    """As a person would drop it in, and say what it is."""
    spec = read_model(folder, engine="openvino", classes=5, image_input=IMAGE)
    return msgspec.structs.replace(spec, parameters=parameters)


def write_ir(net: Net, folder: Path) -> Path:
    """`net.xml` and `net.bin`."""
    path = net.write(folder)
    openvino.save_model(openvino.Core().read_model(path), folder / "net.xml", compress_to_fp16=False)
    path.unlink()
    return folder / "net.xml"


@pytest.mark.parametrize("as_ir", [True, False], ids=["ir", "onnx"])
@pytest.mark.parametrize(
    ("net", "tolerance"),
    [
        (Net(), 1e-5),
        (Net(softmax=True), 1e-5),
        (Net(channels_last=True), 1e-5),
        (Net(batch=1), 1e-5),
        (Net(batch=4), 1e-5),
        (Net(half=True), 5e-3),
        (Net(more_outputs=[("embedding", 7)]), 1e-5),
    ],
    ids=["plain", "softmax", "nhwc", "batch of 1", "batch of 4", "half", "two outputs"],
)
def test_answers_are_the_networks_own_and_survive_a_reload(
    vino: Engine, tmp_path: Path, net: Net, tolerance: float, as_ir: bool
) -> None:
    write_ir(net, tmp_path) if as_ir else net.write(tmp_path)
    model = vino.prepare(described(tmp_path))
    assert model.most_images == net.batch
    images = noise(min(3, net.batch or 3))
    for _ in range(2):
        model.load()
        model.load()
        for batch in (images, images[:1]):
            rows = model.run(batch)
            assert rows.dtype == np.float32
            assert np.abs(rows - net.answer(batch)).max() < tolerance
        model.unload()
        model.unload()
    with pytest.raises(ForwardError, match="is not loaded"):
        model.run(images)


def test_an_answer_stays_as_it_is_when_the_next_one_comes(vino: Engine, tmp_path: Path) -> None:
    net = Net(softmax=True)
    write_ir(net, tmp_path)
    model = vino.prepare(described(tmp_path))
    model.load()
    first = model.run(noise(2))
    kept = first.copy()
    model.run(noise(3)[1:])
    model.unload()
    assert np.array_equal(first, kept)


def test_settings_are_read_back_from_the_compiled_network(vino: Engine, tmp_path: Path) -> None:
    write_ir(Net(), tmp_path)
    assert vino.prepare(described(tmp_path)).settings == {
        "threads": 1,
        "hint": "latency",
        "streams": 1,
        "datatype": "fp32",
        "pinning": False,
        "batch": None,
        "layout": "nchw",
        "cache": False,
    }


@pytest.mark.skipif(CORES < 2, reason="the throughput hint needs two threads, and this machine has one core")
def test_the_throughput_hint_splits_batches_and_answers_alike(tmp_path: Path) -> None:
    net = Net()
    write_ir(net, tmp_path)
    model = started(2).prepare(described(tmp_path, hint="throughput"))
    assert (model.settings["hint"], model.settings["streams"], model.settings["threads"]) == ("throughput", 2, 2)
    model.load()
    assert isinstance(model, OpenVinoModel)
    assert len(model._requests) == 2
    for count in (1, 2, 3, 8):
        assert np.abs(model.run(noise(count)) - net.answer(noise(count))).max() < 1e-5
    model.unload()
    assert started(2).prepare(described(tmp_path, hint="throughput", streams=1)).settings["streams"] == 1
    assert started(2).prepare(described(tmp_path, hint="throughput", streams=0)).settings["streams"] in (1, 2)


@pytest.mark.skipif(CORES < 2, reason="the throughput hint needs two threads, and this machine has one core")
def test_each_lane_runs_a_batch_whole_beside_the_others(tmp_path: Path) -> None:
    net = Net()
    net.write(tmp_path)
    model = started(2).prepare(described(tmp_path, hint="throughput", pinning=True))
    assert model.settings["pinning"] is True
    model.load()
    lanes = model.lanes
    assert len(lanes) == 2
    answers: dict[int, list[Any]] = {0: [], 1: []}

    def work(place: int) -> None:
        answers[place] = [lanes[place](noise(place + 2)) for _ in range(50)]

    threads = [threading.Thread(target=work, args=(place,)) for place in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, found in answers.items():
        assert len(found) == 50
        assert max(np.abs(rows - net.answer(noise(place + 2))).max() for rows in found) < 1e-5
    with pytest.raises(ForwardError, match="float32"):
        lanes[0](noise(1).astype(np.float64))
    model.unload()


def test_with_the_latency_hint_there_is_one_lane(vino: Engine, tmp_path: Path) -> None:
    Net().write(tmp_path)
    model = vino.prepare(described(tmp_path))
    model.load()
    (lane,) = model.lanes
    assert np.array_equal(lane(noise(2)), model.run(noise(2)))
    model.unload()


def test_a_batch_that_was_compiled_for_is_kept_to(vino: Engine, tmp_path: Path) -> None:
    net = Net()
    write_ir(net, tmp_path)
    model = vino.prepare(described(tmp_path, batch=3))
    assert (model.settings["batch"], model.most_images) == (3, 3)
    model.load()
    for count in (3, 2):
        assert np.abs(model.run(noise(count)) - net.answer(noise(count))).max() < 1e-5
    with pytest.raises(ForwardError, match="the graph takes batches of 3, not of 4"):
        model.run(noise(4))
    model.unload()


def test_a_graph_that_fixes_its_batch_is_compiled_for_no_other(vino: Engine, tmp_path: Path) -> None:
    Net(batch=2).write(tmp_path)
    with pytest.raises(SettingError, match="batch = 4 is for graphs that leave it open, and"):
        vino.prepare(described(tmp_path, batch=4))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"streams_": 2}, "has a setting 'streams_', which does not exist. Did you mean 'streams'?"),
        ({"hint": "fast"}, "hint: Invalid enum value 'fast'"),
        ({"streams": -1, "hint": "throughput"}, "streams: Expected `int` >= 0"),
        ({"streams": 2}, 'streams are for hint = "throughput"; with latency there is one: leave them out'),
        ({"hint": "throughput"}, "is of no use to one thread: leave it out, or start dlserve with more --threads"),
        ({"output": "logits"}, "has no output 'logits': correct `output`; there are 'scores' (?, 5)"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(
    vino: Engine, tmp_path: Path, parameters: dict[str, Any], expected: str
) -> None:
    Net().write(tmp_path)
    with pytest.raises(SettingError, match=re.escape(expected)):
        vino.prepare(described(tmp_path, **parameters))


def test_the_throughput_hint_is_refused_where_the_graph_fixes_the_batch(tmp_path: Path) -> None:
    Net(batch=2).write(tmp_path)
    with pytest.raises(SettingError, match="splits batches, and the graph takes those of 2 only: leave the hint out"):
        started(2).prepare(described(tmp_path, hint="throughput"))


def test_more_threads_than_the_machine_has_are_refused(tmp_path: Path) -> None:
    Net().write(tmp_path)
    with pytest.raises(
        SettingError, match=rf"openvino uses threads {CORES}, not {CORES + 7} as asked: .* fewer --threads"
    ):
        started(CORES + 7).prepare(described(tmp_path))


@pytest.mark.parametrize("datatype", ["bf16", "fp16"])
def test_a_lower_precision_is_what_was_asked_for_or_an_error(vino: Engine, tmp_path: Path, datatype: str) -> None:
    net = Net()
    write_ir(net, tmp_path)
    try:
        model = vino.prepare(described(tmp_path, datatype=datatype))
    except SettingError as exc:
        assert re.search(rf"uses datatype \w+, not {datatype} as asked", str(exc))  # noqa: PT017  either may come
        return
    assert model.settings["datatype"] == datatype
    model.load()
    assert np.abs(model.run(noise(3)) - net.answer(noise(3))).max() < 5e-2


def test_the_compiled_network_is_kept_in_the_models_folder_and_cleared_with_it(vino: Engine, tmp_path: Path) -> None:
    net = Net()
    folder = tmp_path / "m"
    write_ir(net, folder)
    spec = write_model(folder, described(folder, cache=True))
    model = vino.prepare(spec)
    assert model.settings["cache"] is True
    kept = list((folder / ".cache").iterdir())
    assert [path.suffix for path in kept] == [".blob"]
    before = kept[0].stat().st_mtime_ns
    model.load()
    assert np.abs(model.run(noise(3)) - net.answer(noise(3))).max() < 1e-5
    model.unload()
    assert [path.stat().st_mtime_ns for path in (folder / ".cache").iterdir()] == [before]
    assert [found.name for found in scan(tmp_path)] == ["m"]
    clear(folder, "lib")
    assert list(folder.iterdir()) == []


def test_a_damaged_cache_is_made_anew(vino: Engine, tmp_path: Path) -> None:
    net = Net()
    write_ir(net, tmp_path)
    spec = described(tmp_path, cache=True)
    vino.prepare(spec)
    for content in (b"", b"hello" * 100):
        for path in (tmp_path / ".cache").iterdir():
            path.write_bytes(content)
        model = vino.prepare(spec)
        model.load()
        assert np.abs(model.run(noise(3)) - net.answer(noise(3))).max() < 1e-5
        model.unload()


def test_a_cache_that_cannot_be_written_is_told(vino: Engine, tmp_path: Path) -> None:
    write_ir(Net(), tmp_path)
    (tmp_path / ".cache").write_text("in the way")
    with pytest.raises(RepositoryError, match="make the folder writable, or remove `cache`"):
        vino.prepare(described(tmp_path, cache=True))


@pytest.mark.parametrize("map_files", [True, False])
def test_weights_are_mapped_only_where_that_is_allowed_and_never_once_unloaded(tmp_path: Path, map_files: bool) -> None:
    def mapped() -> set[str]:
        return {entry.path for entry in psutil.Process().memory_maps()} & {str(tmp_path / "net.bin")}

    net = Net()
    write_ir(net, tmp_path)
    model = started(map_files=map_files).prepare(described(tmp_path))
    model.load()
    assert np.abs(model.run(noise(3)) - net.answer(noise(3))).max() < 1e-5
    assert map_files or not mapped()
    model.unload()
    assert not mapped()


def test_weights_of_an_onnx_file_may_lie_beside_it(vino: Engine, tmp_path: Path) -> None:
    net = Net()
    net.write(tmp_path, data="weights.bin")
    spec = msgspec.structs.replace(described(tmp_path), graph="", weights="net.onnx")
    model = vino.prepare(spec)
    assert model.weights_bytes == sum((tmp_path / name).stat().st_size for name in ("net.onnx", "weights.bin"))
    model.load()
    assert np.abs(model.run(noise(2)) - net.answer(noise(2))).max() < 1e-5
    model.unload()
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(LoadError, match="put the file back"):
        model.load()
    with pytest.raises(LoadError, match=r"keeps weights in the file 'weights.bin', which is missing"):
        vino.prepare(spec)


def test_wrong_files_are_refused_with_a_cure(vino: Engine, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    graph = write_ir(Net(), tmp_path)
    weights = tmp_path / "net.bin"
    for path in (graph, weights):
        whole = path.read_bytes()
        for content in (pickle.dumps(Trap()), b"PK\x03\x04" + b"\0" * 9, whole[: len(whole) // 2], b""):
            path.write_bytes(content)
            with pytest.raises(LoadError, match=r"cannot be loaded by openvino .*: copy the model again, or convert"):
                vino.prepare(described(tmp_path))
        path.write_bytes(whole)
    assert not (tmp_path / "sprung").exists()
    spec = described(tmp_path)
    weights.unlink()
    with pytest.raises(LoadError, match=r"net.bin cannot be read \(No such file"):
        vino.prepare(spec)


def test_a_wrong_hash_is_told_before_the_file_is_used(vino: Engine, tmp_path: Path) -> None:
    write_ir(Net(), tmp_path)
    spec = write_model(tmp_path, described(tmp_path))
    content = bytearray((tmp_path / "net.bin").read_bytes())
    content[0] ^= 1
    (tmp_path / "net.bin").write_bytes(content)
    with pytest.raises(LoadError, match="another content than its sha256"):
        vino.prepare(spec)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (
            Net(operator="GlobalSecretPool"),
            "(-- No conversion rule found for operations: GlobalSecretPool-13): copy the model",
        ),
        (Net(side=8), "takes pictures of shape (?, 3, 8, 8), and"),
    ],
)
def test_a_graph_that_cannot_work_is_told_with_a_cure(vino: Engine, tmp_path: Path, net: Net, expected: str) -> None:
    net.write(tmp_path)
    with pytest.raises(LoadError, match=re.escape(expected)):
        vino.prepare(described(tmp_path))


def test_the_number_of_classes_is_checked(vino: Engine, tmp_path: Path) -> None:
    write_ir(Net(), tmp_path)
    with pytest.raises(
        LoadError, match=r"gives scores of shape \(1, 5\) for a batch of 1, where 7 classes are expected"
    ):
        vino.prepare(msgspec.structs.replace(described(tmp_path), classes=7))


@pytest.mark.parametrize(
    ("graph", "weights", "architecture"),
    [("", "net.pt", ""), ("net.xml", "net.onnx", ""), ("", "net.bin", ""), ("net.xml", "net.bin", "resnet18")],
)
def test_other_files_than_openvinos_are_refused(vino: Engine, graph: str, weights: str, architecture: str) -> None:
    spec = ModelSpec("m", "openvino", graph=graph, weights=weights, architecture=architecture)
    with pytest.raises(
        RepositoryError, match=r"openvino takes an \*.xml as graph with a \*.bin as weights, or an \*.onnx"
    ):
        vino.prepare(spec)


def test_a_forward_that_fails_is_told_and_the_next_one_works(vino: Engine, tmp_path: Path) -> None:
    net = Net()
    model = net.proto()
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_param = "side"
    onnx.save_model(model, tmp_path / "net.onnx")
    prepared = vino.prepare(described(tmp_path))
    prepared.load()
    with pytest.raises(ForwardError, match="failed on a batch of 1"):
        prepared.run(np.zeros((1, 4, 16, 16), np.float32))
    assert np.abs(prepared.run(noise(2)) - net.answer(noise(2))).max() < 1e-5


def test_what_openvino_says_when_memory_is_refused_is_understood() -> None:
    """As SqueezeNet in a process of limited RLIMIT_DATA raised it: OpenVINO has no type of its own for it."""
    said = "Exception from src/inference/src/cpp/infer_request.cpp:245:\nFailed to allocate 49561600 bytes of memory"
    assert openvino_runtime._is_out_of_memory(RuntimeError(said))
    assert not openvino_runtime._is_out_of_memory(RuntimeError("Input shape is not compatible with the model"))


def test_nothing_of_the_weights_stays_when_unloaded(vino: Engine, tmp_path: Path) -> None:
    model = Net().proto()
    blob = np.random.default_rng(0).standard_normal((3 * 256, 2048)).astype(np.float32)  # 6 MiB
    model.graph.initializer.append(onnx.numpy_helper.from_array(blob, "wide"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2048, 5), np.float32), "narrow"))
    model.graph.node.extend(
        [
            onnx.helper.make_node("Flatten", ["data"], ["pixels"]),
            onnx.helper.make_node("Gemm", ["pixels", "wide"], ["many"]),
            onnx.helper.make_node("Gemm", ["many", "narrow"], ["few"]),
            onnx.helper.make_node("Add", ["scores", "few"], ["sum"]),
        ]
    )
    model.graph.output[0].name = "sum"
    onnx.save_model(model, tmp_path / "net.onnx")
    prepared = vino.prepare(described(tmp_path))
    assert isinstance(prepared, OpenVinoModel)
    resident = []
    for _ in range(60):
        prepared.load()
        prepared.run(noise(1))
        prepared.unload()
        assert prepared._requests == []
        resident.append(psutil.Process().memory_info().rss)
    assert max(resident[50:]) < max(resident[:10]) + 10 * blob.nbytes, "40 times the weights, had they stayed"


def test_a_model_too_large_for_the_machine_is_not_begun(
    vino: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Net().write(tmp_path)
    model = vino.prepare(described(tmp_path))
    monkeypatch.setattr(type(model), "weights_bytes", 1 << 60)
    with pytest.raises(OutOfMemoryError, match=r"do not fit the .* bytes that are free: unload another model"):
        model.load()


def test_what_is_wrong_is_raised_and_not_printed(
    vino: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Net(operator="GlobalSecretPool").write(tmp_path)
    with pytest.raises(LoadError):
        vino.prepare(described(tmp_path))
    assert capfd.readouterr().err == ""


def test_it_is_told_where_the_engine_cannot_work() -> None:
    with pytest.raises(EngineUnavailableError, match=r"call start\(\) first"):
        OpenVinoEngine(Place("cpu", 1)).prepare(ModelSpec("m", "openvino"))
    with pytest.raises(EngineUnavailableError, match="computes on the CPU only, not on cuda:0"):
        OpenVinoEngine(Place("cuda:0", 1)).start()
