"""DeepDetect's parameters, by tables."""

from typing import Any

import pytest
from dlmodels.images import InputSpec
from dlserve.errors import ApiError, FieldError, InputError, RequestError
from dlserve.front.parameters import Execution, Output, execution, input_spec, output, section, without_nulls

BASE = InputSpec(width=224, height=224, rgb=True)


def test_nulls_and_empty_arrays_count_as_absent_at_any_depth() -> None:
    assert without_nulls({"a": None, "b": {"c": None, "d": 0, "e": []}, "f": [None]}) == {"b": {"d": 0}, "f": [None]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, BASE),
        ({"connector": "image", "unknown": 1}, BASE),
        ({"width": 96, "height": 64}, InputSpec(width=96, height=64, rgb=True)),
        ({"scale": 1}, InputSpec(rgb=True, scale=1.0)),
        ({"mean": [1, 2.5, 3]}, InputSpec(rgb=True, mean=(1.0, 2.5, 3.0))),
        ({"rgb": False, "interp": "area"}, InputSpec(rgb=False, interp="area")),
        ({"scaled": False, "crop_width": 0}, BASE),
    ],
)
def test_a_request_changes_only_what_it_names(given: dict[str, Any], expected: InputSpec) -> None:
    assert input_spec(BASE, given) == expected


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"width": "224"}, "width"),
        ({"width": True}, "width"),
        ({"width": 0}, "width"),
        ({"height": -1}, "height"),
        ({"width": 10**9}, "width"),
        ({"rgb": 1}, "rgb"),
        ({"mean": [1.0, 2.0]}, "mean"),
        ({"mean": ["a", "b", "c"]}, "mean"),
        ({"std": [0.0, 1.0, 1.0]}, "std"),
        ({"interp": "magic"}, "interp"),
        ({"crop_width": 100}, "crop_width"),
        ({"segmentation": True}, "segmentation"),
    ],
)
def test_a_bad_input_parameter_is_an_error_that_names_it(given: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        input_spec(BASE, given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Output(5, 0.0)),
        ({"best": 1}, Output(1, 0.0)),
        ({"best": -1, "confidence_threshold": 1}, Output(-1, 1.0)),
        ({"best": 0, "measure": []}, Output(0, 0.0)),
        ({"bbox": False, "search": False}, Output(5, 0.0)),
    ],
)
def test_output_parameters(given: dict[str, Any], expected: Output) -> None:
    assert output(given, Output()) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"best": "3"},
        {"best": -2},
        {"best": 1.5},
        {"confidence_threshold": "x"},
        {"template": "{{x}}"},
        {"bbox": True},
        {"measure": ["acc"]},
    ],
)
def test_bad_or_unsupported_output_parameters_are_errors(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(given))):
        output(given, Output())


def test_execution_parameters() -> None:
    assert execution({"gpuid": [0, 1], "net": {"test_batch_size": 2}, "cache": "disk", "worker": 1}) == Execution(
        "disk", 1
    )
    assert execution({"datatype": "fp32"}) == Execution()


@pytest.mark.parametrize(
    "given",
    [{"cache": "hot"}, {"cache": 1}, {"worker": "0"}, {"worker": True}, {"datatype": "fp16"}, {"extract_layer": "fc"}],
)
def test_bad_execution_parameters_are_errors(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(given))):
        execution(given)


def test_a_section_must_be_an_object() -> None:
    assert section({}, "input") == {}
    for error in (FieldError, InputError):
        with pytest.raises(ApiError, match="input must be an object") as caught:
            section({"input": 3}, "input", error)
        assert type(caught.value) is error


@pytest.mark.parametrize("spelling", ["fp16", "float16", "half"])
def test_a_call_may_name_the_precision_that_its_service_runs_in_and_no_other(spelling: str) -> None:
    assert execution({"datatype": spelling}, "fp16") == Execution()
    with pytest.raises(RequestError, match="which is bf16: leave it out"):
        execution({"datatype": spelling}, "bf16")
    with pytest.raises(RequestError, match="fp32"):
        execution({"datatype": "fp32"}, "fp16")
