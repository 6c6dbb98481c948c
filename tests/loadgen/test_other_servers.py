"""The real locust streams at servers other than dlserve, warm and cold by reloading."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dlclient.results import Record, Run, read_records, read_run

from tests.loadgen.fake_servers import FakeKServe, FakeTorchServe

if TYPE_CHECKING:
    from tests.loadgen.conftest import FakeServer, Locust

Serve = Callable[..., "FakeServer"]
Start = Callable[..., "Locust"]
QUICK = ("--headless", "--no-report", "--results", "out", "--requests", "20", "-u", "3")


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path) -> None:
    """Files that no fake server looks at."""
    (tmp_path / "pictures").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "pictures" / name).write_bytes(b"\xff\xd8" + name.encode() * 100)


def end(one: "Locust", code: int) -> tuple[Run, list[Record], str]:
    """Wait for the end; the result, and everything that was printed."""
    found, out, err = one.wait()
    assert found == code, out + err
    return read_run(one.folder / "out"), read_records(one.folder / "out"), out + err


@pytest.mark.parametrize("binary", [True, False])
def test_a_kserve_server_is_streamed_warm_and_reloaded(locust: Start, binary: bool) -> None:
    with FakeKServe(binary=binary) as server:
        run, records, said = end(locust(*QUICK, "--protocol", "kserve", "-H", server.url), 0)
    assert (run.verdict, run.target.protocol) == ("valid", "kserve"), said
    assert [phase.temperatures for phase in run.phases] == [{"unknown": 20}, {"reload": 20}]
    assert all(record.ok for record in records)
    cold = [record for record in records if record.phase == "disk"]
    assert all((record.reload_s or 0) > 0 for record in cold)
    infers = [one for one in server.asked if one.path.endswith("/infer")]
    assert len(infers) == 2 * (20 + 2 * 2)
    loads = [one for one in server.asked if one.path.endswith("/load")]
    assert len(loads) == 20 + 2, "every request of the cold phase, and each model once before it"


def test_a_plain_deepdetect_is_reloaded_by_its_creation_body(serve: Serve, locust: Start, tmp_path: Path) -> None:
    (tmp_path / "create.json").write_text('{"mllib": "caffe", "model": {"repository": "/m/{service}"}}')
    server = serve(dlserve=False)
    ask = ("--images", "pictures", "--create-body", "create.json", "-H", server.url)
    run, records, said = end(locust(*QUICK, *ask), 0)
    assert run.verdict == "valid", said
    assert [phase.temperatures for phase in run.phases] == [{"unknown": 20}, {"reload": 20}]
    assert len(server.deleted) == 20 + 2
    assert server.created["alpha"]["model"] == {"repository": "/m/alpha"}
    assert not any(call.cache for call in server.calls), "what is reloaded need not be asked to be cold"
    assert all(record.ok for record in records)


def test_torchserve_is_reloaded_at_its_management(locust: Start) -> None:
    with FakeTorchServe() as server:
        ask = ("--images", "pictures", "--protocol", "torchserve", "--management-url", server.url, "-H", server.url)
        run, _, said = end(locust(*QUICK, *ask, "--reload-clock", "inside"), 0)
    assert run.verdict == "valid", said
    assert [phase.temperatures for phase in run.phases] == [{"unknown": 20}, {"reload": 20}]


def test_the_reload_is_a_part_of_the_latency_where_it_is_asked_to_be(locust: Start) -> None:
    with FakeKServe() as server:
        ask = ("--images", "pictures", "--services", "alpha", "--protocol", "kserve", "-H", server.url)
        run, records, _ = end(locust(*QUICK, *ask, "--reload-clock", "inside"), 0)
    assert run.verdict == "valid"
    cold = [record for record in records if record.phase == "disk"]
    assert all(record.latency_s >= (record.reload_s or 0) > 0 for record in cold)


def test_a_server_that_cannot_reload_ends_the_run_before_it_measures_cold(locust: Start) -> None:
    refuse = (400, json.dumps({"error": "explicit model load / unload is not allowed"}).encode())
    with FakeKServe(react=lambda asked: refuse if asked.path.endswith("unload") else None) as server:
        ask = ("--images", "pictures", "--services", "alpha", "--protocol", "kserve", "-H", server.url)
        run, records, said = end(locust(*QUICK, *ask), 1)
    assert run.verdict == "invalid"
    assert "not allowed" in run.reasons[0].text
    assert {record.phase for record in records} == {"warm"}
    assert "--phases warm" in said


def test_templates_ask_any_server(locust: Start, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"model": "{service}", "instances": [{"b64": "{image_base64}"}]}')

    with FakeKServe(react=lambda _: (200, b'{"predictions": [{"label": "cat"}]}')) as server:
        ask = ("--images", "pictures", "--phases", "warm", "--services", "Alpha", "-H", server.url)
        how = ("--url-template", "/v1/{service}:predict", "--answer-path", "predictions.0.label")
        body = ("--protocol", "json", "--body-template", "body.json", "--batch-size", "2")
        run, _, said = end(locust(*QUICK, *ask, *how, *body), 0)
        assert run.verdict == "valid", said
        posts = [one for one in server.asked if not one.path.startswith("/metrics")]
        assert {one.path for one in posts} == {"/v1/Alpha:predict"}
        sent = json.loads(posts[0].body)
        assert sent["model"] == "Alpha"
        assert len(sent["instances"]) == 2
        server.asked.clear()
        wrong = ("--protocol", "raw", "--overwrite", *how[:2], "--answer-path", "predictions.1.label")
        code, out, err = locust(*QUICK, *ask, *wrong).wait()
    assert code == 1
    assert "no predictions.1.label in the answer" in out + err
    assert next(one for one in server.asked if one.method == "POST").body.startswith(b"\xff\xd8")
