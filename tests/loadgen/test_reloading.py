"""dlload.reloading: how each kind of server is made cold, what keeps others away meanwhile, and what goes wrong."""

from pathlib import Path
from typing import Any

import gevent
import pytest
from dlclient.request_writer import RequestWriter
from dlload.connection import Connection
from dlload.discovery.base import Registration, Style, Target
from dlload.errors import OptionError, TargetError
from dlload.options import StreamOptions
from dlload.protocol_options import ProtocolOptions
from dlload.reloading import Reloader, Step, cold_method, create_reloading, kserve_steps, torchserve_steps

from tests.loadgen.conftest import FakeServer
from tests.loadgen.fake_servers import Answer, Asked, FakeKServe, FakeTorchServe

BODY = b'{"mllib": "caffe", "model": {"repository": "/m/{service}"}}'
REGISTERED = {"alpha": Registration("alpha.mar", {"initial_workers": 2})}


def target(url: str, style: Style = "deepdetect", **more: Any) -> Target:
    return Target(url, {}, services=("alpha",), style=style, **{"is_dlserve": False, **more})


def options(url: str, asking: dict[str, Any] | None = None, **more: Any) -> StreamOptions:
    return StreamOptions(url=url, timeout_s=10.0, asking=ProtocolOptions(**(asking or {})), **more)


@pytest.mark.parametrize(
    ("asking", "more", "of", "method"),
    [
        ({}, {}, {"is_dlserve": True}, "cache"),
        ({"create_body": BODY}, {}, {"is_dlserve": True}, "cache"),
        ({"create_body": BODY, "cold": "reload"}, {}, {"is_dlserve": True}, "reload"),
        ({}, {}, {}, "cache"),
        ({"create_body": BODY}, {}, {}, "reload"),
        ({}, {"model_dir": Path("/m")}, {}, "reload"),
        ({"create_body": BODY, "cold": "cache"}, {}, {}, "cache"),
        ({}, {}, {"style": "kserve"}, "reload"),
        ({}, {}, {"style": "kserve", "is_dlserve": True}, "cache"),
        ({}, {}, {"style": "kserve", "can_list": False}, "cache"),
        ({}, {}, {"style": "torchserve", "registrations": REGISTERED}, "reload"),
        ({}, {}, {"style": "torchserve"}, "cache"),
        ({}, {}, {"style": "named", "can_list": False}, "cache"),
    ],
)
def test_cold_is_by_cache_for_dlserve_and_by_reloading_where_that_can_be_done(
    asking: dict[str, Any], more: dict[str, Any], of: dict[str, Any], method: str
) -> None:
    wanted, found = options("http://h:1", asking, **more), target("http://h:1", **of)
    assert cold_method(wanted, found) == method
    assert (create_reloading(wanted, found, ["alpha"]) is None) == (method == "cache")
    only_warm = options("http://h:1", asking, phases=("warm",), **more)
    assert create_reloading(only_warm, found, ["alpha"]) is None


@pytest.mark.parametrize(
    ("of", "more", "says"),
    [
        ({}, {}, "--create-body, or --model-dir"),
        ({"style": "torchserve"}, {}, "--management-url"),
        ({"style": "named", "can_list": False}, {}, "--phases warm"),
        ({"style": "kserve"}, {"phases": ("warm", "host")}, "leave host out of --phases"),
    ],
)
def test_a_reload_that_cannot_be_done_says_what_is_missing(of: dict[str, Any], more: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=f"--cold reload.*{says}"):
        create_reloading(options("http://h:1", {"cold": "reload"}, **more), target("http://h:1", **of), ["alpha"])


def reload_once(wanted: StreamOptions, found: Target) -> str:
    reloading = create_reloading(wanted, found, ["alpha"])
    assert reloading is not None
    reloader = reloading.reloader
    try:
        with reloader.exclusive("alpha"):
            done = reloader.reload("alpha")
        assert done.seconds > 0
        return done.error
    finally:
        reloader.close()


def test_a_deepdetect_service_is_deleted_and_created_again() -> None:
    with FakeServer(dlserve=False) as server:
        assert reload_once(options(server.url, {"create_body": BODY}), target(server.url)) == ""
        assert server.deleted == ["alpha"]
        assert server.created["alpha"] == {"mllib": "caffe", "model": {"repository": "/m/alpha"}}
        wanted = options(server.url, {"mllib": "ncnn"}, model_dir=Path("/models"))
        assert reload_once(wanted, target(server.url)) == ""
        assert server.created["alpha"]["mllib"] == "ncnn"
        assert server.created["alpha"]["model"] == {"repository": "/models/alpha"}


def test_a_deepdetect_service_that_is_gone_already_is_created() -> None:
    with FakeServer(dlserve=False, services={}) as server:
        assert reload_once(options(server.url, {"create_body": BODY}), target(server.url)) == ""
        assert "alpha" in server.services


