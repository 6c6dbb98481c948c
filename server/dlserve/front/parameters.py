"""DeepDetect's `parameters`: what a request body says, checked, as our own types. Pure.

As in DeepDetect, nulls and empty arrays count as absent, unknown keys are ignored, and an int may stand for a float. A
key that is known to change the answer, and that dlserve cannot honour, is an error: silence would be a wrong number.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import msgspec
from dlmodels.engines.base import Temperature
from dlmodels.errors import SettingError
from dlmodels.images import InputSpec, Interpolation, validate

from dlserve.errors import ApiError, FieldError, InputError, RequestError
from dlserve.messages import TEMPERATURES

T = TypeVar("T")
Json = Mapping[str, Any]
DEFAULT_BEST = 5
DEFAULT_DATATYPE = "fp32"
_DATATYPES = MappingProxyType({"float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"})
"""Other spellings of what the engines take."""
MOST_CLASSES = 10_000_000
MOST_NUMBER = 2**63
MOST_TIMEOUT_MS = 86_400_000
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)

_INPUT_KINDS: dict[str, type] = {
    "width": int,
    "height": int,
    "bw": bool,
    "rgb": bool,
    "scale": float,
    "mean": tuple,
    "std": tuple,
    "interp": str,
    "histogram_equalization": bool,
}
_INPUT_REFUSED = {
    "crop_width": "send width and height: the image is resized to them",
    "crop_height": "send width and height: the image is resized to them",
    "scaled": "send width and height",
    "scale_min": "send width and height",
    "scale_max": "send width and height",
    "aspect_ratio_pad": "pad the image before sending it",
    "unchanged_data": "images are read as 8-bit colour or grey",
    "segmentation": "dlserve classifies images",
    "bbox": "dlserve classifies images",
    "ctc": "dlserve classifies images",
    "keep_orig": "the image is not kept for a chain",
}
_OUTPUT_REFUSED = {
    "template": "render the JSON answer on the client",
    "network": "forward the JSON answer from the client",
    "measure": "compute it from the answers",
    "bbox": "dlserve classifies images",
    "regression": "dlserve classifies images",
    "rois": "dlserve classifies images",
    "ctc": "dlserve classifies images",
    "index": "dlserve has no similarity search",
    "search": "dlserve has no similarity search",
    "logits": "answers hold probabilities",
}
_MLLIB_REFUSED = {
    "extract_layer": "answers hold class probabilities",
    "segmentation": "dlserve classifies images",
    "ctc": "dlserve classifies images",
    "ntargets": "dlserve classifies images",
}
"""Of a predict and of a creation alike."""


class Output(msgspec.Struct, frozen=True):
    """Which classes an answer holds: the `best` most probable (-1: all) that reach `threshold`.

    `whole`: every class's probability in the order of the classes, beside them.
    """

    best: int = DEFAULT_BEST
    threshold: float = 0.0
    whole: bool = False


class Execution(msgspec.Struct, frozen=True):
    """How a call is to run: from which temperature, on which worker (None: as it is, as the balancer decides)."""

    cache: Temperature | None = None
    worker: int | None = None


def without_nulls(value: Any) -> Any:
    """Drop the keys whose value is null or an empty array, at any depth of objects, as DeepDetect does on input."""
    if not isinstance(value, dict):
        return value
    return {key: without_nulls(inner) for key, inner in value.items() if inner is not None and inner != []}


def section(parameters: Json, name: str, error: type[ApiError] = FieldError) -> Json:
    """One object of the request, {} if absent."""
    found = parameters.get(name, {})
    if not isinstance(found, dict):
        raise error(f"{name} must be an object")
    return found


def _read(given: Json, key: str, kind: type[T], error: type[ApiError], where: str, default: T) -> T:
    """One value of its kind, or the default; bool is no int, an int is a float."""
    value = given.get(key)
    if value is None:
        return default
    if kind is float and type(value) is int and abs(value) < MOST_NUMBER:
        value = float(value)
    if type(value) is not kind:
        raise error(f"{where}.{key} must be {_NAMES[kind]}, not {value!r:.80}")
    return value


_NAMES: dict[type, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    tuple: "a list of numbers",
}


def _refuse(given: Json, refused: Mapping[str, str], error: type[ApiError], where: str) -> None:
    for key, cure in refused.items():
        if given.get(key) not in (None, False, "", 0, [], {}):
            raise error(f"{where}.{key} is not supported: {cure}")


def input_spec(base: InputSpec, given: Json) -> InputSpec:
    """The service's input with what a request changes in it. Raises InputError naming the key and the cure."""
    if not given:
        return base
    _refuse(given, _INPUT_REFUSED, InputError, "parameters.input")
    changes: dict[str, Any] = {}
    for key, kind in _INPUT_KINDS.items():
        if given.get(key) is None:
            continue
        if kind is tuple:
            changes[key] = _numbers(key, given[key])
        else:
            changes[key] = _read(given, key, kind, InputError, "parameters.input", None)
    if not changes:
        return base
    if changes.get("interp", base.interp) not in INTERPOLATIONS:
        raise InputError(f"parameters.input.interp {changes['interp']!r:.80} is none of {', '.join(INTERPOLATIONS)}")
    spec = msgspec.structs.replace(base, **changes)
    try:
        validate(spec)
    except SettingError as exc:
        raise InputError(f"parameters.input: {exc}") from exc
    return spec


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    """A number per channel; DeepDetect's documentation also allows a single one."""
    values = value if isinstance(value, list) else [value]
    if any(type(number) not in (int, float) or abs(number) >= MOST_NUMBER for number in values):
        raise InputError(f"parameters.input.{key} must be a list of numbers, one per channel, not {value!r:.80}")
    return tuple(float(number) for number in values)


