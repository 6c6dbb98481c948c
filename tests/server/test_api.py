"""DeepDetect's API and the raw way in, on every engine alike."""

import base64
import gzip
import json
from typing import Any

import pytest

from tests.conftest import sample, status_of
from tests.server.conftest import Target, photograph

JPEG = {"Content-Type": "image/jpeg"}


def encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def predict(target: Target, data: list[str], **parameters: Any) -> dict[str, Any]:
    answer = target.client.post("/predict", json={"service": target.service, "parameters": parameters, "data": data})
    assert status_of(answer) == {"code": 200, "msg": "OK"}, answer.text
    content: dict[str, Any] = answer.json()
    return content


def probabilities(prediction: dict[str, Any]) -> dict[str, float]:
    return {item["cat"]: item["prob"] for item in prediction["classes"]}


def test_an_answer_has_deepdetects_shape_and_says_where_the_time_went(target: Target) -> None:
    content = predict(target, [encoded(photograph(1))])
    head = content["head"]
    assert (head["method"], head["service"], head["batch_size"]) == ("/predict", target.service, 1)
    assert head["cache"] in ("warm", "disk")
    assert 0 <= head["worker"] < target.workers
    assert set(head["timing"]) == {"wire", "decode", "queue", "demote", "load", "forward", "post"}
    assert all(seconds >= 0 for seconds in head["timing"].values())
    assert 0 < sum(head["timing"].values()) <= head["time"] / 1e3
    (prediction,) = content["body"]["predictions"]
    assert prediction["uri"] == "0"
    classes = prediction["classes"]
    assert len(classes) == 5
    assert [item["prob"] for item in classes] == sorted((item["prob"] for item in classes), reverse=True)
    assert [item.get("last") for item in classes] == [None] * 4 + [True]


def test_json_base64_path_and_raw_bytes_give_the_same_answer(target: Target) -> None:
    path = target.images / "image-2.jpg"
    by_json = predict(target, [encoded(path.read_bytes())])["body"]["predictions"][0]
    by_path = predict(target, [str(path)])["body"]["predictions"][0]
    raw = target.client.post(f"/predict/{target.service}", content=path.read_bytes(), headers=JPEG)
    assert raw.status_code == 200
    by_bytes = raw.json()["body"]["predictions"][0]
    assert by_path["uri"] == str(path)
    assert by_json["uri"] == by_bytes["uri"] == "0"
    for other in (by_path, by_bytes):
        assert probabilities(other) == pytest.approx(probabilities(by_json), abs=1e-6)
        assert list(probabilities(other)) == list(probabilities(by_json))


def test_a_batch_of_n_gives_what_n_single_calls_give_in_order(target: Target) -> None:
    images = [encoded(photograph(seed)) for seed in range(7)]
    images.append(images[3])  # duplicates are not collapsed
    together = predict(target, images, output={"best": -1})
    assert together["head"]["batch_size"] == 8
    predictions = together["body"]["predictions"]
    assert [prediction["uri"] for prediction in predictions] == [str(number) for number in range(8)]
    for image, prediction in zip(images, predictions, strict=True):
        alone = predict(target, [image], output={"best": -1})["body"]["predictions"][0]
        assert probabilities(prediction) == pytest.approx(probabilities(alone), abs=1e-4)
        top = max(alone["classes"], key=lambda item: item["prob"])
        assert probabilities(prediction)[top["cat"]] == pytest.approx(max(probabilities(prediction).values()), abs=1e-4)


def test_a_directory_is_all_its_images(target: Target) -> None:
    predictions = predict(target, [str(target.images / "some")])["body"]["predictions"]
    assert [prediction["uri"].rsplit("/", 1)[1] for prediction in predictions] == ["image-0.jpg", "image-1.jpg"]


