"""What there is on this machine that a suite may ask for: models, engines, devices. Engines are asked without importing them."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dlmodels.conversion.routes import ENGINES, TARGETS, Target, route
from dlmodels.engines import canonical_engine, engine_type
from dlmodels.errors import ConversionError, RepositoryError, UnknownEngineError
from dlmodels.formats import readers_of
from dlmodels.repository import ModelSpec, is_name, read_model
from dlmodels.zoo.catalog import CATALOG
from dlmodels.zoo.network import Network
from dlmodels.zoo.presets import PRESETS

from dlclient.bench.suite import AVAILABLE, OWN

SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Known:
    """Found out before anything is expanded or run."""

    repository: Mapping[str, ModelSpec] = field(default_factory=dict)
    """Of each model folder by its name, what is in it."""
    broken: Mapping[str, str] = field(default_factory=dict)
    """Name of a model folder that cannot be read -> why, and the cure."""
    gpus: int = 0
    folders: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    """(model, engine) -> the folder that the engine reads, where there is one."""

    def engine_of(self, model: str) -> str:
        """The engine that a model is for; "" of one that there is not."""
        found = self.model(model)
        return found.engine if found else ""

    def model(self, name: str) -> ModelSpec | None:
        """What is in its folder, or will be in it; None: it has none and is no network of the zoo."""
        return self.repository.get(name) or (to_be_built(CATALOG[name]) if name in CATALOG else None)

    def there_is(self, model: str, engines: Iterable[str] = ()) -> bool:
        """Whether a model is in the repository or in the zoo, or needs neither, being simulated."""
        return bool(self.engine_of(model)) or (is_name(model) and set(engines) == {SIMULATED})

    def devices(self, device: str, engine: str) -> tuple[str, ...]:
        """The devices that are meant by one that a matrix names, on an engine."""
        if device != AVAILABLE:
            return (device,)
        kinds = _devices_of(engine)
        gpus = ("cuda:0",) if self.gpus and "cuda" in kinds else ()
        return (*(("cpu",) if "cpu" in kinds or not gpus else ()), *gpus)

    def unsupported(self, engine: str, device: str) -> str:
        """Why an engine cannot work on a device of this machine, and the cure; "" if it can."""
        if device.startswith("cuda:") and int(device.removeprefix("cuda:")) >= self.gpus:
            there = f"there are {self.gpus}" if self.gpus > 1 else "there is one" if self.gpus else "there is none"
            return f"this machine has no GPU {device}, {there}: choose another device"
        return engine_type(engine).missing(device)


def look(models: Iterable[str], engines: Iterable[str], repository: Path, gpus: int) -> Known:
    """Look for the named models and for what was converted from them."""
    found: dict[str, ModelSpec] = {}
    broken: dict[str, str] = {}
    folders: dict[tuple[str, str], Path] = {}
    asked = set(engines)
    for model in dict.fromkeys(models):
        folder = repository / model
        if not is_name(model) or not folder.is_dir():
            continue
        try:
            found[model] = read_model(folder)
        except RepositoryError as exc:
            broken[model] = str(exc)
            continue
        for engine in (asked - {OWN}) | {found[model].engine}:
            if place := folder_for(model, engine, found[model].engine, repository):
                folders[model, engine] = place
    return Known(found, broken, gpus, folders)


def folder_for(model: str, engine: str, own: str, repository: Path) -> Path | None:
    """The folder of a model that an engine reads: its own, or one that `dlmodels convert` made of it; None: neither."""
    names = [model] if engine == own else [model, *(f"{model}-{target}" for target in conversions(engine))]
    for name in names:
        folder = repository / name
        if not folder.is_dir():
            continue
        try:
            read_model(folder, engine=engine)
        except RepositoryError:
            continue
        return folder
    return None


def conversions(engine: str) -> tuple[Target, ...]:
    """The formats of `dlmodels convert` that an engine reads: ONNX first, as several engines read that."""
    onnx: tuple[Target, ...] = ("onnx",) if engine in readers_of("model.onnx") else ()
    return tuple(dict.fromkeys((*onnx, *(target for target in TARGETS if ENGINES[target] == engine))))


def conversion(model: ModelSpec, engine: str) -> Target:
    """What `dlmodels convert` is to make of a model for an engine. Raises ConversionError with what can be made."""
    wanted = conversions(engine)
    if not wanted:
        raise ConversionError(f"nothing is converted for {engine}: run {model.name!r} on {model.engine}")
    for target in wanted:
        with suppress(ConversionError):
            route(model, target)
            return target
    route(model, wanted[0])
    raise AssertionError("a way that failed above was found")


def to_be_built(network: Network) -> ModelSpec:
    """As much of what `dlmodels build` will make as tells what it can be converted to."""
    if network.engine == "mxnet":
        return ModelSpec(network.name, "mxnet", graph="network-symbol.json", weights="network-0000.params")
    return ModelSpec(network.name, network.engine, architecture=network.name, weights="weights.safetensors")


def networks(name: str) -> tuple[str, ...]:
    """The networks of a preset; of any other name, itself."""
    return PRESETS.get(name, (name,))


def spelled(engine: str) -> str:
    """An engine by the name that it has here: "caffe" is opencv. What there is not stays as it is."""
    try:
        return engine if engine == OWN else canonical_engine(engine)
    except UnknownEngineError:
        return engine


def _devices_of(engine: str) -> tuple[str, ...]:
    try:
        return engine_type(engine).devices
    except UnknownEngineError:
        return ("cpu",)
