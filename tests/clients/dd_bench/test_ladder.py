"""dd_bench against a small DeepDetect: which calls it makes, what it makes of the answers, and what it does when they fail."""

import csv
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlclient.bench_result import Point, read_bench, read_points

from tests.clients.dd_bench.conftest import Ran
from tests.clients.dd_bench.fake_deepdetect import CLASSES, FakeDeepDetect
from tests.loadgen.fake_servers import Answer, as_json

Bench = Callable[..., Ran]
CREATE = ("--sname", "New", "--create", "/models/new", "--mllib", "torch")


def by_batch(points: list[Point]) -> dict[int, Point]:
    return {point.setting.batch_size: point for point in points}


def sizes(calls: list[dict[str, Any]]) -> list[int]:
    return [len(call["data"]) for call in calls]


def test_the_calls_are_those_of_deepdetects_own_tool(dd_bench: Bench, deepdetect: FakeDeepDetect, names: Path) -> None:
    options = ("--remote-bench-data-dir", "/data/", "--list-bench-files", names, "--max-batch-size", 2, "--npasses", 2)
    ran = dd_bench(deepdetect.url, *CREATE, *options, "--auto-kill")
    assert ran.code == 0, ran.err
    made = [line for line in deepdetect.lines() if line != "GET /info"]
    rung = ["POST /predict", "GET /services/New", "POST /predict", "POST /predict", "GET /services/New"]
    assert made == ["PUT /services/New", "POST /predict", *rung, *rung, "DELETE /services/New"]
    put = json.loads(next(one.body for one in deepdetect.asked if one.method == "PUT"))
    assert put == {
        "mllib": "torch",
        "description": "image classification service",
        "type": "supervised",
        "model": {"repository": "/models/new"},
        "parameters": {
            "input": {
                "connector": "image", "width": 224, "height": 224, "bw": False, "rgb": False,
                "histogram_equalization": False, "scale": 1,
            },
            "mllib": {
                "nclasses": 1000, "datatype": "fp32", "readEngine": True, "writeEngine": True, "maxBatchSize": 1,
                "maxWorkspaceSize": 1024, "gpu": False, "gpuid": 0,
            },
            "output": {},
        },
    }  # fmt: skip
    assert deepdetect.predicts()[0] == {
        "service": "New",
        "parameters": {"input": {"width": 224, "height": 224}, "mllib": {"gpu": False, "gpuid": 0}, "output": {}},
        "data": ["/data/a.jpg"],
    }


def test_recreate_makes_and_deletes_a_service_for_each_batch_size(dd_bench: Bench, deepdetect: FakeDeepDetect) -> None:
    ran = dd_bench(deepdetect.url, *CREATE, "--recreate", "--auto-kill", "--max-batch-size", 2, "--npasses", 1)
    assert ran.code == 0, ran.err
    made = [line for line in deepdetect.lines() if line[:3] in {"PUT", "DEL"}]
    assert made == ["PUT /services/New", "DELETE /services/New"] * 2
    created = [json.loads(one.body)["parameters"]["mllib"] for one in deepdetect.asked if one.method == "PUT"]
    assert [one["maxBatchSize"] for one in created] == [1, 2]
    assert sizes(deepdetect.predicts()) == [1] * (1 + 6 + 1) + [2] * (1 + 6 + 1)


def test_files_have_deepdetects_columns_first_and_its_figures(
    dd_bench: Bench, deepdetect: FakeDeepDetect, tmp_path: Path
) -> None:
    deepdetect.time_ms = lambda images: 10.9 * images
    table, document = tmp_path / "out.csv", tmp_path / "out.json"
    ran = dd_bench(
        deepdetect.url, "--sname", "net", "--max-batch-size", 4, "--csv-output", table, "--json-output", document
    )
    assert ran.code == 0, ran.err
    content = table.read_bytes()
    assert content.startswith(b"batch_size,mean processing time,mean time per img,")
    assert content.count(b"\r\n") == content.count(b"\n") == 4
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(row["mean processing time"]) for row in rows] == [10, 21, 43]
    assert [float(row["mean time per img"]) for row in rows] == [10, 10.5, 10.75]
    assert [float(row["mean transform time"]) for row in rows] == [0.5, 1, 2]
    told = json.loads(document.read_text())
    assert list(told[0])[:3] == ["batch_size", "mean_processing_time", "mean_time_per_img"]
    assert [row["mean_time_per_img"] for row in told] == [10, 10.5, 10.75]
    assert all(row["mean_client_time"] > 0 and row["client_cost"] > 0 and row["fail"] is False for row in told)
    assert "batch size = 2 / mean processing time = 21.00 / mean time per image = 10.50" in ran.rows()[1]


