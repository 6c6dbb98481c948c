"""dd_bench against a real dlserve, over a socket: the simulated engine tells the truth that its figures must not undercut."""

import csv
import json
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from dlclient.bench_result import Point, read_bench, read_points
from dlclient.samples import write_samples

from tests.clients.dd_bench.original import Original
from tests.clients.dd_bench.test_ladder import Bench
from tests.conftest import Server, simulated
from tests.loadgen.fake_servers import Listener

FORWARD_S, LOAD_S = 0.02, 0.1
PROTOTXT = """
name: "mean"
layer { name: "data" type: "Input" top: "data" input_param { shape: { dim: 1 dim: 3 dim: 224 dim: 224 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }
"""
NAMED_NET = b"\x0a\x04mean"
"""A caffemodel of nothing but its name: those layers have no weights."""


class Images(Listener):
    """Serves a folder's files."""

    def __init__(self, folder: Path) -> None:
        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *given: Any) -> None:
                super().__init__(*given, directory=str(folder))

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
                """Say nothing."""

        self.listen(Handler)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, their list, and Caffe's files of a network in `mean`."""
    folder = tmp_path_factory.mktemp("dd_bench")
    paths = write_samples(folder / "images", (320,))
    (folder / "list.txt").write_text("\n".join(path.name for path in paths))
    (folder / "mean").mkdir()
    (folder / "mean" / "deploy.prototxt").write_text(PROTOTXT)
    (folder / "mean" / "mean.caffemodel").write_bytes(NAMED_NET)
    return folder


@pytest.fixture(scope="module")
def images(folder: Path) -> Iterator[Images]:
    with Images(folder / "images") as server:
        yield server


@pytest.fixture(scope="module")
def server(folder: Path, images: Images) -> Iterator[Server]:
    """Two workers, with the service `sim`."""
    options = ["--workers", "2", "--devices", "cpu", "--data-root", str(folder)]
    server = Server(*options, "--allow-url", images.url.removeprefix("http://"), cwd=folder).wait_ready()
    with server.client() as client:
        simulated(client, "sim", forward_s=FORWARD_S, load_s=LOAD_S, bytes=1000, decode=True)
    yield server
    assert server.stop() == 0


def points(folder: Path) -> dict[int, Point]:
    return {point.setting.batch_size: point for point in read_points(folder)}


def test_no_time_is_shorter_than_the_truth_and_the_cold_call_is_cold(
    dd_bench: Bench, server: Server, tmp_path: Path
) -> None:
    options = ("--sname", "sim", "--batch-sizes", "1,4", "--npasses", 12, "--results", tmp_path / "out")
    ran = dd_bench(server.url, *options)
    assert ran.code == 0, ran.err
    found = points(tmp_path / "out")
    for size, point in found.items():
        assert point.latency_s is not None
        assert point.client_s is not None
        assert point.load is not None
        assert point.latency_s.mean is not None
        assert FORWARD_S <= point.latency_s.mean <= (point.client_s.mean or 0)
        assert point.compatible["deepdetect_mean_s_per_image"] == pytest.approx(point.latency_s.mean / size)
        assert (point.load.load_s or 0) + (point.load.first_run_s or 0) >= LOAD_S + FORWARD_S
        assert point.read_back["first_call_found"] == "disk"
        assert point.read_back["workers"] == 2
        assert not point.reasons, "every timed call was warm, whichever worker took it"
        assert 0 < (point.transform_s or 0) < point.latency_s.mean
        assert point.simulated
    assert read_bench(tmp_path / "out").simulated


