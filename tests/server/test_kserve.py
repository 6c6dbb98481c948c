"""The Open Inference Protocol's routes and its errors, over real sockets."""

import gzip
import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tomli_w

from tests.conftest import DEADLINE_S, Server, sample, simulated
from tests.server.conftest import photograph, until
from tests.server.open_inference import LENGTH, error_of, files, infer, numbers, output, send

PLANES = numbers(np.zeros((1, 3, 8, 8), np.float32))
PIXELS = numbers(np.zeros((1, 8, 8, 3), np.uint8))
FILES = files([b"whatever"])
INFER = "/v2/models/sim/infer"


LONG_S = 5.0
"""A forward during which something else surely happens."""


def begin(server: Server, model: str, parameters: dict[str, Any]) -> http.client.HTTPConnection:
    """Send a call, and wait for nothing."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=DEADLINE_S)
    body = json.dumps({"inputs": [FILES.head(data=FILES.data)], "parameters": parameters})
    connection.request("POST", f"/v2/models/{model}/infer", body)
    return connection


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of models, empty when the server starts."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    """Two workers; both services take images of 8 x 8 and have 10 classes; `sim` decodes nothing."""
    options = ["--models-dir", str(models), "--max-images", "4", "--max-body-mb", "1", "--max-pixels", "100"]
    server = Server("--workers", "2", "--devices", "cpu", *options).wait_ready()
    with server.client() as client:
        small = {"connector": "image", "width": 8, "height": 8}
        for name in ("sim", "decoding"):
            mllib = {"bytes": 1000, "decode": name == "decoding"}
            body = {"mllib": "simulated", "parameters": {"input": small, "mllib": {**mllib, "nclasses": 10}}}
            assert client.put(f"/services/{name}", json=body).status_code == 201
    yield server
    assert server.stop() == 0


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_the_server_says_what_it_is_and_which_extensions_it_has(client: httpx.Client) -> None:
    found = client.get("/v2").json()
    assert found["name"] == "dlserve"
    assert found["version"]
    assert {"binary_tensor_data", "classification", "statistics", "model_configuration"} <= set(found["extensions"])
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("path", ["/v2/models/sim", "/v2/models/SIM", "/v2/models/sim/versions/1"])
def test_metadata_declare_pixels_that_a_client_can_make_up(client: httpx.Client, path: str) -> None:
    found = client.get(path).json()
    assert (found["name"], found["versions"], found["platform"]) == ("sim", ["1"], "dlserve_simulated")
    assert found["inputs"] == [{"name": "input", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}]
    assert found["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
    assert client.get(f"{path}/ready").json() == {"name": "sim", "ready": True}


@pytest.mark.parametrize("path", ["/v2/models/sim/config", "/v2/models/sim/versions/1/config"])
def test_the_configuration_has_tritons_shape(client: httpx.Client, path: str) -> None:
    found = client.get(path).json()
    assert found["max_batch_size"] == 4
    (only,), (out,) = found["input"], found["output"]
    assert (only["name"], only["data_type"], only["dims"]) == ("input", "TYPE_UINT8", [8, 8, 3])
    assert (out["name"], out["data_type"], out["dims"]) == ("probabilities", "TYPE_FP32", [10])
    assert "dynamic_batching" in found


@pytest.mark.parametrize("path", ["/v2/models/sim/stats", "/v2/models/sim/versions/1/stats", "/v2/models/stats"])
def test_statistics_count_what_was_measured(client: httpx.Client, path: str) -> None:
    def statistics() -> dict[str, Any]:
        return next(model for model in client.get(path).json()["model_stats"] if model["name"] == "sim")

    output(infer(client, "sim", PIXELS, binary=True))
    before = statistics()
    told = [
        output(infer(client, "sim", tensor, binary=True))[0]["parameters"]
        for tensor in (PIXELS, numbers(np.zeros((3, 8, 8, 3), np.uint8)))
    ]
    error_of(infer(client, "sim", numbers(np.zeros((1, 8, 8, 1), np.uint8)), binary=True))
    after = statistics()
    assert after["inference_count"] - before["inference_count"] == 4
    assert after["execution_count"] - before["execution_count"] == 2
    assert after["last_inference"] >= before["last_inference"] > 0
    stages = {"queue": "queue", "compute_input": "decode", "compute_infer": "forward", "compute_output": "post"}
    for key, stage in (stages | {"load": "load", "wire": "wire", "demote": "demote"}).items():
        more = {
            what: after["inference_stats"][key][what] - before["inference_stats"][key][what] for what in ("count", "ns")
        }
        assert more["count"] == 2
        assert more["ns"] / 1e9 == pytest.approx(sum(json.loads(one["timing"])[stage] for one in told), abs=1e-8)
    success, failed = (
        {key: row["inference_stats"][what] for key, row in {"a": after, "b": before}.items()}
        for what in ("success", "fail")
    )
    assert success["a"]["count"] - success["b"]["count"] == 2
    assert failed["a"]["count"] - failed["b"]["count"] == 1
    spent_s = (success["a"]["ns"] - success["b"]["ns"]) / 1e9
    assert spent_s == pytest.approx(sum(one["time"] for one in told) / 1e3, abs=1e-8)
    sizes = {row["batch_size"]: row["compute_infer"]["count"] for row in after["batch_stats"]}
    assert {1, 3} <= set(sizes)
    assert sum(sizes.values()) == after["execution_count"]


def test_a_call_counts_in_metrics_and_deepdetects_statistics_as_any_other(client: httpx.Client) -> None:
    def counted() -> tuple[float, float, int]:
        metrics = [sample(client, name, service="sim") for name in ("dlserve_requests_total", "dlserve_images_total")]
        return (*metrics, client.get("/services/sim").json()["body"]["service_stats"]["predict_success"])

    before = counted()
    output(infer(client, "sim", files([b"a", b"b"]), binary=True))
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 2, 1]


def test_infer_takes_a_version_compression_and_nested_or_flat_json(client: httpx.Client) -> None:
    flat = PLANES.head(data=np.ravel(PLANES.data).tolist())
    _, _, by_flat = output(send(client, "/v2/models/sim/versions/1/infer", {"inputs": [flat]}))
    body = gzip.compress(json.dumps({"inputs": [PLANES.head(data=PLANES.data)]}).encode())
    _, _, by_nested = output(client.post(INFER, content=body, headers={"Content-Encoding": "gzip"}))
    assert by_flat.tolist() == by_nested.tolist()
    tensor = FILES.head(data=[FILES.data], content_type=None) | {"shape": [1, 1]}
    unknown = {"inputs": [tensor], "model_name": "sim", "outputs": None, "id": None}
    output(send(client, INFER, unknown))


def wrong(**changes: Any) -> dict[str, Any]:
    """A binary request for pixels with something wrong in it."""
    return {"inputs": [PIXELS.head(parameters={"binary_data_size": len(PIXELS.binary)}) | changes]}


@pytest.mark.parametrize(
    ("head", "binary", "says"),
    [
        (wrong(shape=[1, 8, 8, 1]), PIXELS.binary, r"must be \[n, height, width, 3\]"),
        (wrong(shape=[8, 8, 3]), PIXELS.binary, r"must be \[n, height, width, 3\]"),
        (wrong(shape=[0, 8, 8, 3]), b"", "n >= 1|binary_data_size"),
        (wrong(shape=[]), PIXELS.binary, "shape"),
        (wrong(shape=[-1, 8, 8, 3]), PIXELS.binary, "shape"),
        (wrong(shape=[5, 8, 8, 3]), PIXELS.binary, "at most 4 in one call"),
        (wrong(shape=[2, 8, 8, 3]), PIXELS.binary, "192 bytes of data, and UINT8 .* takes 384"),
        (wrong(shape=[1, 11, 11, 3]), PIXELS.binary, "--max-pixels"),
        (wrong(shape=[1, 1 << 40, 1 << 40, 3]), PIXELS.binary, "shape"),
        (wrong(datatype="FP32"), PIXELS.binary, r"as FP32 it must be \[n, 3, 8, 8\]"),
        (wrong(datatype="FP32", shape=[1, 3, 8, 8]), PIXELS.binary, "takes 768"),
        (wrong(datatype="INT64"), PIXELS.binary, "send one of FP32, UINT8, BYTES"),
        (wrong(name="image"), PIXELS.binary, "one input, 'input', and the request has 'image'"),
        (wrong(), PIXELS.binary[:-1], "191 bytes behind its JSON, and binary_data_size says 192"),
        (wrong(), PIXELS.binary + b"x", "193 bytes behind"),
        (wrong(parameters={}), PIXELS.binary, "binary_data_size says None"),
        (wrong(parameters={"binary_data_size": -1}), PIXELS.binary, "binary_data_size"),
        (wrong(parameters={"shared_memory_region": "a"}), b"", "shared memory is not supported"),
        (wrong(data=[1]), PIXELS.binary, "both data and binary_data_size"),
        (wrong(parameters=None), b"", "neither data nor binary_data_size"),
        ({"inputs": [FILES.head(parameters={"binary_data_size": 12})]}, b"\xff\0\0\0" + b"w" * 8, "goes beyond"),
        ({"inputs": [FILES.head(parameters={"binary_data_size": 3})]}, b"\1\0\0", "goes beyond"),
        (
            {"inputs": [FILES.head(parameters={"binary_data_size": 12})]},
            b"\1\0\0\0" + b"w" * 8,
            "7 bytes .* behind its 1",
        ),
        ({"inputs": []}, b"", "request has none"),
        ({"inputs": [PIXELS.head(), PIXELS.head()]}, b"", "one input"),
        ({}, b"", "no inference request: .*inputs"),
        ({"inputs": [{"name": "input"}]}, b"", "no inference request"),
        ({"inputs": [PIXELS.head(data=[256] * 192)]}, b"", "whole numbers of 0 to 255"),
        ({"inputs": [PIXELS.head(data=[0.5] * 192)]}, b"", "whole numbers"),
        ({"inputs": [PIXELS.head(data=[1, 2])]}, b"", "2 bytes of data"),
        ({"inputs": [PIXELS.head(data=7)]}, b"", "must be a list"),
        ({"inputs": [PLANES.head(data=["a"])]}, b"", "must be a list of numbers"),
        ({"inputs": [FILES.head(data=[1])]}, b"", "must be a list of strings"),
        ({"inputs": [FILES.head(data=["\u00e4"])]}, b"", "must be a list of strings"),
        ({"inputs": [FILES.head(data=["YQ==", "YQ=="])]}, b"", "has 2 elements"),
        ({"inputs": [FILES.head(data=["%%%"])]}, b"", "not base64"),
        (wrong() | {"outputs": [{"name": "logits"}]}, PIXELS.binary, "one output, 'probabilities', and 'logits'"),
        (wrong() | {"outputs": [{"name": "probabilities"}] * 2}, PIXELS.binary, "ask for it, once"),
        (
            wrong() | {"outputs": [{"name": "probabilities", "parameters": {"classification": 0}}]},
            PIXELS.binary,
            "classification",
        ),
        (
            wrong() | {"outputs": [{"name": "probabilities", "parameters": {"shared_memory_region": "a"}}]},
            PIXELS.binary,
            "shared memory",
        ),
        (wrong() | {"parameters": {"cache": "tepid"}}, PIXELS.binary, "none of warm, host, disk"),
        (wrong() | {"parameters": {"cache": "host"}}, PIXELS.binary, "not 'host'"),
        (wrong() | {"parameters": {"cold": True}}, PIXELS.binary, "unknown parameter 'cold'"),
        (wrong() | {"parameters": {"worker": 7}}, PIXELS.binary, "workers are 0 to 1"),
        (wrong() | {"parameters": {"sequence_id": 3}}, PIXELS.binary, "no state"),
        (wrong() | {"parameters": {"binary_data_output": 1}}, PIXELS.binary, "true or false"),
    ],
)
def test_a_bad_request_gets_400_and_what_would_be_right(
    client: httpx.Client, head: dict[str, Any], binary: bytes, says: str
) -> None:
    answer = send(client, INFER, head, binary)
    assert answer.status_code == 400, answer.text
    assert re.search(says, error_of(answer)), answer.text


@pytest.mark.parametrize("length", ["x", "-1", "100000", "", "1e1"])
def test_a_bad_header_length_is_refused(client: httpx.Client, length: str) -> None:
    assert LENGTH in error_of(send(client, INFER, wrong(), PIXELS.binary, length))


@pytest.mark.parametrize("length", [5, 400])
def test_a_header_length_that_cuts_the_json_is_refused(client: httpx.Client, length: int) -> None:
    answer = send(client, INFER, wrong(), PIXELS.binary + bytes(400), length)
    assert answer.status_code == 400
    assert "JSON" in error_of(answer)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"\xfe" * 9, b"[" * 100_000, b'{"inputs": [{"data": [1,}]}'])
def test_what_is_no_json_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post(INFER, content=body)
    assert answer.status_code == 400
    error_of(answer)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_planes_that_no_network_can_answer_are_the_clients_error(client: httpx.Client, value: float) -> None:
    planes = np.zeros((2, 3, 8, 8), np.float32)
    planes[1, 2, 7, 7] = value
    answer = infer(client, "decoding", numbers(planes), binary=True)
    assert answer.status_code == 400
    assert "1: the tensor holds NaN or infinity" in error_of(answer)


def test_an_image_file_that_is_none_is_the_clients_error(client: httpx.Client) -> None:
    answer = infer(client, "decoding", files([b"whatever"]), binary=True)
    assert answer.status_code == 400
    error_of(answer)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/none/ready", 404),
        ("GET", "/v2/models/none/config", 404),
        ("GET", "/v2/models/none/stats", 404),
        ("GET", "/v2/models/sim/versions/2", 404),
        ("GET", "/v2/models/sim/versions/2/config", 404),
        ("POST", "/v2/models/none/infer", 404),
        ("POST", "/v2/models/sim/versions/2/infer", 404),
        ("POST", "/v2/models/sim/nothing/1/infer", 404),
        ("POST", "/v2/models//infer", 404),
        ("POST", "/v2/repository/models/none/load", 404),
        ("POST", "/v2/repository/models/none/unload", 404),
        ("POST", "/v2/repository/models/..%2f..%2fetc/load", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", INFER, 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2", 405),
    ],
)
def test_what_is_not_there_is_an_error_in_kserves_shape(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    error_of(answer)


def test_a_body_over_the_limit_gets_413(client: httpx.Client) -> None:
    answer = send(client, INFER, wrong(), bytes(1 << 20))
    assert answer.status_code == 413
    error_of(answer)


def test_deepdetects_errors_keep_their_shape(client: httpx.Client) -> None:
    assert (
        client.post("/predict/none", content=b"x", headers={"Content-Type": "image/jpeg"}).json()["status"]["dd_code"]
        == 1002
    )


def test_the_key_is_asked_for_except_by_health(start_server: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a-long-secret")
    server = start_server("--workers", "1", "--devices", "cpu", "--api-key-file", str(tmp_path / "key")).wait_ready()
    with server.client() as client:
        assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
        for method, path in (("GET", "/v2"), ("POST", INFER), ("POST", "/v2/repository/index")):
            answer = client.request(method, path)
            assert answer.status_code == 401
            error_of(answer)
    with server.client(headers={"Authorization": "Bearer a-long-secret"}) as client:
        simulated(client, "sim")
        output(infer(client, "sim", files([b"x"]), binary=True))


def test_a_full_queue_gets_429_and_a_client_that_leaves_is_dropped(start_server: Callable[..., Server]) -> None:
    server = start_server("--workers", "1", "--devices", "cpu", "--queue", "2").wait_ready()
    with server.client() as client:
        simulated(client, "slow", forward_s=LONG_S)
        leaving = [begin(server, "slow", {"cache": "disk"}) for _ in range(2)]
        until(lambda: sample(client, "dlserve_worker_in_flight") == 2)
        answer = infer(client, "slow", FILES, binary=True)
        assert (answer.status_code, answer.headers["retry-after"].isdigit()) == (429, True)
        error_of(answer)
        for connection in leaving:
            connection.close()
        until(lambda: sample(client, "dlserve_cancelled_total") >= 1)
        output(infer(client, "slow", FILES, binary=True))


# ---- the repository


def index(client: httpx.Client, **asked: Any) -> dict[str, str]:
    answer = client.post("/v2/repository/index", json=asked)
    assert answer.status_code == 200
    return {row["name"]: row["state"] for row in answer.json()}


def test_an_unloaded_model_frees_its_memory_and_comes_back_as_it_was(server: Server, client: httpx.Client) -> None:
    body = {
        "mllib": "simulated",
        "description": "kept",
        "parameters": {"mllib": {"bytes": 5000, "nclasses": 7, "load_s": 0.01}, "output": {"best": 2}},
    }
    assert client.put("/services/coming", json=body).status_code == 201
    used = sample(client, "dlserve_cache_used_bytes")
    assert client.post("/v2/repository/models/Coming/load").json() == {}
    assert sample(client, "dlserve_cache_used_bytes") == used + 2 * 5000  # on both workers
    for worker in (0, 1):
        content, only, before = output(infer(client, "coming", FILES, binary=True, parameters={"worker": worker}))
        assert content["parameters"]["cache"] == "warm"
        assert only["shape"] == [1, 7]
    assert (
        client.post("/v2/repository/models/coming/unload", json={"parameters": {"unload_dependents": False}}).json()
        == {}
    )
    until(lambda: sample(client, "dlserve_cache_used_bytes") == used)
    assert index(client)["coming"] == "UNAVAILABLE"
    assert "coming" not in index(client, ready=True)
    for path in ("/v2/models/coming", "/v2/models/coming/ready", "/services/coming"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "/v2/repository/models/coming/load" in answer.text
    assert infer(client, "coming", FILES, binary=True).status_code == 404
    assert client.post("/v2/repository/models/coming/unload").status_code == 200  # harmless

    calls = client.post("/v2/repository/models/coming/load").status_code
    assert calls == 200
    assert index(client)["coming"] == "READY"
    content, _, after = output(infer(client, "coming", FILES, binary=True))
    assert content["parameters"]["cache"] == "warm"
    assert after.tolist() == before.tolist()
    found = client.get("/services/coming").json()["body"]
    assert (found["description"], found["parameters"]["output"]["best"]) == ("kept", 2)
    assert found["service_stats"]["predict_success"] == 3  # totals go on
    assert "was deleted" not in "".join(server.log)


def test_calls_under_way_are_answered_while_their_model_is_unloaded(server: Server, client: httpx.Client) -> None:
    simulated(client, "leaving", forward_s=LONG_S)
    connections = [begin(server, "leaving", {"worker": worker}) for worker in (0, 1)]
    until(lambda: sample(client, "dlserve_worker_in_flight") == 2)
    assert client.post("/v2/repository/models/leaving/unload").status_code == 200
    assert infer(client, "leaving", FILES, binary=True).status_code == 404
    assert [connection.getresponse().status for connection in connections] == [200, 200]
    for connection in connections:
        connection.close()


def test_a_deleted_model_is_not_remembered_and_a_created_one_takes_its_place(client: httpx.Client) -> None:
    simulated(client, "twice")
    client.post("/v2/repository/models/twice/unload")
    assert client.delete("/services/twice").status_code == 200
    assert client.post("/v2/repository/models/twice/load").status_code == 404
    simulated(client, "twice")
    client.post("/v2/repository/models/twice/unload")
    simulated(client, "twice")
    assert index(client)["twice"] == "READY"
    assert client.delete("/services/twice").status_code == 200
    assert "twice" not in index(client)


def test_a_folder_that_came_after_the_start_is_loaded_by_its_name(models: Path, client: httpx.Client) -> None:
    (models / "late").mkdir()
    (models / "late" / "model.toml").write_text(tomli_w.dumps({"engine": "simulated", "classes": 3}))
    assert client.post("/v2/repository/models/late/load").status_code == 200
    _, only, _ = output(infer(client, "late", FILES, binary=True))
    assert only["shape"] == [1, 3]
    (models / "broken").mkdir()
    (models / "broken" / "model.toml").write_text("engine = 7")
    answer = client.post("/v2/repository/models/broken/load")
    assert answer.status_code == 400
    assert "broken" in error_of(answer)


def test_a_load_with_a_configuration_is_refused(client: httpx.Client) -> None:
    answer = client.post("/v2/repository/models/sim/load", json={"parameters": {"config": "{}"}})
    assert answer.status_code == 400
    assert "'config'" in error_of(answer)
    for path in ("/v2/repository/index", "/v2/repository/models/sim/load", "/v2/repository/models/sim/unload"):
        answer = client.post(path, content=b"{no")
        assert answer.status_code == 400
        error_of(answer)


def test_a_load_that_fails_leaves_the_model_unloaded(models: Path, client: httpx.Client) -> None:
    folder = models / "fading"
    folder.mkdir()
    (folder / "model.toml").write_text(tomli_w.dumps({"engine": "simulated", "parameters": {"bytes": 1 << 49}}))
    answer = client.post("/v2/repository/models/fading/load")
    assert answer.status_code == 400
    assert "--cache-mb" in error_of(answer)
    assert "fading" not in index(client)


def test_the_routes_are_described(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{name}",
        "/v2/models/{name}/versions/{version}",
        "/v2/models/{name}/ready",
        "/v2/models/{name}/config",
        "/v2/models/{name}/stats",
        "/v2/models/stats",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}/infer",
        "/v2/repository/index",
        "/v2/repository/models/{name}/load",
        "/v2/repository/models/{name}/unload",
    } <= set(paths)


def test_photographs_sent_as_files_are_told_apart(client: httpx.Client) -> None:
    rows = [output(infer(client, "sim", files([photograph(seed, 16, 16)]), binary=False))[2] for seed in range(4)]
    assert len({int(row.argmax()) for row in rows}) > 1
