"""From a matrix to its points: tables, no doubles."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from dlclient.bench.known import Known, to_be_built
from dlclient.bench.matrix import expand, unequal
from dlclient.bench.suite import Matrix, Suite
from dlclient.bench_result import Setting
from dlmodels.repository import ModelSpec
from dlmodels.zoo.catalog import CATALOG
from dlmodels.zoo.presets import PRESETS

KNOWN = Known(
    repository={"mine": ModelSpec("mine", "openvino"), "a": ModelSpec("a", "torch"), "b": ModelSpec("b", "torch")}
)


def points(*matrices: dict[str, Any], known: Known = KNOWN, target: str = "inproc") -> list[Setting]:
    suite = Suite(matrix=tuple(msgspec.convert(matrix, Matrix) for matrix in matrices), target=target)
    return list(expand(suite, known))


def told(settings: list[Setting], *fields: str) -> list[tuple[object, ...]]:
    return [tuple(getattr(setting, field) for field in fields) for setting in settings]


@pytest.mark.parametrize(
    ("matrix", "fields", "expected"),
    [
        ({"models": "a"}, ("model", "engine", "device", "question", "batch_size"), [("a", "torch", "cpu", "latency", 1)]),
        (
            {"models": ["a", "b"], "batch_sizes": [1, 2]},
            ("model", "batch_size"),
            [("a", 1), ("a", 2), ("b", 1), ("b", 2)],
        ),
        (
            {"models": "a", "batch_sizes": [1, 8], "in_flight": [4, 2], "questions": "throughput", "zip": [["batch_sizes", "in_flight"]]},
            ("batch_size", "in_flight"),
            [(1, 4), (8, 2)],
        ),
        (
            {"models": "a", "batch_sizes": [1, 8], "threads": [1, 2], "exclude": [{"batch_sizes": [8, 16], "threads": 1}]},
            ("threads", "batch_size"),
            [(1, 1), (2, 1), (2, 8)],
        ),
        ({"models": "a", "threads": [0, 2], "exclude": [{"threads": 0}]}, ("threads",), [(2,)]),
        (
            {"models": ["a", "mine"], "engines": ["own", "caffe"]},
            ("model", "engine"),
            [("a", "torch"), ("a", "opencv"), ("mine", "openvino"), ("mine", "opencv")],
        ),
        ({"models": "a", "engines": ["own", "torch"]}, ("engine",), [("torch",)]),
        ({"models": "a", "batch_sizes": [2, 2, 1]}, ("batch_size",), [(2,), (1,)]),
        (
            {"models": "a", "questions": ["latency", "max-batch", "load"], "batch_sizes": [1, 4], "in_flight": [2, 3]},
            ("question", "batch_size", "in_flight"),
            [("latency", 1, 1), ("latency", 4, 1), ("max-batch", 1, 1), ("load", 1, 1)],
        ),
        ({"models": "a", "questions": ["throughput", "latency"]}, ("in_flight",), [(0,), (1,)]),
        (
            {"models": "a", "options": {"hint": ["latency", "throughput"], "cache": True}},
            ("options",),
            [({"hint": "latency", "cache": True},), ({"hint": "throughput", "cache": True},)],
        ),
        (
            {
                "models": "a",
                "threads": [1, 2],
                "options": {"hint": ["latency", "throughput"]},
                "zip": [["threads", "options.hint"]],
                "exclude": [{"options": {"hint": "latency"}}],
            },
            ("threads", "options"),
            [(2, {"hint": "throughput"})],
        ),
        ({"models": "a", "precision": ["", "bf16"], "affinity": "0-1", "inputs": "image"}, ("precision", "affinity", "input"), [("", "0-1", "image"), ("bf16", "0-1", "image")]),
        ({"models": "stream-2018", "exclude": [{"models": ["vgg16", "gluon-zoo"]}]}, ("model",), [(name,) for name in PRESETS["stream-2018"] if name != "vgg16"]),
    ],
)  # fmt: skip
def test_a_matrix_is_its_points(
    matrix: dict[str, Any], fields: tuple[str, ...], expected: list[tuple[object, ...]]
) -> None:
    assert told(points(matrix), *fields) == expected


def test_a_point_that_two_matrices_name_is_one() -> None:
    named = points({"models": "a", "batch_sizes": [1, 2]}, {"models": ["b", "a"], "batch_sizes": 2})
    assert told(named, "model", "batch_size") == [("a", 1), ("a", 2), ("b", 2)]
    assert len({setting.id for setting in named}) == 3


@pytest.mark.parametrize(
    ("gpus", "engine", "devices"),
    [(0, "torch", ["cpu"]), (1, "torch", ["cpu", "cuda:0"]), (8, "openvino", ["cpu"]), (2, "tensorrt", ["cuda:0"]), (0, "tensorrt", ["cpu"])],
)  # fmt: skip
def test_available_devices_are_those_that_the_engine_and_the_machine_have(
    gpus: int, engine: str, devices: list[str]
) -> None:
    named = points({"models": "a", "engines": engine, "devices": "available"}, known=Known(gpus=gpus))
    assert [setting.device for setting in named] == devices


def test_at_a_server_it_decides_on_engine_and_device_unless_told() -> None:
    url = "http://127.0.0.1:8080"
    assert told(points({"models": "any"}, target=url), "engine", "device", "target") == [("", "", url)]
    asked = points({"models": "any", "engines": "caffe", "devices": "cuda:1"}, target=url)
    assert told(asked, "engine", "device") == [("opencv", "cuda:1")]


@pytest.mark.parametrize(
    ("matrix", "text"),
    [
        ({"batch_sizes": [1, 2], "threads": [1], "zip": [["batch_sizes", "threads"]]}, "batch_sizes has 2, threads has 1"),
        ({"zip": [["batch_sizes", "thread"]]}, "it zips 'thread', which is no list"),
        ({"zip": [["batch_sizes", "threads"], ["threads", "in_flight"]]}, "it zips threads more than once"),
        ({"models": "stream-2018", "batch_sizes": [1, 2], "zip": [["models", "batch_sizes"]]}, "models has 8, batch_sizes has 2"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_zipped_are_told(matrix: dict[str, Any], text: str) -> None:
    assert any(text in problem for problem in unequal(msgspec.convert({"models": "a"} | matrix, Matrix)))


def test_the_own_engine_of_a_network_that_is_not_built_is_the_one_that_it_will_be_built_for() -> None:
    named = points({"models": ["resnet18", "gluon-resnet18_v1"]}, known=Known())
    assert told(named, "engine") == [("torch",), ("mxnet",)]
    assert to_be_built(CATALOG["gluon-resnet18_v1"]).engine == "mxnet"
    assert (
        Known(repository={"resnet18": ModelSpec("resnet18", "onnxruntime", str(Path()))}).engine_of("resnet18")
        == "onnxruntime"
    )