def test_a_server_of_whole_milliseconds_that_says_0_breaks_nothing(
    dd_bench: Bench, deepdetect: FakeDeepDetect, tmp_path: Path
) -> None:
    deepdetect.time_ms = lambda _: 0.7
    ran = dd_bench(deepdetect.url, "--sname", "net", "--max-batch-size", 1, "--json-output", tmp_path / "out.json")
    assert ran.code == 0, ran.err
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert (row["mean_time_per_img"], row["fps"]) == (0, None)
    assert "whole milliseconds" in ran.out


def test_a_short_list_is_taken_up_again_and_every_image_counts(
    dd_bench: Bench, deepdetect: FakeDeepDetect, names: Path
) -> None:
    options = ("--remote-bench-data-dir", "/data", "--list-bench-files", names, "--batch-sizes", 8, "--npasses", 3)
    ran = dd_bench(deepdetect.url, "--sname", "net", *options)
    assert ran.code == 0, ran.err
    calls = [call["data"] for call in deepdetect.predicts()]
    assert {len(data) for data in calls} == {8}
    assert {image for data in calls for image in data} == {"/data/a.jpg", "/data/b.jpg", "/data/c.jpg"}
    assert calls[-1] != calls[-2], "passes take turns through the list"


def test_without_a_folder_on_the_server_the_sample_photographs_go_as_base64(
    dd_bench: Bench, deepdetect: FakeDeepDetect
) -> None:
    ran = dd_bench(deepdetect.url, "--sname", "net", "--batch-sizes", 2, "--npasses", 1)
    assert ran.code == 0, ran.err
    assert all(image.startswith("/9j/") for call in deepdetect.predicts() for image in call["data"])


def test_a_batch_that_does_not_fit_is_a_row_and_larger_ones_are_not_tried(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path
) -> None:
    deepdetect.oom_above = 2
    options = ("--images", pictures, "--max-batch-size", 16, "--csv-output", tmp_path / "o.csv")
    ran = dd_bench(deepdetect.url, "--sname", "net", *options, "--results", tmp_path / "out")
    assert ran.code == 1
    points = by_batch(read_points(tmp_path / "out"))
    failures = {size: point.failure for size, point in points.items() if point.failure is not None}
    assert set(points) == {1, 2, 4, 8, 16}
    assert set(failures) == {4, 8, 16}
    assert {failure.kind for failure in failures.values()} == {"out-of-memory"}
    assert "CUDA out of memory" in failures[4].text
    assert failures[16].text == "not tried: batch size 4 failed already"
    assert max(sizes(deepdetect.predicts())) == 4
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert [row["fail"] for row in rows] == ["False", "False", "True", "True", "True"]
    assert rows[2]["mean time per img"] == ""


def test_one_that_hangs_up_costs_one_row(dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path) -> None:
    deepdetect.react = lambda call, _: "hang up" if len(call["data"]) in {2, 8, 16} else None
    ran = dd_bench(deepdetect.url, "--sname", "net", "--images", pictures, "--max-batch-size", 32)
    assert ran.code == 1
    assert ["fail = True" in row for row in ran.rows()] == [False, True, False, True, True, True]
    assert ran.out.count("crash: the connection broke") == 2
    assert ran.out.count("crash: not tried: batch size 8 failed already") == 2


def test_a_call_that_fails_among_the_timed_ones_leaves_no_mean_behind(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path
) -> None:
    busy = as_json(503, {"status": {"code": 503, "msg": "Service Unavailable"}})
    deepdetect.react = lambda _, number: busy if number == 4 else None
    options = ("--images", pictures, "--batch-sizes", 1, "--json-output", tmp_path / "o.json")
    ran = dd_bench(deepdetect.url, "--sname", "net", *options)
    assert ran.code == 1
    (row,) = json.loads((tmp_path / "o.json").read_text())
    assert (row["fail"], row["mean_processing_time"]) == (True, None)
    assert row["reason"] == "crash: the server answered HTTP 503: Service Unavailable"


