"""dlload.target and .discovery against servers other than dlserve: what they serve, and what is told when they do not."""

import logging
from typing import Any

import pytest
from dlclient.client import Client
from dlload.discovery.kserve import model_form
from dlload.discovery.torchserve import management_url
from dlload.errors import OptionError, TargetError
from dlload.options import StreamOptions
from dlload.protocol_options import ProtocolOptions
from dlload.protocols.choice import create_protocol
from dlload.protocols.tensors import Normalization, read_input
from dlload.target import Target, find_target, look_again, protocol_name

from tests.loadgen.fake_servers import Answer, Asked, FakeKServe, FakeTorchServe, as_json


def options(url: str, protocol: str = "kserve", asking: dict[str, Any] | None = None, **more: Any) -> StreamOptions:
    return StreamOptions(url=url, protocol=protocol, timeout_s=10.0, asking=ProtocolOptions(**(asking or {})), **more)


def find(wanted: StreamOptions) -> tuple[Target, tuple[str, ...]]:
    with Client(wanted.url, timeout_s=10.0) as client:
        return find_target(client, wanted)


@pytest.mark.parametrize("protocol", ["kserve", "auto"])
def test_a_kserve_server_tells_its_models_and_their_inputs(protocol: str) -> None:
    with FakeKServe() as server:
        wanted = options(server.url, protocol)
        target, services = find(wanted)
        assert services == ("Beta", "alpha")
        assert (target.style, target.is_dlserve, target.takes_binary) == ("kserve", False, True)
        assert target.models["alpha"].input.datatype == "BYTES"
        assert target.models["Beta"].input.size == (8, 8, 3)
        assert target.models["Beta"].counted == {"scores"}
        assert target.info["server"]["name"] == "fake"
        assert target.info["models"]["alpha"]["inputs"][0]["shape"] == [-1, 1]
        assert protocol_name(wanted, target) == "kserve"
        with Client(server.url) as client:
            server.loaded.discard("alpha")
            assert look_again(client, wanted, target).not_ready == {"alpha": "UNAVAILABLE: unloaded"}


def test_dlserve_asked_by_v2_still_tells_its_workers() -> None:
    def react(asked: Asked) -> Answer | None:
        if asked.path != "/info":
            return None
        workers = [{"worker": 0, "up": True, "budget_bytes": 900}]
        services = [{"name": "alpha", "dlserve": {"weights_bytes": 500}}]
        return as_json(200, {"head": {"services": services, "dlserve": {"workers": workers}}})

    with FakeKServe(name="dlserve", react=react) as server:
        wanted = options(server.url, services=("alpha",))
        target, _ = find(wanted)
        with Client(server.url) as client:
            now = look_again(client, wanted, target)
    for seen in (target, now):
        assert (seen.style, seen.is_dlserve, seen.weights_bytes) == ("kserve", True, {"alpha": 500})
        assert seen.workers_to_pin(("alpha",)) == (0,)
        assert seen.models == target.models


def test_named_models_are_found_in_any_spelling_and_only_they_are_asked_about() -> None:
    with FakeKServe() as server:
        assert find(options(server.url, services=("BETA",)))[1] == ("Beta",)
        assert "GET /v2/models/alpha" not in server.lines()


def test_a_model_that_is_not_there_or_not_ready_is_told() -> None:
    with FakeKServe() as server:
        server.loaded.discard("alpha")
        assert find(options(server.url))[1] == ("Beta",)
        with pytest.raises(TargetError, match="model alpha is not ready: UNAVAILABLE: unloaded; load it"):
            find(options(server.url, services=("alpha",)))
        with pytest.raises(TargetError, match=r"has no model gamma \(it has Beta\)"):
            find(options(server.url, services=("gamma",)))
        server.loaded.clear()
        with pytest.raises(TargetError, match="no model that is ready; load one of alpha"):
            find(options(server.url))


