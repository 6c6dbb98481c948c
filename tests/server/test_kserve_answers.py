"""KServe's answers are those of POST /predict, whatever form the image comes in: on a simulated engine and on torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from dlmodels import images
from dlmodels.images import InputSpec
from dlmodels.repository import read_model
from numpy.typing import NDArray

from tests.conftest import Server, simulated
from tests.server.conftest import NETWORK, photograph
from tests.server.open_inference import Tensor, files, infer, numbers, output

JPEG = {"Content-Type": "image/jpeg"}
FORMS = ("UINT8", "FP32", "BYTES")
STAGES = {"wire", "decode", "queue", "demote", "load", "forward", "post"}


@dataclass(frozen=True)
class Model:
    """A running server's model."""

    client: httpx.Client
    name: str
    spec: InputSpec
    labels: list[str]

    def predict(self, image: bytes, best: int = -1) -> NDArray[np.float32]:
        """DeepDetect's answer, in the order of the classes."""
        answer = self.client.post(f"/predict/{self.name}?best={best}", content=image, headers=JPEG)
        assert answer.status_code == 200, answer.text
        row = np.zeros(1000, np.float32)
        for item in answer.json()["body"]["predictions"][0]["classes"]:
            row[self.labels.index(item["cat"])] = item["prob"]
        return row

    def tensor(self, form: str, pictures: list[bytes]) -> Tensor:
        """The pictures as a client would send them in that form."""
        if form == "BYTES":
            return files(pictures)
        pixels = [images.decode(picture, self.spec) for picture in pictures]
        return numbers(np.stack(pixels) if form == "UINT8" else images.stack(pixels, self.spec))


@pytest.fixture(scope="module", params=["simulated", "torch"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    """On a simulated engine that decodes, and a real network on torch."""
    if request.param == "simulated":
        server = Server("--workers", "2", "--devices", "cpu").wait_ready()
        spec, labels = InputSpec(), [str(index) for index in range(1000)]
    else:
        repository: Path = request.getfixturevalue("repository")
        server = Server("--workers", "2", "--models-dir", str(repository)).wait_ready()
        spec = read_model(repository / NETWORK).input
    with server.client() as client:
        if request.param == "simulated":
            simulated(client, NETWORK, decode=True, bytes=1000)
        else:
            labels = client.get(f"/services/{NETWORK}?labels=true").json()["body"]["labels"]
        yield Model(client, NETWORK, spec, labels)
    assert server.stop() == 0


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize(("form", "tolerance"), [("BYTES", 1e-6), ("UINT8", 1e-6), ("FP32", 1e-4)])
def test_every_form_of_an_image_gives_what_predict_gives(
    model: Model, form: str, tolerance: float, binary: bool
) -> None:
    image = photograph(4)
    content, only, rows = output(infer(model.client, model.name, model.tensor(form, [image]), binary=binary))
    assert (only["name"], only["datatype"], only["shape"]) == ("probabilities", "FP32", [1, 1000])
    assert (content["model_name"], content["model_version"]) == (model.name, "1")
    assert rows[0] == pytest.approx(model.predict(image), abs=tolerance)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_n_gives_what_n_single_calls_give_in_order(model: Model, form: str) -> None:
    pictures = [photograph(seed) for seed in (3, 1, 4, 1, 5)]
    parameters = {"binary_data_output": True}
    answer = infer(model.client, model.name, model.tensor(form, pictures), binary=True, parameters=parameters)
    content, only, rows = output(answer)
    assert content["parameters"]["batch_size"] == 5
    assert only["shape"] == [5, 1000]
    for picture, row in zip(pictures, rows, strict=True):
        assert row == pytest.approx(model.predict(picture), abs=1e-4)


def test_pixels_of_another_size_are_resized_as_a_decoded_image_is(model: Model) -> None:
    image = photograph(6)
    whole = images.decode(image, InputSpec(width=320, height=240, rgb=model.spec.rgb))
    _, _, rows = output(infer(model.client, model.name, numbers(whole[np.newaxis]), binary=True))
    assert rows[0] == pytest.approx(model.predict(image), abs=1e-6)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_a_classification_names_the_best_classes_with_value_index_and_label(model: Model, binary: bool) -> None:
    pictures = [photograph(7), photograph(8)]
    outputs = [{"name": "probabilities", "parameters": {"classification": 3, "binary_data": binary}}]
    _, only, rows = output(infer(model.client, model.name, files(pictures), binary=True, outputs=outputs))
    assert (only["datatype"], only["shape"]) == ("BYTES", [2, 3])
    for picture, texts in zip(pictures, rows, strict=True):
        all_of_it = model.predict(picture)
        found = [text.split(":", 2) for text in texts]
        assert [float(value) for value, *_ in found] == pytest.approx(sorted(all_of_it)[:-4:-1], abs=1e-4)
        for value, index, *label in found:
            assert all_of_it[int(index)] == pytest.approx(float(value), abs=1e-4)
            assert label == ([] if model.labels[0] == "0" else [model.labels[int(index)]])


def test_more_classes_than_there_are_is_all_of_them(model: Model) -> None:
    outputs = [{"name": "probabilities", "parameters": {"classification": 5000}}]
    _, only, rows = output(infer(model.client, model.name, files([photograph(7)]), binary=True, outputs=outputs))
    assert only["shape"] == [1, 1000]
    assert len({text.split(":")[1] for text in rows[0]}) == 1000


def test_the_answer_tells_what_deepdetects_head_tells_in_the_protocols_terms(model: Model) -> None:
    asked = {"cache": "disk", "worker": 1}
    content, _, _ = output(
        infer(model.client, model.name, files([photograph(1)]), binary=True, parameters=asked, id="a7")
    )
    told: dict[str, Any] = content["parameters"]
    assert content["id"] == "a7"
    assert (told["cache"], told["worker"], told["batch_size"]) == ("disk", 1, 1)
    assert all(isinstance(value, str | int | float) for value in told.values())  # the protocol has no others
    timing = json.loads(told["timing"])
    assert set(timing) == STAGES
    assert 0 < sum(timing.values()) <= told["time"] / 1e3
    warm, _, _ = output(infer(model.client, model.name, files([photograph(1)]), binary=True, parameters={"worker": 1}))
    assert warm["parameters"]["cache"] == "warm"


def test_a_raw_binary_request_is_the_declared_tensor_and_nothing_else(model: Model) -> None:
    tensor = model.tensor("UINT8", [photograph(1), photograph(2)])
    headers = {"Inference-Header-Content-Length": "0"}
    answer = model.client.post(f"/v2/models/{model.name}/infer", content=tensor.binary, headers=headers)
    _, only, rows = output(answer)
    assert only["shape"] == [2, 1000]
    assert rows[1] == pytest.approx(model.predict(photograph(2)), abs=1e-4)


def test_metadata_tell_what_makes_the_servers_own_planes(model: Model) -> None:
    told = model.client.get(f"/v2/models/{model.name}").json()["parameters"]
    assert told["channel_order"] == ("RGB" if model.spec.rgb else "BGR")
    assert (told["scale"], told["interp"]) == (model.spec.scale, model.spec.interp)
    assert tuple(json.loads(told["mean"])) == model.spec.mean
    assert tuple(json.loads(told["std"])) == model.spec.std