def test_fewer_predictions_than_images_are_an_error(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path
) -> None:
    one = {"status": {"code": 200}, "head": {"time": 3.0}, "body": {"predictions": [{"uri": "0"}]}}
    deepdetect.react = lambda *_: as_json(200, one)
    ran = dd_bench(deepdetect.url, "--sname", "net", "--images", pictures, "--batch-sizes", 2)
    assert ran.code == 1
    assert "1 predictions for 2 images" in ran.out


def test_an_answer_that_is_slow_beyond_the_limit_is_a_time_out(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path
) -> None:
    ended = threading.Event()

    def wait(_call: dict[str, Any], _number: int) -> Answer | str | None:
        ended.wait()
        return "hang up"

    deepdetect.react = wait
    try:
        ran = dd_bench(
            deepdetect.url, "--sname", "net", "--images", pictures, "--max-batch-size", 2, "--timeout", "0.3"
        )
    finally:
        ended.set()
    assert ran.code == 1
    assert "time-out: no answer within 0.3 s" in ran.out
    assert "time-out: not tried: batch size 1 failed already" in ran.out


def test_the_same_service_that_is_there_already_is_taken_and_another_is_not(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path
) -> None:
    options = ("--images", pictures, "--batch-sizes", 1, "--npasses", 1)
    assert dd_bench(deepdetect.url, *CREATE, *options).code == 0
    assert dd_bench(deepdetect.url, *CREATE, *options).code == 0
    ran = dd_bench(deepdetect.url, *CREATE, *options, "--rgb", "--auto-kill")
    assert ran.code == 1
    assert "service New is there already, with rgb False: delete it, or name another with --sname" in ran.out
    assert "new" in deepdetect.services, "what was not created is not deleted"
    ran = dd_bench(deepdetect.url, *CREATE, *options, "--recreate")
    assert ran.code == 1
    assert "new" in deepdetect.services


def test_the_default_engine_that_deepdetect_removed_is_named_as_the_cause(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path
) -> None:
    options = ("--sname", "x", "--create", "/models/x", "--images", pictures, "--max-batch-size", 2)
    ran = dd_bench(deepdetect.url, *options)
    assert ran.code == 1
    assert ran.out.count("created for the default --mllib caffe; name another, such as torch") == 2


