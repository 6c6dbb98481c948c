"""Every engine in one server: the same answers, clear errors for wrong files, and no more imported than is served."""

import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import safetensors.numpy

from tests.conftest import Server, status_of
from tests.models.caffe_files import SqueezeNet, input_dims, write_caffe
from tests.server.conftest import FORMATS, NETWORK, photograph

JPEG = {"Content-Type": "image/jpeg"}
TOLERANCE = 1e-3
KINDS = {"torch": ("torch", NETWORK)} | {
    name: (engine, f"{NETWORK}-{kind}") for name, (engine, kind) in FORMATS.items()
}
"""Service -> its engine and folder."""
LIBRARIES = {
    "torch": "libtorch_cpu",
    "mxnet": "libmxnet",
    "onnxruntime": "onnxruntime_pybind",
    "openvino": "libopenvino",
}
"""What of a framework a process has mapped once it is imported."""


@pytest.fixture
def client(every_engine: Server) -> Iterator[httpx.Client]:
    with every_engine.client() as opened:
        yield opened


def probabilities(client: httpx.Client, service: str, image: bytes) -> dict[str, float]:
    answer = client.post(f"/predict/{service}?best=-1", content=image, headers=JPEG)
    assert answer.status_code == 200, answer.text
    return {item["cat"]: item["prob"] for item in answer.json()["body"]["predictions"][0]["classes"]}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_image_gives_the_same_answer_on_every_engine(client: httpx.Client, seed: int) -> None:
    image = photograph(seed)
    expected = probabilities(client, NETWORK, image)
    best = max(expected, key=lambda category: expected[category])
    for name in FORMATS:
        found = probabilities(client, name, image)
        assert max(found, key=lambda category: found[category]) == best, name
        assert found == pytest.approx(expected, abs=TOLERANCE), name


def test_info_says_what_each_engine_can_do_here_and_why_one_cannot(client: httpx.Client) -> None:
    head = client.get("/info").json()["head"]
    engines = head["dlserve"]["engines"]
    assert set(engines) == {"torch", "mxnet", "onnxruntime", "openvino", "opencv", "tensorrt", "simulated"}
    for name in {engine for engine, _ in FORMATS.values()}:
        assert engines[name]["available"], engines[name]
        assert engines[name]["version"][0].isdigit()
        assert engines[name]["formats"]
    assert "streams" in engines["openvino"]["settings"]
    assert (engines["tensorrt"]["available"], "tensorrt computes on cuda" in engines["tensorrt"]["missing"]) == (
        False,
        True,
    )
    services = {service["name"]: service["dlserve"] for service in head["services"]}
    for name, (engine, _) in FORMATS.items():
        assert services[name]["engine"] == engine
        assert services[name]["settings"], "what the framework really uses, read back"


# ---- wrong files


