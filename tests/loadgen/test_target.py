"""dlload.target: what a server says of itself, and what is told when it does not fit the options."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from dlclient.client import Client
from dlload import target as target_module
from dlload.errors import TargetError
from dlload.options import StreamOptions
from dlload.target import find_target, look_at, protocol_name

URL = "http://server:1"
DLSERVE = {
    "services": [
        {"name": "vgg16", "dlserve": {"weights_bytes": 500, "simulated": False}},
        {"name": "alexnet", "dlserve": {"weights_bytes": 200, "simulated": True}, "more": 1},
    ],
    "dlserve": {
        "workers": [
            {"worker": 0, "up": True, "budget_bytes": 700, "generation": 2},
            {"worker": 1, "up": False, "budget_bytes": 0, "generation": 0},
            {"worker": 2, "up": True, "budget_bytes": 900, "generation": 0},
        ]
    },
}
ALL_UP = DLSERVE | {
    "dlserve": {"workers": [{"worker": worker, "up": True, "budget_bytes": 900} for worker in range(3)]}
}
BARE = {"services": [{"name": "squeezenet"}, {"name": "ambulance"}], "version": "v0.29.0"}


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client(URL, transport=httpx.MockTransport(answer))


def server(head: dict[str, Any]) -> Client:
    return client(lambda _: httpx.Response(200, json={"head": head}))


def options(**settings: Any) -> StreamOptions:
    return StreamOptions(url=URL, **settings)


def test_dlserve_tells_services_workers_and_sizes() -> None:
    target = look_at(server(DLSERVE))
    assert target.is_dlserve
    assert target.services == ("alexnet", "vgg16")
    assert target.weights_bytes == {"vgg16": 500, "alexnet": 200}
    assert target.simulated == {"alexnet"}
    assert [worker.generation for worker in target.workers] == [2, 0, 0]
    assert target.info == DLSERVE


def test_a_plain_deepdetect_tells_its_services() -> None:
    target = look_at(server(BARE))
    assert (target.is_dlserve, target.services, target.workers) == (False, ("ambulance", "squeezenet"), ())
    assert target.weights_bytes == {}


@pytest.mark.parametrize(
    ("services", "workers"),
    [(("vgg16",), (0, 2)), (("vgg16", "alexnet"), (0, 2)), (("vgg16", "alexnet", "vgg16"), ())],
)
def test_workers_are_chosen_only_if_the_models_fit_in_each_that_is_up(
    services: tuple[str, ...], workers: tuple[int, ...]
) -> None:
    assert look_at(server(DLSERVE)).workers_to_pin(services) == workers


def test_no_worker_is_chosen_where_none_is_told() -> None:
    assert look_at(server(BARE)).workers_to_pin(("squeezenet",)) == ()


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("[Errno 111] Connection refused", request=request)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (refuse, r"no server at http://server:1 \(.*Connection refused\); start one \(dlserve\) or .* --host"),
        (lambda _: httpx.Response(200, text="<html>"), "does not answer /info as a DeepDetect-style server"),
        (lambda _: httpx.Response(404, text="no"), "does not answer /info.*answered 404"),
        (lambda _: httpx.Response(200, json={"head": {"services": "none"}}), "does not answer /info"),
    ],
)
def test_what_is_no_server_is_told(answer: Callable[[httpx.Request], httpx.Response], says: str) -> None:
    with pytest.raises(TargetError, match=says):
        look_at(client(answer))


def test_all_services_are_asked_in_alphabetical_order_and_named_ones_as_named() -> None:
    assert find_target(server(ALL_UP), options())[1] == ("alexnet", "vgg16")
    assert find_target(server(ALL_UP), options(services=("vgg16", "alexnet")))[1] == ("vgg16", "alexnet")


def test_a_missing_service_is_told_with_those_that_there_are() -> None:
    with pytest.raises(TargetError, match=r"no service resnet (.*alexnet, vgg16.*)--model-dir"):
        find_target(server(ALL_UP), options(services=("vgg16", "resnet")))


def test_a_server_without_services_tells_how_to_get_one() -> None:
    with pytest.raises(TargetError, match="dlmodels build"):
        find_target(server({"services": []}), options())


def test_a_missing_service_is_created_from_the_model_folder() -> None:
    bodies: dict[str, Any] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            bodies[request.url.path] = json.loads(request.content)
            return httpx.Response(201, json={"status": {"code": 201}})
        names = ["vgg16", *(path.rpartition("/")[2] for path in bodies)]
        return httpx.Response(200, json={"head": {"services": [{"name": name} for name in names]}})

    wanted = options(services=("vgg16", "resnet18"), model_dir=Path("/models"))
    target, services = find_target(client(answer), wanted)
    assert services == ("vgg16", "resnet18")
    assert target.services == ("resnet18", "vgg16")
    assert list(bodies) == ["/services/resnet18"]
    assert bodies["/services/resnet18"]["mllib"] == "torch"
    assert bodies["/services/resnet18"]["model"] == {"repository": "/models/resnet18"}


def test_a_service_that_cannot_be_created_tells_why() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            status = {"code": 400, "msg": "BadRequest", "dd_code": 1006, "dd_msg": "no such repository"}
            return httpx.Response(400, json={"status": status})
        return httpx.Response(200, json={"head": {"services": []}})

    with pytest.raises(TargetError, match=r"resnet18 cannot be created from /models/resnet18: .*no such repository"):
        find_target(client(answer), options(services=("resnet18",), model_dir=Path("/models")))


def test_workers_that_come_up_are_waited_for(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "_LOOK_S", 0.0)
    heads = iter((DLSERVE, DLSERVE, ALL_UP))
    with caplog.at_level(logging.INFO):
        target, _ = find_target(client(lambda _: httpx.Response(200, json={"head": next(heads)})), options())
    assert all(worker.up for worker in target.workers)
    assert target.workers_to_pin(("vgg16",)) == (0, 1, 2)
    told = [record.message for record in caplog.records if record.name == target_module.__name__]
    assert told == ["waiting for worker 1 of 3 of http://server:1 to come up"]


def test_a_worker_that_does_not_come_up_is_told_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "UP_S", 0.0)
    with pytest.raises(
        TargetError, match=r"http://server:1: worker 1 of 3 did not come up in 0 s; see the server's log"
    ):
        find_target(server(DLSERVE), options())


def test_another_number_of_workers_than_asked_for_is_told() -> None:
    assert find_target(server(ALL_UP), options(gpu_num=3))[0].is_dlserve
    with pytest.raises(TargetError, match=r"--gpu-num 8: .* runs 3 workers; start it with dlserve --workers 8"):
        find_target(server(ALL_UP), options(gpu_num=8))


def test_a_number_of_workers_that_cannot_be_checked_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        find_target(server(BARE), options(gpu_num=8))
    assert "--gpu-num 8 cannot be checked" in caplog.text


@pytest.mark.parametrize(
    ("asked", "head", "batch_size", "used"),
    [
        ("auto", DLSERVE, 1, "raw"),
        ("auto", DLSERVE, 2, "deepdetect"),
        ("auto", BARE, 1, "deepdetect"),
        ("deepdetect", DLSERVE, 1, "deepdetect"),
        ("raw", BARE, 1, "raw"),
    ],
)
def test_the_fast_way_in_is_taken_where_it_works(asked: str, head: dict[str, Any], batch_size: int, used: str) -> None:
    assert protocol_name(options(protocol=asked, batch_size=batch_size), look_at(server(head))) == used
