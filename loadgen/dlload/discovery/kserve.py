"""A server of the Open Inference Protocol tells of itself in /v2, of its models in its repository's index."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from dlload.discovery.asker import Asker
from dlload.discovery.base import Target
from dlload.errors import TargetError
from dlload.protocols.kserve import ModelForm
from dlload.protocols.tensors import ANY, InputForm, input_form

BINARY = "binary_tensor_data"
"""The extension by that name: https://docs.nvidia.com/deeplearning/triton-inference-server, protocol extensions."""
_TAKES_BINARY_UNTOLD = frozenset({"OpenVINO Model Server"})
DLSERVE = "dlserve"
_WHOLE = re.compile(r"-?\d+")


class _Server(msgspec.Struct):
    name: str
    version: str = ""
    extensions: tuple[str, ...] = ()


class _Indexed(msgspec.Struct):
    name: str
    state: str = ""
    reason: str | None = None


class _VersionStatus(msgspec.Struct):
    state: str = ""


class _Configured(msgspec.Struct):
    model_version_status: tuple[_VersionStatus, ...] = ()


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: tuple[int | str, ...] = ()


class _Model(msgspec.Struct):
    inputs: tuple[_Tensor, ...] | None = None
    outputs: tuple[_Tensor, ...] | None = None


def look_at(asker: Asker) -> Target:
    """The server and the states of its models. Raises TargetError."""
    server = asker.told(_Server, "GET", "/v2")
    if server is None:
        raise TargetError(f"{asker.url} does not know /v2: no server of the Open Inference Protocol; see --protocol")
    states = _states(asker)
    ready = [name for name, why in (states or {}).items() if not why]
    return Target(
        url=asker.url,
        info={"server": msgspec.to_builtins(server)},
        is_dlserve=server.name == DLSERVE,
        services=tuple(sorted(ready)),
        style="kserve",
        not_ready={name: why for name, why in (states or {}).items() if why},
        takes_binary=BINARY in server.extensions or server.name in _TAKES_BINARY_UNTOLD,
        can_list=states is not None,
    )


def check_ready(asker: Asker, target: Target, services: Sequence[str]) -> Target:
    """Where the server cannot list its models: those that were asked for, if they are ready. Raises TargetError."""
    for service in services:
        status, _ = asker.ask("GET", f"{_path(service)}/ready")
        if status != 200:
            raise TargetError(
                f"{target.url} says that model {service} is not ready (HTTP {status}); load it, or see --services"
            )
    return replace(target, services=tuple(sorted(services)))


def with_models(asker: Asker, target: Target, services: Sequence[str], wanted: InputForm | None) -> Target:
    """The target, with the input of each service. `wanted`: in place of what the models tell. Raises TargetError."""
    models: dict[str, ModelForm] = {}
    told: dict[str, Any] = {}
    for service in services:
        said = asker.json("GET", _path(service))
        if said is None:
            raise TargetError(f"{target.url} has no model {service}; see --services")
        told[service] = said
        models[service] = model_form(service, said, wanted)
    return replace(target, models=models, info={**target.info, "models": told})


def model_form(service: str, said: dict[str, Any], wanted: InputForm | None) -> ModelForm:
    """From a model's metadata. Raises TargetError where no image can be made into its input."""
    try:
        model = msgspec.convert(said, _Model)
    except msgspec.ValidationError as exc:
        raise TargetError(f"what the server says of model {service} is no metadata: {exc}") from exc
    if wanted is None:
        if len(model.inputs or ()) != 1:
            raise TargetError(
                f"model {service} tells of {len(model.inputs or ())} inputs, and the stream has one image to send; "
                "say what to send with --input-tensor NAME:TYPE:SHAPE"
            )
        (told,) = model.inputs or ()
        wanted = input_form(told.name, told.datatype, _sides(told), f"model {service}")
    is_counted = wanted.is_batched and wanted.shape[0] == ANY
    counted = [output.name for output in model.outputs or () if is_counted and _sides(output)[:1] == (ANY,)]
    return ModelForm(wanted, frozenset(counted))


def _sides(told: _Tensor) -> tuple[int, ...]:
    """As numbers; some servers write strings, and names for what is open."""
    return tuple(int(side) if isinstance(side, int) or _WHOLE.fullmatch(side) else ANY for side in told.shape)


def _states(asker: Asker) -> dict[str, str] | None:
    """Model -> "" or why it is not ready; None where the server does not tell. The last of several versions counts."""
    index = asker.told(tuple[_Indexed, ...], "POST", "/v2/repository/index", b"{}")
    if index is not None:
        states: dict[str, str] = {}
        for one in index:
            why = (
                "" if one.state == "READY" else f"{one.state or 'not loaded'}{f': {one.reason}' if one.reason else ''}"
            )
            if states.get(one.name) != "":  # one version that is ready is enough
                states[one.name] = why
        return states
    configured = asker.told(dict[str, _Configured], "GET", "/v1/config")  # OpenVINO Model Server
    if configured is None:
        return None
    return {
        name: "" if any(version.state == "AVAILABLE" for version in one.model_version_status) else "not AVAILABLE"
        for name, one in configured.items()
    }


def _path(service: str) -> str:
    return f"/v2/models/{quote(service, safe='')}"