class Trap:
    """Whoever unpickles it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def weights_of(folder: Path) -> Path:
    (weights,) = (
        path for path in folder.iterdir() if path.suffix in (".safetensors", ".pt", ".pt2", ".onnx", ".bin", ".params")
    )
    return weights


def truncate(folder: Path, _trap: Path) -> None:
    weights = weights_of(folder)
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def flip(folder: Path, _trap: Path) -> None:
    weights = weights_of(folder)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)


def lose_labels(folder: Path, _trap: Path) -> None:
    (folder / "corresp.txt").unlink()


def swap(folder: Path, _trap: Path) -> None:
    """Another framework's file under this one's name, and no model.toml that could tell."""
    other = folder.parent / (f"{NETWORK}-onnx" if weights_of(folder).suffix != ".onnx" else NETWORK)
    shutil.copyfile(weights_of(other), weights_of(folder))
    (folder / "model.toml").unlink()


def poison(folder: Path, trap: Path) -> None:
    weights_of(folder).write_bytes(pickle.dumps(Trap(trap)))
    (folder / "model.toml").unlink()


def halve(folder: Path, _trap: Path) -> None:
    """Truncated, where no model.toml knows how long it was."""
    truncate(folder, _trap)
    (folder / "model.toml").unlink()


DAMAGES = (truncate, flip, lose_labels, swap, poison, halve)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_file_gets_a_clear_error_and_the_server_goes_on(
    client: httpx.Client,
    formats: Path,
    tmp_path: Path,
    kind: str,
    damage: Callable[[Path, Path], None],
) -> None:
    engine, name = KINDS[kind]
    folder, trap = formats / "wrong", tmp_path / "trapped"
    shutil.copytree(formats / name, folder)
    try:
        damage(folder, trap)
        mllib: dict[str, Any] = {"nclasses": 1000}
        if kind == "torch" and not (folder / "model.toml").exists():
            mllib["template"] = NETWORK
        creation = {"mllib": engine, "model": {"repository": "wrong"}, "parameters": {"mllib": mllib}}
        answer = client.put("/services/wrong", json=creation)
        status = status_of(answer)
        assert (status["code"], status["dd_code"]) == (400, 1006), status
        named = status["dd_msg"].replace(f"{formats}/", "")
        assert named.startswith("Service Bad Request Error: wrong/"), "the message names the file"
        assert re.search(r"\b(again|put it there|save|export)\b", named), "and the cure"
        assert not trap.exists()
    finally:
        shutil.rmtree(folder)
    assert client.get("/services/wrong").status_code == 404
    service = NETWORK if kind == "torch" else kind
    assert client.post(f"/predict/{service}", content=photograph(1), headers=JPEG).status_code == 200


@pytest.fixture
def caffe(formats: Path) -> Iterator[str]:
    """A folder as DeepDetect has it: the network's prototxt and caffemodel, no model.toml, no labels."""
    folder = formats / "as-caffe"
    folder.mkdir()
    state = safetensors.numpy.load_file(formats / NETWORK / "weights.safetensors")
    filters = {key: value.transpose(0, 3, 1, 2) if value.ndim == 4 else value for key, value in state.items()}
    write_caffe(folder, input_dims((1, 3, 224, 224)), SqueezeNet(filters).layers())
    yield folder.name
    shutil.rmtree(folder)


def test_a_caffe_folder_is_served_once_a_request_says_its_classes(client: httpx.Client, caffe: str) -> None:
    body = client.get(f"/services/{NETWORK}?labels=true").json()["body"]
    creation: dict[str, Any] = {
        "mllib": "caffe",
        "model": {"repository": caffe},
        "parameters": {"input": body["parameters"]["input"], "mllib": {}},
    }
    refused = status_of(client.put("/services/caffe", json=creation))
    assert (refused["code"], refused["dd_code"]) == (400, 1006)
    assert "nclasses" in refused["dd_msg"]
    creation["parameters"]["mllib"] = {"nclasses": 1000, "gpu": False, "template": ""}
    created = client.put("/services/caffe", json=creation)
    assert created.status_code == 201, created.text
    try:
        facts = client.get("/services/caffe").json()["body"]
        assert (facts["mllib"], facts["dlserve"]["engine"]) == ("caffe", "opencv")
        found = probabilities(client, "caffe", photograph(1))
        named = {body["labels"][int(index)]: probability for index, probability in found.items()}
        assert named == pytest.approx(probabilities(client, NETWORK, photograph(1)), abs=TOLERANCE)
    finally:
        assert client.delete("/services/caffe").status_code == 200


def test_a_worker_imports_only_the_framework_that_it_serves(
    start_server: Callable[..., Server], formats: Path, tmp_path: Path
) -> None:
    service = f"{NETWORK}-onnx"
    shutil.copytree(formats / service, tmp_path / "models" / service)
    server = start_server("--workers", "1", "--devices", "cpu", "--models-dir", str(tmp_path / "models")).wait_ready()
    with server.client() as client:
        assert probabilities(client, service, photograph(1))
    for child in psutil.Process(server.process.pid).children():
        mapped = Path(f"/proc/{child.pid}/maps").read_text()
        used = {name for name, library in LIBRARIES.items() if library in mapped}
        assert used == ({"onnxruntime"} if "dlserve.worker" in child.cmdline() else set()), child.cmdline()