def output(given: Json, default: Output) -> Output:
    """`parameters.output` over the service's own. Raises RequestError."""
    if not given:
        return default
    _refuse(given, _OUTPUT_REFUSED, RequestError, "parameters.output")
    best = _read(given, "best", int, RequestError, "parameters.output", default.best)
    if best < -1:
        raise RequestError(f"parameters.output.best is {best}: give a number of classes, or -1 for all")
    return Output(
        best, _read(given, "confidence_threshold", float, RequestError, "parameters.output", default.threshold)
    )


def execution(given: Json, datatype: str = DEFAULT_DATATYPE) -> Execution:
    """`parameters.mllib` of a predict, of a service that runs in `datatype`. Raises RequestError."""
    if not given:
        return Execution()
    _refuse(given, _MLLIB_REFUSED, RequestError, "parameters.mllib")
    check_datatype(given, datatype)
    cache = given.get("cache")
    if cache is not None and cache not in TEMPERATURES:
        raise RequestError(f"parameters.mllib.cache {cache!r:.80} is none of {', '.join(TEMPERATURES)}")
    worker = given.get("worker")
    if worker is not None and type(worker) is not int:
        raise RequestError(f"parameters.mllib.worker must be the number of a worker, not {worker!r:.80}")
    return Execution(cache, worker)


def timeout_s(given: Json) -> float | None:
    """`timeout_ms` of a request's parameters, in seconds; None if absent. Raises RequestError."""
    value = given.get("timeout_ms")
    return None if value is None else _timeout_s("parameters.timeout_ms", value)


def header_timeout_s(given: bytes) -> float:
    """What X-Timeout-Ms says, in seconds. Raises RequestError."""
    try:
        return _timeout_s("X-Timeout-Ms", float(given))
    except ValueError:
        raise RequestError(f"X-Timeout-Ms must be a number of milliseconds, not {given[:40]!r}") from None


def _timeout_s(where: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= MOST_TIMEOUT_MS:
        raise RequestError(f"{where} must be a number of milliseconds, above 0 and at most a day, not {value!r:.80}")
    return float(value) / 1e3


def datatype_of(given: Json) -> Any:
    """`parameters.mllib.datatype` as engines spell it; None if absent. Whether an engine has it, it says itself."""
    asked = given.get("datatype")
    return _DATATYPES.get(asked, asked) if isinstance(asked, str) else asked


def check_datatype(given: Json, runs_in: str = DEFAULT_DATATYPE) -> None:
    """Refuse another precision than the service's rather than run as something that was not asked for."""
    asked = datatype_of(given)
    if asked not in (None, runs_in):
        cure = "leave it out, or create a service with it on an engine that has it (GET /info lists their settings)"
        raise RequestError(f"parameters.mllib.datatype {asked!r:.80} is not what runs here, which is {runs_in}: {cure}")
