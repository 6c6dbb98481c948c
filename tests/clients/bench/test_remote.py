"""dlclient.bench.remote: a point behind a server, against a small DeepDetect and against a real dlserve."""

import base64
import json
import tempfile
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from dlclient.bench import measuring
from dlclient.bench.job import Budget, Job
from dlclient.bench.remote import Server as Remote
from dlclient.bench_result import Setting
from dlclient.errors import PointError

from tests.conftest import Server, simulated
from tests.loadgen.fake_servers import Answer, Asked, FakeApi, as_json

BUDGET = Budget(warm_up_max_iterations=3, min_iterations=8, max_iterations=8, min_s=0.0, max_s=60.0)
OK = {"code": 200, "msg": "OK"}


class FakeDeepDetect(FakeApi):
    """Answers in whole milliseconds, as DeepDetect does, and counts what it transformed."""

    def __init__(self, *services: str, fails_after: int = 10**9) -> None:
        super().__init__()
        self.services = set(services)
        self.predicted = 0
        self.fails_after = fails_after

    def answer(self, asked: Asked) -> Answer | None:
        if asked.path == "/info":
            return as_json(200, {"status": OK, "head": {"method": "/info", "services": []}})
        if asked.path == "/predict":
            return self._predict(json.loads(asked.body))
        name = asked.path.removeprefix("/services/")
        if asked.method == "PUT":
            self.services.add(name)
            return as_json(201, {"status": {"code": 201, "msg": "Created"}})
        if name not in self.services:
            return as_json(
                404, {"status": {"code": 404, "msg": "NotFound", "dd_code": 1002, "dd_msg": "Service Not Found"}}
            )
        if asked.method == "DELETE":
            self.services.remove(name)
            return as_json(200, {"status": OK})
        stats = {"total_transform_duration_ms": 4.0 * self.predicted}
        return as_json(200, {"status": OK, "body": {"mllib": "torch", "service_stats": stats}})

    def _predict(self, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.predicted += 1
            number = self.predicted
        if number > self.fails_after:
            return as_json(500, {"status": {"code": 500, "msg": "InternalError", "dd_msg": "CUDA out of memory"}})
        time.sleep(0.01)
        predictions = [
            {"uri": str(place), "classes": [{"prob": 0.75, "cat": str(len(data) % 10), "last": True}]}
            for place, data in enumerate(body["data"])
        ]
        return as_json(200, {"status": OK, "head": {"time": 9.0}, "body": {"predictions": predictions}})


def job(url: str, model: str = "net", repository: str = "", **setting: object) -> Job:
    made = Setting(model=model, target=url, **setting)  # type: ignore[arg-type]
    return Job(setting=made, budget=BUDGET, repository=repository)


def test_a_deepdetects_own_time_is_the_latency_and_the_clients_stands_beside_it() -> None:
    with FakeDeepDetect("net") as server:
        ended = measuring.measure(job(server.url, batch_size=2), lambda _: None)
    point = ended.point
    assert point.scope == "server"
    assert point.latency_s is not None
    assert point.client_s is not None
    assert point.client_s.mean is not None
    assert point.client_cost_s is not None
    assert point.latency_s.mean == pytest.approx(0.009)
    assert point.client_s.mean > 0.01
    assert point.client_cost_s > 0
    assert point.transform_s == pytest.approx(0.004)
    assert point.compatible["deepdetect_mean_s_per_image"] == pytest.approx(0.0045)
    assert (point.iterations, point.images, point.errors) == (8, 16, 0)
    assert "DELETE /services/net" not in server.lines()


def test_a_service_that_is_not_there_is_created_and_deleted_again() -> None:
    with FakeDeepDetect() as server:
        asked = job(
            server.url, engine="torch", repository="/models", precision="fp16", device="cuda:1", question="load"
        )
        point = measuring.measure(msgspec.structs.replace(asked, reloads=2), lambda _: None).point
        lines = server.lines()
    created = [json.loads(one.body) for one in server.asked if one.method == "PUT"]
    assert created[0]["model"] == {"repository": "/models/net"}
    assert created[0]["parameters"]["mllib"] == {"gpu": True, "gpuid": 1, "datatype": "fp16"}
    assert lines.count("PUT /services/net") == lines.count("DELETE /services/net") == 3
    assert point.load is not None
    assert (len(point.load.reload_s), len(point.load.first_runs_s)) == (2, 2)


def test_errors_of_the_timed_part_are_counted_and_no_time_is_taken_from_them() -> None:
    with FakeDeepDetect("net", fails_after=10) as server:
        point = measuring.measure(job(server.url), lambda _: None).point
    assert (point.iterations, point.errors) == (2, 6)
    assert point.reasons[0].code == "errors"
    assert "CUDA out of memory" in point.reasons[0].text


@pytest.mark.parametrize(
    ("services", "setting", "kind", "said"),
    [
        ((), {}, "error", "has no service 'net': create it there, or give `repository`"),
        (("net",), {"input": "raw", "batch_size": 2}, "unsupported", "or one alone as raw"),
        (("net",), {"input": "url"}, "unsupported", "for URLs there is dd_bench"),
        (
            ("net",),
            {"input": "path", "question": "accuracy"},
            "unsupported",
            "ask for it with input base64 (the default) or raw",
        ),
        (("net",), {"engine": "openvino"}, "unsupported", "with engine 'torch', not 'openvino' as asked"),
        (("net",), {"question": "load"}, "unsupported", "was there before, and only one's own is deleted"),
        (("net",), {"question": "throughput", "in_flight": 0}, "unsupported", "say how many"),
    ],
)
def test_what_cannot_be_measured_says_why(
    services: tuple[str, ...], setting: dict[str, str], kind: str, said: str
) -> None:
    with FakeDeepDetect(*services) as server, pytest.raises(PointError) as raised:
        measuring.measure(job(server.url, **setting), lambda _: None)
    assert said in str(raised.value)
    assert raised.value.kind == kind


def test_a_server_without_memory_is_told_apart() -> None:
    with (
        FakeDeepDetect("net", fails_after=0) as server,
        pytest.raises(PointError, match="CUDA out of memory") as raised,
    ):
        measuring.measure(job(server.url), lambda _: None)
    assert raised.value.kind == "out-of-memory"


def test_classes_are_those_that_the_labels_stand_for_in_the_order_of_the_images() -> None:
    files = [b"x" * size for size in (1, 10, 5)]
    with FakeDeepDetect("net") as server:
        subject = Remote(job(server.url, input="path"))
        subject.start()
        subject.open()
        found = subject.classes(files)
        subject.close()
    lengths = [len(base64.b64encode(file)) for file in files]
    assert found == [[(length % 10, 0.75)] for length in lengths]


def test_nobody_there_is_an_error_that_names_the_address() -> None:
    with FakeDeepDetect() as server:
        url = server.url
    with pytest.raises(PointError, match=url):
        measuring.measure(job(url), lambda _: None)


def test_a_dlserve_is_measured_by_every_way_in_and_several_in_flight(
    start_server: Callable[..., Server],
) -> None:
    server = start_server("--workers", "2", "--data-root", tempfile.gettempdir()).wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=0.02, decode=True)
    for way in ("base64", "raw", "path"):
        point = measuring.measure(job(server.url, "sim", input=way), lambda _: None).point
        assert point.latency_s is not None
        assert point.latency_s.mean is not None
        assert point.simulated
        assert point.scope == "server"
        assert point.latency_s.mean >= 0.02
        assert point.transform_s is not None
        assert point.read_back["engine"] == "simulated"
    ended = measuring.measure(job(server.url, "sim", question="throughput", in_flight=2), lambda _: None)
    assert ended.point.read_back["in_flight"] == 2
    assert ended.point.errors == 0
    assert ended.point.wall_s is not None
    assert ended.point.wall_s < 0.9 * sum(sample.latency_s for sample in ended.samples)
    created = job(server.url, "own", engine="simulated", options={"forward_s": 0.005})
    assert measuring.measure(created, lambda _: None).point.simulated
    with server.client() as client:
        assert client.get("/services/own").status_code == 404