@pytest.mark.parametrize(("best", "count"), [(1, 1), (3, 3), (0, 0), (-1, 1000), (5000, 1000)])
def test_best_limits_the_classes_and_is_clamped(target: Target, best: int, count: int) -> None:
    classes = predict(target, [encoded(photograph(1))], output={"best": best})["body"]["predictions"][0]["classes"]
    assert len(classes) == count
    raw = target.client.post(f"/predict/{target.service}?best={best}", content=photograph(1), headers=JPEG).json()
    assert len(raw["body"]["predictions"][0]["classes"]) == count


def test_a_threshold_leaves_out_the_improbable(target: Target) -> None:
    everything = predict(target, [encoded(photograph(1))])["body"]["predictions"][0]["classes"]
    threshold = everything[1]["prob"]
    some = predict(target, [encoded(photograph(1))], output={"confidence_threshold": threshold})
    assert 1 <= len(some["body"]["predictions"][0]["classes"]) <= 2


def test_the_asked_temperature_is_found_and_the_next_call_is_warm(target: Target) -> None:
    image = encoded(photograph(1))
    cold = predict(target, [image], mllib={"cache": "disk", "worker": 0})
    assert (cold["head"]["cache"], cold["head"]["worker"]) == ("disk", 0)
    warm = predict(target, [image], mllib={"worker": 0})
    assert (warm["head"]["cache"], warm["head"]["timing"]["load"]) == ("warm", 0)
    assert probabilities(cold["body"]["predictions"][0]) == pytest.approx(
        probabilities(warm["body"]["predictions"][0]), abs=1e-6
    )
    raw = target.client.post(
        f"/predict/{target.service}?cache=disk&worker=1", content=photograph(1), headers=JPEG
    ).json()
    assert (raw["head"]["cache"], raw["head"]["worker"]) == ("disk", 1)


def test_the_cache_counters_say_what_the_answers_said(target: Target) -> None:
    before = {
        kind: sample(target.client, "dlserve_cache_requests_total", temperature=kind) for kind in ("warm", "disk")
    }
    loads = sample(target.client, "dlserve_cache_loads_total", service=target.service)
    for cache in ("disk", "disk", "warm"):
        predict(target, [encoded(photograph(1))], mllib={"cache": cache, "worker": 0})
    assert sample(target.client, "dlserve_cache_requests_total", temperature="disk") == before["disk"] + 2
    assert sample(target.client, "dlserve_cache_requests_total", temperature="warm") == before["warm"] + 1
    assert sample(target.client, "dlserve_cache_loads_total", service=target.service) == loads + 2


def test_host_is_refused_where_there_is_no_pinned_memory(target: Target) -> None:
    answer = target.client.post(
        "/predict",
        json={"service": target.service, "parameters": {"mllib": {"cache": "host"}}, "data": [encoded(photograph(1))]},
    )
    assert status_of(answer)["dd_code"] == 1006


def test_bodies_are_json_whatever_they_say_and_names_are_lower_cased(target: Target) -> None:
    body = {
        "service": target.service.upper(),
        "parameters": {"input": {"interp": None, "scale": None}, "surprise": 1},
        "data": [encoded(photograph(1))],
    }
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        answer = target.client.post("/predict", content=json.dumps(body), headers={"Content-Type": kind})
        assert answer.status_code == 200, answer.text
        assert answer.json()["head"]["service"] == target.service
    zipped = target.client.post(
        "/predict", content=gzip.compress(json.dumps(body).encode()), headers={"Content-Encoding": "gzip"}
    )
    assert zipped.status_code == 200, zipped.text


