"""Which engine gets which of a request's settings."""

from typing import Any

import pytest
from dlserve.errors import RequestError
from dlserve.front.creation import engine_settings


@pytest.mark.parametrize(
    ("engine", "asked", "settings"),
    [
        ("torch", {}, {}),
        ("torch", {"datatype": "float16", "gpu": True, "nclasses": 3}, {"datatype": "fp16"}),
        ("torch", {"datatype": "fp32", "finetuning": False, "surprise": 1}, {"datatype": "fp32"}),
        ("openvino", {"streams": 2, "hint": "throughput"}, {"streams": 2, "hint": "throughput"}),
        ("simulated", {"datatype": "fp32", "load_s": 1, "laod_s": 2}, {"load_s": 1, "laod_s": 2}),
    ],
)
def test_an_engine_gets_its_own_settings_and_unknown_keys_are_ignored(
    engine: str, asked: dict[str, Any], settings: dict[str, Any]
) -> None:
    assert engine_settings(engine, asked) == settings


@pytest.mark.parametrize(
    ("engine", "asked", "said"),
    [
        ("torch", {"streams": 2}, r"streams is a setting of mllib openvino, which torch would ignore: leave it out"),
        ("openvino", {"cuda_graphs": True}, r"cuda_graphs is a setting of mllib torch.*openvino has hint"),
        ("simulated", {"datatype": "fp16"}, r"datatype 'fp16' is not what runs here, which is fp32"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused_and_says_whose_it_is(
    engine: str, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        engine_settings(engine, asked)
