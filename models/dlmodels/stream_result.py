"""What `dlmodels profile` needs of a stream's result folder (run.json, requests.jsonl), and no more.

The full schema is dlclient.results; this package may not depend on a client, so it reads what it needs by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dlmodels.errors import ResultError
from dlmodels.images import InputSpec

RESULT_SCHEMA = "dlserve-stream/2"


class Call(msgspec.Struct, frozen=True):
    """One request that got a good answer from a server that tells its stages."""

    model: str
    cache: str
    batch_size: int
    images: int
    stages: Mapping[str, float]


class _Line(msgspec.Struct):
    model: str
    images: int
    error: str
    cache: str | None = None
    batch_size: int | None = None
    stages: dict[str, float] | None = None


class _Summary(msgspec.Struct):
    weights_bytes: int | None = None


class _Phase(msgspec.Struct):
    services: dict[str, _Summary] = {}


class _Plan(msgspec.Struct):
    services: tuple[str, ...]


class _Mllib(msgspec.Struct):
    nclasses: int = 1000
    decode: bool = False


class _Parameters(msgspec.Struct):
    mllib: _Mllib = msgspec.field(default_factory=_Mllib)
    input: dict[str, object] = {}


class _Extras(msgspec.Struct):
    simulated: bool = False


class _Service(msgspec.Struct):
    name: str = ""
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)
    dlserve: _Extras = msgspec.field(default_factory=_Extras)


class _Worker(msgspec.Struct):
    device_name: str = ""


class _Server(msgspec.Struct):
    workers: tuple[_Worker, ...] = ()


class _Info(msgspec.Struct):
    services: tuple[_Service, ...] = ()
    dlserve: _Server = msgspec.field(default_factory=_Server)


class _Target(msgspec.Struct):
    info: _Info


class _Run(msgspec.Struct):
    schema: str
    started: str
    verdict: str
    plan: _Plan
    target: _Target
    phases: tuple[_Phase, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What the server told of a service. `input` None: nothing that could be used."""

    weights_bytes: int
    classes: int
    input: InputSpec | None
    decodes: bool


@dataclass(frozen=True, slots=True)
class Result:
    """A stream: its services in the plan's order, and its good answers."""

    services: tuple[str, ...]
    calls: tuple[Call, ...]
    valid: bool
    started: str
    hardware: str
    """Names of the devices that served."""
    weights_bytes: Mapping[str, int]
    told: Mapping[str, _Service]

    def about(self, service: str) -> About:
        """What the server told of it."""
        told = self.told.get(service, _Service())
        known = {key: value for key, value in told.parameters.input.items() if key in InputSpec.__struct_fields__}
        try:
            images: InputSpec | None = msgspec.convert(known, InputSpec)
        except msgspec.ValidationError:
            images = None  # another server's idea of an input
        return About(
            weights_bytes=self.weights_bytes.get(service, 0),
            classes=told.parameters.mllib.nclasses,
            input=images,
            decodes=told.parameters.mllib.decode if told.dlserve.simulated else True,
        )


def read_result(folder: Path) -> Result:
    """Read the result folder of a stream. Raises ResultError naming the file and what to do."""
    path = folder / "run.json"
    try:
        run = msgspec.json.decode(_content(path), type=_Run)
    except msgspec.DecodeError as exc:
        raise ResultError(f"{path} is no result of a stream: {exc}; name the folder that the stream wrote") from exc
    if run.schema != RESULT_SCHEMA:
        raise ResultError(f"{path} has schema {run.schema!r}, this version reads {RESULT_SCHEMA!r}: stream again")
    return Result(
        services=run.plan.services,
        calls=_calls(folder / "requests.jsonl"),
        valid=run.verdict == "valid",
        started=run.started,
        hardware=" and ".join(sorted({one.device_name for one in run.target.info.dlserve.workers if one.device_name}))
        or "hardware that was not told",
        weights_bytes={
            name: summary.weights_bytes
            for phase in run.phases
            for name, summary in phase.services.items()
            if summary.weights_bytes
        },
        told={service.name: service for service in run.target.info.services},
    )


def _calls(path: Path) -> tuple[Call, ...]:
    decoder = msgspec.json.Decoder(_Line)
    calls = []
    lines = _content(path).split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last line's end is torn, or nothing
        try:
            read = decoder.decode(line)
        except msgspec.DecodeError as exc:
            raise ResultError(f"{path}:{number}: {exc}; restore the file or stream again") from exc
        stages = read.stages or {}
        if not read.error and read.cache and read.batch_size and {"load", "forward"} <= stages.keys():
            calls.append(Call(read.model, read.cache, read.batch_size, read.images, stages))
    if not calls:
        raise ResultError(f"{path}: no good answer tells its stages; only dlserve's answers do, so stream at one")
    return tuple(calls)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ResultError(
            f"cannot read {path}: {exc.strerror}; name the folder that the stream wrote (it holds run.json)"
        ) from exc