def test_service_statistics_count_calls_and_images_as_integers(target: Target) -> None:
    def statistics() -> dict[str, Any]:
        found: dict[str, Any] = target.client.get(f"/services/{target.service}").json()["body"]["service_stats"]
        return found

    before = statistics()
    predict(target, [encoded(photograph(1)), encoded(photograph(2))])
    target.client.post("/predict", json={"service": target.service, "data": []})
    after = statistics()
    for key, more in {"inference_count": 2, "predict_success": 1, "predict_failure": 1, "predict_count": 2}.items():
        assert type(after[key]) is int
        assert after[key] == before[key] + more
    assert after["total_predict_duration_ms"] > before["total_predict_duration_ms"]
    assert isinstance(after["total_transform_duration_ms"], float)
    assert after["avg_batch_size"] == pytest.approx(after["inference_count"] / after["predict_count"])


def test_info_and_services_describe_what_is_served(target: Target) -> None:
    head = target.client.get("/info").json()["head"]
    assert head["method"] == "/info"
    services = {service["name"]: service for service in head["services"]}
    assert services[target.service]["dlserve"]["simulated"] is target.simulated
    assert services[target.service]["dlserve"]["weights_bytes"] > 900_000
    assert [worker["up"] for worker in head["dlserve"]["workers"]] == [True] * target.workers
    body = target.client.get(f"/services/{target.service}?labels=true&status=1").json()["body"]
    assert body["jobs"] == []
    assert len(body["labels"]) == (0 if target.simulated else 1000)
    assert (body["width"], body["height"], body["mltype"], body["type"]) == (224, 224, "classification", "supervised")


def test_metrics_can_be_asked_for_by_name(target: Target) -> None:
    names = ["dlserve_worker_in_flight", "process_start_time_seconds", "dlserve_stage_seconds_count"]
    text = target.client.get("/metrics", params={"name[]": names}).text
    found = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert {"dlserve_worker_in_flight", "process_start_time_seconds"} <= found <= set(names)
    everything = target.client.get("/metrics").text
    assert all(line in everything for line in text.splitlines() if line.startswith("# HELP"))


def test_health_readiness_metrics_and_docs_answer(target: Target) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert target.client.get(path).status_code == 200, path
    paths = target.client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/predict/{service}", "/info", "/services/{name}", "/metrics"} <= set(paths)
    assert "://" not in target.client.get("/docs").text.replace("http://www.w3.org", "")  # works without a network
    assert target.client.get("/docs/static/swagger-ui-bundle.js").status_code == 200


def test_creation_parameters_persist_into_predict_and_a_call_overrides_them(target: Target) -> None:
    width, height = (224, 224) if target.fixed_size else (64, 48)
    creation: dict[str, Any] = {
        "mllib": target.engine,
        "parameters": {
            "input": {"connector": "image", "width": width, "height": height},
            "mllib": {"maxBatchSize": 1},
            "output": {"best": 2},
        },
        "description": "small",
        "model": {} if target.simulated else {"repository": target.repository},
    }
    created = target.client.put("/services/Persisting", json=creation)
    assert status_of(created) == {"code": 201, "msg": "Created"}, created.text
    try:
        body = target.client.get("/services/persisting").json()["body"]
        assert (body["width"], body["height"], body["description"]) == (width, height, "small")
        images = [encoded(photograph(seed)) for seed in range(3)]
        several = target.client.post("/predict", json={"service": "persisting", "data": images}).json()
        assert several["head"]["batch_size"] == 3  # maxBatchSize is no limit
        assert [len(prediction["classes"]) for prediction in several["body"]["predictions"]] == [2, 2, 2]
        one = {
            "service": "persisting",
            "parameters": {"output": {"best": 1}, "input": {} if target.fixed_size else {"width": 96, "height": 96}},
            "data": images[:1],
        }
        assert len(target.client.post("/predict", json=one).json()["body"]["predictions"][0]["classes"]) == 1
        assert status_of(target.client.post("/services/persisting", json=creation))["dd_code"] == 1014
    finally:
        assert status_of(target.client.delete("/services/persisting")) == {"code": 200, "msg": "OK"}
    assert status_of(target.client.delete("/services/persisting"))["code"] == 404
    assert status_of(target.client.get("/services/persisting"))["dd_code"] == 1002