def test_a_server_that_cannot_list_is_asked_for_what_its_user_names() -> None:
    with FakeKServe(lists=False) as server:
        assert find(options(server.url, services=("alpha",)))[1] == ("alpha",)
        with pytest.raises(TargetError, match="name its services with --services"):
            find(options(server.url))
        with pytest.raises(TargetError, match="model gamma is not ready"):
            find(options(server.url, services=("gamma",)))


def test_openvino_model_server_lists_its_models_in_its_configuration() -> None:
    def react(asked: Asked) -> Answer | None:
        if asked.path == "/v1/config":
            states = {"alpha": "AVAILABLE", "Beta": "LOADING"}
            return as_json(200, {name: {"model_version_status": [{"state": state}]} for name, state in states.items()})
        return None

    with FakeKServe(lists=False, binary=False, name="OpenVINO Model Server", react=react) as server:
        target, services = find(options(server.url))
    assert services == ("alpha",)
    assert target.not_ready == {"Beta": "not AVAILABLE"}
    assert target.takes_binary


@pytest.mark.parametrize(
    ("path", "answer", "says"),
    [
        ("/v2", (404, b""), "does not know /v2"),
        ("/v2", (200, b"<html>"), "not the answer that the API promises"),
        ("/v2", (500, b"out of order"), "HTTP 500: out of order"),
        ("/v2/repository/index", (200, b"{}"), "not the answer that the API promises"),
        ("/v2/models/alpha", (200, b'{"inputs": 3}'), "model alpha is no metadata"),
        ("/v2/models/alpha", (200, b"{}"), "model alpha tells of 0 inputs.*--input-tensor"),
    ],
)
def test_what_is_no_such_server_is_told(path: str, answer: Answer, says: str) -> None:
    with FakeKServe(react=lambda asked: answer if asked.path == path else None) as server:  # noqa: SIM117
        with pytest.raises(TargetError, match=says):
            find(options(server.url))


def test_nothing_that_listens_is_told() -> None:
    with FakeKServe() as server:
        url = server.url
    with pytest.raises(TargetError, match=r"no server at .*cannot connect.*--host"):
        find(options(url))


def test_a_server_of_neither_kind_is_told_of_both() -> None:
    with FakeKServe(react=lambda _: (404, b"")) as server, pytest.raises(TargetError, match=r"/info.*nor.*/v2"):
        find(options(server.url, "auto"))


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"inputs": [{"name": "a", "datatype": "FP32"}, {"name": "b", "datatype": "FP32"}]}, "2 inputs"),
        ({"inputs": [{"name": "a", "datatype": "INT64", "shape": [-1, 3, 8, 8]}]}, "sent as BYTES, UINT8, FP32"),
    ],
)
def test_inputs_that_no_image_fits_are_told_unless_one_is_said(said: dict[str, Any], says: str) -> None:
    with pytest.raises(TargetError, match=says):
        model_form("m", said, None)
    assert model_form("m", said, read_input("a:BYTES:-1")).input.name == "a"


def test_shapes_in_words_are_read_and_only_outputs_that_follow_the_batch_are_counted() -> None:
    outputs = [{"name": "o", "datatype": "FP32", "shape": ["-1", "5"]}, {"name": "p", "datatype": "FP32", "shape": [5]}]
    said = {"inputs": [{"name": "a", "datatype": "UINT8", "shape": ["N", "8", "8", "3"]}], "outputs": outputs}
    assert model_form("m", said, None).counted == {"o"}
    fixed = {"inputs": [{"name": "a", "datatype": "UINT8", "shape": [1, 8, 8, 3]}], "outputs": outputs}
    assert model_form("m", fixed, None).counted == set()