def test_a_kserve_model_is_unloaded_until_it_is_gone_and_loaded_until_it_is_ready() -> None:
    with FakeKServe() as server:
        server.unload_lag = 2
        assert reload_once(options(server.url), target(server.url, "kserve")) == ""
        ready = "GET /v2/models/alpha/ready"
        repository = "POST /v2/repository/models/alpha"
        assert server.lines() == [f"{repository}/unload", ready, ready, ready, f"{repository}/load", ready]


def test_a_torchserve_model_is_registered_as_it_was() -> None:
    with FakeTorchServe() as server:
        wanted = options("http://127.0.0.1:9", {"management_url": server.url, "management_key": "secret"})
        assert reload_once(wanted, target(server.url, "torchserve", registrations=REGISTERED)) == ""
        assert server.lines() == [
            "DELETE /models/alpha",
            "POST /models?url=alpha.mar&model_name=alpha&synchronous=true&initial_workers=2",
        ]
        assert {one.headers["Authorization"] for one in server.asked} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("path", "answer", "says"),
    [
        (
            "unload",
            (400, b'{"error": "explicit model load / unload is not allowed"}'),
            "unloading it: HTTP 400: .*not allowed",
        ),
        ("/load", (500, b"no memory"), "loading it: HTTP 500: no memory"),
        ("/load", None, "loading it: the connection broke"),
    ],
)
def test_a_server_that_refuses_is_told_before_the_clock_starts(path: str, answer: Answer | None, says: str) -> None:
    with FakeKServe() as server:
        good = server.answer

        def react(asked: Asked) -> Answer | None:
            return answer if asked.path.endswith(path) else good(asked)

        server.answer = react  # type: ignore[method-assign]
        reloading = create_reloading(options(server.url), target(server.url, "kserve"), ["alpha"])
        assert reloading is not None
        reloader = reloading.reloader
        with pytest.raises(TargetError, match=f"reloading alpha: {says}.*--phases warm"):
            reloader.rehearse(["alpha"])
        reloader.close()


def test_a_model_that_never_gets_ready_is_given_up() -> None:
    with FakeKServe(react=lambda asked: (503, b"") if asked.path.endswith("ready") else None) as server:
        writer = RequestWriter(server.url, None)
        reloader = Reloader({"alpha": kserve_steps(writer, "alpha")}, lambda: Connection(server.url, 5.0), 0.05)
        with reloader.exclusive("alpha"):
            found = reloader.reload("alpha").error
        reloader.close()
    assert found.startswith("reloading alpha: waiting until it is ready: not so within 0.05 s")


def test_a_server_that_is_gone_is_an_error() -> None:
    with FakeTorchServe() as server:
        url = server.url
    writer = RequestWriter(url, None)
    reloader = Reloader({"a": torchserve_steps(writer, "a", REGISTERED["alpha"])}, lambda: Connection(url, 1.0), 1.0)
    with reloader.exclusive("a"):
        assert "unregistering it: cannot connect" in reloader.reload("a").error
    reloader.close()


def test_nobody_else_is_at_a_service_meanwhile_and_other_services_do_not_wait() -> None:
    reloader = Reloader({"a": (), "b": ()}, lambda: Connection("http://127.0.0.1:9", 1.0), 1.0)
    inside: list[str] = []

    def use(service: str) -> None:
        with reloader.exclusive(service):
            inside.append(service)

    with reloader.exclusive("a"):
        waiting, free = gevent.spawn(use, "a"), gevent.spawn(use, "b")
        free.join()
        gevent.idle()
        assert inside == ["b"]
    waiting.join()
    assert inside == ["b", "a"]
    reloader.close()


class Held(Connection):
    """Answers the step when it is let go."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", 1.0)
        self.reached, self.released = gevent.event.Event(), gevent.event.Event()

    def open(self) -> str:
        self.reached.set()
        self.released.wait()
        return "held"


def test_a_user_that_is_stopped_leaves_no_server_without_its_service() -> None:
    held = Held()
    reloader = Reloader({"a": (Step("creating it", b""),)}, lambda: held, 5.0)
    entered = gevent.event.Event()

    def user() -> None:
        with reloader.exclusive("a"):
            reloader.reload("a")

    def other() -> None:
        with reloader.exclusive("a"):
            entered.set()

    first = gevent.spawn(user)
    held.reached.wait()
    first.kill()
    second = gevent.spawn(other)
    gevent.idle()
    assert not entered.is_set(), "the reload goes on, and nobody may ask meanwhile"
    held.released.set()
    second.join()
    assert entered.is_set()
    reloader.close()


def test_a_creation_body_is_checked() -> None:
    with pytest.raises(OptionError, match="--create-body: no JSON"):
        create_reloading(options("http://h:1", {"create_body": b"{"}), target("http://h:1"), ["alpha"])
