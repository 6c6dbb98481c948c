"""What is asked of a service, by task, engine and option."""

import json
from typing import Any

import pytest
from dlclient.dd_bench.arguments import parse
from dlclient.dd_bench.calls import Lane, creation_input, creation_mllib, predict
from dlclient.dd_bench.options import Options
from dlclient.request_writer import RequestWriter

WRITER = RequestWriter("http://gpu1:8080", None)


def read(*argv: str) -> Options:
    return parse(["--sname", "s", *argv], lambda _: None)


def asked(options: Options, *images: bytes, lane: Lane | None = None, cache: str | None = None) -> Any:
    request = predict(options, WRITER, lane or Lane("s", 0), images or (b'"eA=="',), cache)
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /predict HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}" in head.decode()
    return json.loads(body)


@pytest.mark.parametrize(
    ("argv", "output"),
    [
        ("", {}),
        ("--detection", {"confidence_threshold": 0.1, "bbox": True}),
        ("--detection --search", {"confidence_threshold": 0.1, "search": True, "rois": "rois", "bbox": False}),
        (
            "--detection --search --search-multibox",
            {"confidence_threshold": 0.1, "search": True, "rois": "rois", "bbox": False, "multibox_rois": True},
        ),
        ("--segmentation --search", {}),
        ("--regression", {"regression": True}),
        ("--search", {"search": True}),
        ("--search-multibox", {}),
        ("--best 3", {"best": 3}),
    ],
)
def test_each_task_asks_for_its_output(argv: str, output: dict[str, Any]) -> None:
    assert asked(read(*argv.split()))["parameters"]["output"] == output


def test_a_call_says_where_it_runs_and_how_images_are_resized() -> None:
    options = read("--gpu", "--gpu-resize", "--image-interp", "linear", "--segmentation", "--test-batch-size", "0")
    said = asked(options, b'"a"', b'"b"', lane=Lane("s", 1, worker=3), cache="disk")
    assert said["data"] == ["a", "b"]
    assert said["parameters"]["mllib"] == {
        "gpu": True, "gpuid": 1, "worker": 3, "cache": "disk", "net": {"test_batch_size": 2},
    }  # fmt: skip
    assert said["parameters"]["input"] == {
        "width": 224, "height": 224, "interp": "linear", "cuda": True, "segmentation": True,
    }  # fmt: skip


def test_raw_bytes_are_the_body_and_what_is_asked_stands_in_the_path() -> None:
    request = predict(read("--input", "raw", "--best", "1"), WRITER, Lane("s t", 0, worker=1), (b"\xff\xd8",), "disk")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /predict/s%20t?best=1&cache=disk&worker=1 HTTP/1.1\r\n")
    assert body == b"\xff\xd8"


@pytest.mark.parametrize(
    ("argv", "most", "keeps_engine"),
    [
        ("--mllib torch", 1, True),
        ("--mllib torch --recreate", 4, True),
        ("--mllib tensorrt --max-batch-size 64", 64, True),
        ("--mllib tensorrt --recreate", 4, False),
    ],
)
def test_only_tensorrt_is_made_for_larger_batches_and_made_anew_leaves_no_engine_files(
    argv: str, most: int, keeps_engine: bool
) -> None:
    options = read("--create", "/m", *argv.split())
    assert options.creation is not None
    said = creation_mllib(options, options.creation, 0, 4)
    assert (said["maxBatchSize"], said["readEngine"], said["writeEngine"]) == (most, keeps_engine, keeps_engine)
    assert "dla" not in said


def test_a_creation_says_what_the_network_is_for() -> None:
    options = read("--create", "/m", "--segmentation", "--regression", "--bw", "--eqhist", "--scale", "0.5", "--dla")
    assert options.creation is not None
    assert creation_input(options, options.creation) == {
        "width": 224, "height": 224, "bw": True, "rgb": False, "histogram_equalization": True, "scale": 0.5,
        "segmentation": True, "regression": True,
    }  # fmt: skip
    assert creation_mllib(options, options.creation, 0, 1)["dla"] == 0