@pytest.mark.parametrize(
    ("asking", "batch_size", "says"),
    [
        ({"normalization": Normalization(scale=0.5)}, 1, "model alpha takes BYTES, which is not normalised"),
        ({"input_tensor": read_input("image:BYTES:1")}, 2, "--batch-size 2: input image"),
        (
            {"input_tensor": read_input("x:FP32:-1,1,8,8"), "normalization": Normalization(mean=(1, 2, 3))},
            1,
            "--mean: 3 numbers, and model alpha has 1 channel",
        ),
    ],
)
def test_options_that_do_not_fit_a_model_are_told(asking: dict[str, Any], batch_size: int, says: str) -> None:
    with FakeKServe() as server:
        wanted = options(server.url, asking=asking, services=("alpha",), batch_size=batch_size)
        target, _ = find(wanted)
        with pytest.raises(OptionError, match=says):
            create_protocol(wanted, target)


@pytest.mark.parametrize(
    ("told", "tensors", "binary"),
    [(True, "auto", True), (False, "auto", False), (True, "json", False), (False, "binary", True)],
)
def test_tensors_are_binary_where_the_server_says_so_or_its_user(told: bool, tensors: str, binary: bool) -> None:
    with FakeKServe(binary=told) as server:
        wanted = options(server.url, asking={"tensors": tensors})
        protocol = create_protocol(wanted, find(wanted)[0])
    request = protocol.request("alpha", [protocol.encode(b"x", "alpha")], None, None)
    assert (b"Inference-Header-Content-Length" in request) == binary


def test_torchserve_tells_its_models_page_by_page() -> None:
    with FakeTorchServe() as server:
        server.models["beta"] = {"modelUrl": "beta.mar", "minWorkers": 1}
        server.models["gamma"] = {"modelUrl": "gamma.mar", "minWorkers": 0}
        wanted = options(server.url, "torchserve", {"management_url": server.url})
        target, services = find(wanted)
    assert services == ("alpha", "beta")
    assert target.not_ready == {"gamma": "no worker of it is READY"}
    assert target.registrations["alpha"].url == "alpha.mar"
    assert target.registrations["alpha"].settings == {"initial_workers": 2, "batch_size": 1, "max_batch_delay": 100}
    assert target.info["beta"][0]["modelUrl"] == "beta.mar"
    assert create_protocol(wanted, target).name == "torchserve"


def test_torchserve_without_its_management_needs_names(caplog: pytest.LogCaptureFixture) -> None:
    with FakeTorchServe() as gone:
        nowhere = gone.url
    with FakeTorchServe() as server:
        wanted = options(server.url, "torchserve", {"management_url": nowhere}, services=("alpha",))
        with caplog.at_level(logging.WARNING):
            assert find(wanted)[1] == ("alpha",)
        assert "management API does not answer" in caplog.text
        with pytest.raises(TargetError, match=r"management API is needed to list.*or name --services"):
            find(options(server.url, "torchserve", {"management_url": nowhere}))


@pytest.mark.parametrize(
    ("host", "url"),
    [("http://h:8080", "http://h:8081"), ("https://h/x", "https://h:8081"), ("http://[::1]:8080", "http://[::1]:8081")],
)
def test_torchserves_management_is_on_port_8081(host: str, url: str) -> None:
    assert management_url(host) == url


def test_what_is_asked_by_templates_is_named_by_its_user() -> None:
    asking = {"url_template": "/x", "body_template": b'{"data": "{image_base64}"}'}
    target, services = find(options("http://h:1", "json", asking, services=("b", "a")))
    assert (target.style, target.services, services) == ("named", ("a", "b"), ("b", "a"))
    with pytest.raises(TargetError, match="name its services with --services"):
        find(options("http://h:1", "json", asking))
    wanted = options("http://h:1", "json", asking, services=("a",), batch_size=2)
    with pytest.raises(OptionError, match="carry one image"):
        create_protocol(wanted, target)


def test_every_name_makes_its_protocol() -> None:
    target = Target("http://h:1", {}, is_dlserve=True, services=("a",))
    asking = {"url_template": "/x", "body_template": b'["{image_base64}"]'}
    for name in ("deepdetect", "raw", "kserve", "torchserve", "json"):
        assert create_protocol(options("http://h:1", name, asking), target).name == name