@pytest.mark.parametrize("way", ["base64", "path", "raw", "url"])
def test_images_reach_the_server_in_every_way(
    dd_bench: Bench, server: Server, images: Images, folder: Path, tmp_path: Path, way: str
) -> None:
    listed = ("--list-bench-files", folder / "list.txt")
    options: dict[str, tuple[object, ...]] = {
        "base64": ("--images", folder / "images"),
        "raw": ("--images", folder / "images", "--input", "raw"),
        "path": ("--remote-bench-data-dir", folder / "images", *listed),
        "url": ("--remote-bench-data-dir", images.url, *listed),
    }
    output = ("--json-output", tmp_path / "out.json", "--max-batch-size", 2, "--npasses", 1)
    ran = dd_bench(server.url, "--sname", "sim", *options[way], *output)
    one, two = json.loads((tmp_path / "out.json").read_text())
    assert (one["input"], one["fail"]) == (way, False)
    assert two["fail"] == (way == "raw"), "raw carries one image"
    assert ran.code == int(way == "raw")


def test_what_deepdetects_own_tool_does_ours_does_too_with_its_default_engine(
    dd_bench: Bench, server: Server, folder: Path, tmp_path: Path
) -> None:
    paths = [str(path) for path in sorted((folder / "images").iterdir())]
    with server.client() as client:
        original = Original(client, "Mean", str(folder / "mean"), paths, nclasses=3)
        original.create(1)
        original.predict(1)
        theirs = [original.rung(size, 5) for size in (1, 2, 4)]
        original.delete()
        for size in (1, 2):  # --recreate
            original.create(size)
            theirs.append(original.rung(size, 5))
            original.delete()
    assert all(per_image > 0 and transform > 0 for per_image, transform in theirs)
    listed = ("--remote-bench-data-dir", folder / "images", "--list-bench-files", folder / "list.txt")
    ours = ("--sname", "Mean", "--create", folder / "mean", "--nclasses", 3, "--max-batch-size", 4, *listed)
    for more in (["--auto-kill"], ["--recreate", "--auto-kill"]):
        ran = dd_bench(server.url, *ours, *more, "--csv-output", tmp_path / "out.csv")
        assert ran.code == 0, ran.out + ran.err
        rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
        assert [row["batch_size"] for row in rows] == ["1", "2", "4"]
        assert all(float(row["mean time per img"]) > 0 and float(row["creation time"] or 1) > 0 for row in rows)
    with server.client() as client:
        assert client.get("/services/mean").status_code == 404


def test_a_gpu_that_the_server_does_not_have_is_not_measured_on_its_cpu(dd_bench: Bench, server: Server) -> None:
    ran = dd_bench(server.url, "--sname", "sim", "--batch-sizes", 1, "--gpu", "--gpuid", "1")
    assert ran.code == 1
    assert "unsupported: no worker of this server runs on cuda:1, only on cpu" in ran.out


def test_a_batch_that_the_server_ran_in_parts_is_told(dd_bench: Bench, server: Server) -> None:
    with server.client() as client:
        simulated(client, "small", oom_above=2)
    ran = dd_bench(server.url, "--sname", "small", "--batch-sizes", "2,8", "--npasses", 1)
    assert ran.code == 0, ran.err
    assert "the server ran at most 2 of 8 images at once" in ran.out
    assert "of 2 images" not in ran.out


def test_models_are_served_where_no_server_is(dd_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "models" / "slow").mkdir(parents=True)
    model = {"engine": "simulated", "parameters": {"forward_s": FORWARD_S}}
    (tmp_path / "models" / "slow" / "model.toml").write_text(tomli_w.dumps(model))
    with Images(tmp_path) as free:
        port = free.url.rpartition(":")[2]
    options = ("--port", port, "--models", "slow", "--repository", tmp_path / "models", "--batch-sizes", 1)
    ran = dd_bench(None, *options, "--npasses", 1, "--results", tmp_path / "out")
    assert ran.code == 0, ran.err
    (point,) = points(tmp_path / "out").values()
    assert (point.setting.model, point.setting.target) == ("slow", f"http://localhost:{port}")
    assert point.simulated
    assert "ready" in (tmp_path / "out" / "logs" / "dlserve.log").read_text()
    assert ran.out.splitlines()[-1].split()[0] == "slow"