def test_calls_in_flight_are_as_many_as_asked_for_on_every_gpu(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path
) -> None:
    options = (*CREATE, "--images", pictures, "--batch-sizes", 2, "--gpu", "--gpuid", "0,1", "--concurrency", 2)
    met = threading.Barrier(4)

    def meet(_call: dict[str, Any], number: int) -> None:
        if number > 1 + 4:  # the first call and the warm-up
            met.wait(30)

    deepdetect.react = meet
    ran = dd_bench(deepdetect.url, *options, "--npasses", 2, "--auto-kill", "--best", 1, "--results", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert deepdetect.most_at_once == 4
    timed = deepdetect.predicts()[5:]
    assert len(timed) == 8
    assert {(call["service"], call["parameters"]["mllib"]["gpuid"]) for call in timed} == {
        ("New-gpu0", 0),
        ("New-gpu1", 1),
    }
    (point,) = read_points(tmp_path / "out")
    assert (point.setting.in_flight, point.setting.device, point.setting.question) == (4, "cuda:0,cuda:1", "throughput")
    assert point.images == 16
    assert point.wall_s is not None
    assert point.images_per_s == pytest.approx(16 / point.wall_s)
    assert not deepdetect.services.keys() & {"new-gpu0", "new-gpu1"}


def test_somebody_elses_calls_make_the_transform_time_unknown(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path
) -> None:
    def busy(_call: dict[str, Any], _number: int) -> None:
        deepdetect.statistics["net"][0] += 1

    deepdetect.react = busy
    dd_bench(deepdetect.url, "--sname", "net", "--images", pictures, "--batch-sizes", 1, "--results", tmp_path / "out")
    (point,) = read_points(tmp_path / "out")
    assert point.transform_s is None
    assert "others" in {warning.code for warning in point.warnings}


def test_that_deepdetects_torch_runs_images_one_by_one_is_said_unless_it_is_told_otherwise(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path
) -> None:
    options = ("--sname", "net", "--images", pictures, "--batch-sizes", 4, "--npasses", 1)
    assert "one by one" in dd_bench(deepdetect.url, *options).out
    assert "one by one" not in dd_bench(deepdetect.url, *options, "--test-batch-size", 0, "--best", 1).out
    last = deepdetect.predicts()[-1]["parameters"]
    assert last["mllib"]["net"] == {"test_batch_size": 4}
    assert last["output"] == {"best": 1}
    assert CLASSES > 1


def test_a_service_that_was_created_for_the_cpu_is_not_passed_off_as_one_on_a_gpu(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path
) -> None:
    options = ("--images", pictures, "--batch-sizes", 1, "--npasses", 1, "--gpu")
    assert "created for the CPU" in dd_bench(deepdetect.url, "--sname", "net", *options).out
    assert "created for the CPU" not in dd_bench(deepdetect.url, *CREATE, *options).out


def test_the_result_folder_holds_every_point_with_its_samples(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path
) -> None:
    deepdetect.time_ms = lambda images: 4.0 * images
    options = ("--sname", "net", "--images", pictures, "--max-batch-size", 2, "--npasses", 12)
    ran = dd_bench(deepdetect.url, *options, "--results", tmp_path / "out")
    assert ran.code == 0, ran.err
    bench = read_bench(tmp_path / "out")
    assert (bench.program, bench.name, bench.points) == ("dd_bench", "net", 2)
    assert bench.finished is not None
    assert bench.server["version"] == "v0.29.0"
    point = by_batch(read_points(tmp_path / "out"))[2]
    assert (point.scope, point.iterations, point.images) == ("server", 12, 24)
    assert point.compatible == {"deepdetect_mean_s_per_image": 0.004}
    assert point.latency_s is not None
    assert point.client_s is not None
    assert point.latency_s.p50 == 0.008
    assert point.client_s.p50 is not None
    assert point.latency_s.p90 is None, "12 samples tell no p90"
    assert point.transform_s == pytest.approx(0.001)


def test_a_resumed_run_tries_again_what_failed_where_it_is_told_to(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path
) -> None:
    options = ("--sname", "net", "--images", pictures, "--max-batch-size", 4, "--results", tmp_path / "out")
    deepdetect.react = lambda call, _: "hang up" if len(call["data"]) == 2 else None
    assert dd_bench(deepdetect.url, *options).code == 1
    assert "add --resume" in dd_bench(deepdetect.url, *options).err
    deepdetect.react = lambda *_: None
    before = len(deepdetect.predicts())
    assert dd_bench(deepdetect.url, *options, "--resume").code == 1
    assert len(deepdetect.predicts()) == before
    ran = dd_bench(deepdetect.url, *options, "--resume", "--retry-failed", "--csv-output", tmp_path / "o.csv")
    assert ran.code == 0, ran.err
    assert set(sizes(deepdetect.predicts()[before:])) == {2}
    assert [point.setting.batch_size for point in read_points(tmp_path / "out")] == [1, 2, 4]
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert [row["batch_size"] for row in rows] == ["1", "2", "4"]


def test_several_models_end_in_a_table(
    dd_bench: Bench, deepdetect: FakeDeepDetect, pictures: Path, tmp_path: Path
) -> None:
    deepdetect.services["other"] = {"mllib": "torch"}
    deepdetect.time_ms = lambda images: 20.0 * images
    options = ("--models", "net,other,absent", "--images", pictures, "--max-batch-size", 2, "--npasses", 1)
    ran = dd_bench(deepdetect.url, *options, "--results", tmp_path / "out", "--csv-output", tmp_path / "o.csv")
    assert ran.code == 1
    table = ran.out.splitlines()[-6:]
    assert table[0].split() == ["ms", "per", "image", "batch", "1", "batch", "2"]
    assert [line.split() for line in table[2:5]] == [
        ["net", "20.00", "20.00"],
        ["other", "20.00", "20.00"],
        ["absent", "x", "x"],
    ]
    assert table[5].startswith("x  absent, batch 1, 2: error: the server answered HTTP 404, 1002: Service Not Found")
    assert "width" not in deepdetect.predicts()[0]["parameters"]["input"], "each network has its own size"
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert [row["model"] for row in rows] == ["net", "net", "other", "other", "absent", "absent"]


def test_no_server_is_said_in_a_sentence(dd_bench: Bench) -> None:
    ran = dd_bench("http://127.0.0.1:9", "--sname", "net")
    assert ran.code == 1
    assert ran.err.startswith("dd_bench: GET http://127.0.0.1:9/info: ")
    assert "see whether a server runs there" in ran.err
