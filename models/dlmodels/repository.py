"""Model folders on disk and what they hold: a folder of model folders <-> ModelSpec.

A model folder holds `model.toml` (written by `dlmodels build`) and the files it names. Or it is dropped in as DeepDetect
has it: the files of one format (see formats.py), perhaps `corresp*.txt`, no model.toml; then whoever asks names input and
classes.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from dlmodels.engines import known_engines
from dlmodels.errors import BuildError, RepositoryError, SettingError
from dlmodels.formats import LABELS, OWN_PATTERNS, expected, find_files, newest, readers_of
from dlmodels.images import InputSpec, validate
from dlmodels.integrity import inside, verify_files
from dlmodels.labels import count_labels, read_labels
from dlmodels.model_file import read_model_file, write_model
from dlmodels.spec import CACHE_FOLDER, MODEL_FILE, FileFacts, ModelSpec

__all__ = [
    "MODEL_FILE",
    "FileFacts",
    "ModelSpec",
    "Skipped",
    "Survey",
    "check_absent",
    "clear",
    "is_name",
    "read_labels",
    "read_model",
    "scan",
    "survey",
    "verify_files",
    "write_model",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_OWN_FILES = (MODEL_FILE, CACHE_FOLDER, *OWN_PATTERNS)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A model folder that is fine, but no service until a request says more about it."""

    folder: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder of model folders holds."""

    models: tuple[ModelSpec, ...]
    skipped: tuple[Skipped, ...]


def is_name(name: str) -> bool:
    """Whether a model or service may be called that: lower case, at most 128 of a-z, 0-9, '.', '_' and '-'."""
    return _NAME.fullmatch(name) is not None


def survey(models_dir: Path) -> Survey:
    """Every model folder directly in `models_dir`, by name; hidden folders and plain files are passed over.

    A folder without model.toml takes DeepDetect's default input and as many classes as it has labels; without labels it is
    skipped. Raises RepositoryError naming the folder that cannot be used and the cure.
    """
    try:
        folders = sorted(path for path in models_dir.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as exc:
        raise RepositoryError(
            f"the models folder {models_dir} cannot be read ({exc.strerror}): check --models-dir"
        ) from exc
    models: dict[str, ModelSpec] = {}
    skipped = []
    for folder in folders:
        if not (folder / MODEL_FILE).exists() and not newest(folder, LABELS) and find_files(folder):
            reason = "it has no model.toml and no corresp*.txt to count classes by: create its service with nclasses"
            skipped.append(Skipped(folder.name, reason))
            continue
        model = read_model(folder)
        if (other := models.get(model.name)) is not None:
            raise RepositoryError(
                f"the folders {other.folder} and {folder} both hold a model named {model.name!r}:"
                f" rename one of them, or change `name` in its {MODEL_FILE}"
            )
        models[model.name] = model
    return Survey(tuple(models[name] for name in sorted(models)), tuple(skipped))


def scan(models_dir: Path) -> tuple[ModelSpec, ...]:
    """The models of `survey`, without those it skipped."""
    return survey(models_dir).models


def read_model(
    folder: Path,
    *,
    engine: str = "",
    classes: int | None = None,
    architecture: str = "",
    image_input: InputSpec | None = None,
) -> ModelSpec:
    """What the folder holds. What the caller says must not contradict model.toml; without one it fills the gaps.

    `engine`: "" for the one of model.toml, else the first that reads the files. A model.toml for another engine is taken if
    this one reads its files too (ONNX, say); its `parameters` were for the other, so there must be none. `classes`: by
    default those of model.toml, else as many as there are labels. `architecture`: the zoo network that a `*.safetensors`
    without model.toml belongs to. Only sizes are checked here: `verify_files` checks content.
    Raises RepositoryError.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise RepositoryError(f"there is no model folder {folder}: check the path, or run `dlmodels build`")
    if (folder / MODEL_FILE).exists():
        spec = read_model_file(folder)
        for what, asked, own in (("classes", classes, spec.classes), ("architecture", architecture, spec.architecture)):
            if asked and asked != own:
                raise RepositoryError(
                    f"{folder / MODEL_FILE} says {what} = {own!r}, not {asked!r} as asked: leave it out"
                )
        spec = _for_engine(spec, engine)
    else:
        spec = _discover(folder, engine, classes, architecture)
    if image_input is not None:
        spec = msgspec.structs.replace(spec, input=image_input)
    _check_values(spec)
    return spec


def check_absent(folder: Path) -> None:
    """Raises BuildError where a model is to be built and something is there."""
    if folder.exists():
        raise BuildError(f"{folder} exists already: keep it, or give --force to build it anew")


def clear(folder: Path, how: Literal["lib", "full", "dir"]) -> None:
    """Delete a model's files: its own and what engines made of them (lib), all in the folder (full), or the folder too (dir).

    A symlink is removed, never followed. Raises RepositoryError for a folder that is itself a link or holds models in
    folders of its own, OSError where the system refuses.
    """
    if folder.is_symlink():
        raise RepositoryError(f"{folder} is a symbolic link, which is not followed: delete the model's files by hand")
    if not folder.is_dir():
        raise RepositoryError(f"there is no model folder {folder}: nothing was deleted")
    if how != "lib" and any(folder.glob(f"*/{MODEL_FILE}")):
        raise RepositoryError(f"{folder} holds other models' folders: delete them one by one")
    if how == "dir":
        shutil.rmtree(folder)
        return
    doomed = folder.iterdir() if how == "full" else (path for pattern in _OWN_FILES for path in folder.glob(pattern))
    for path in list(doomed):
        if path.is_dir() and not path.is_symlink():
            if how == "full" or path.name == CACHE_FOLDER:
                shutil.rmtree(path)
        else:
            path.unlink()


def _check_values(spec: ModelSpec) -> None:
    where = f"the model in {spec.folder}"
    if not is_name(spec.name):
        raise RepositoryError(
            f"{where} is named {spec.name!r}: rename the folder (or `name` in {MODEL_FILE}) to letters, digits, '.', '_'"
            " and '-', at most 128, beginning with a letter or digit"
        )
    if spec.engine not in known_engines():
        raise RepositoryError(f"{where} is for the engine {spec.engine!r}: there are {', '.join(known_engines())}")
    if spec.classes < 1:
        raise RepositoryError(f"{where} has {spec.classes} classes: it needs at least 1")
    try:
        validate(spec.input)
    except SettingError as exc:
        raise RepositoryError(f"{where}: {exc}") from exc


def _for_engine(spec: ModelSpec, engine: str) -> ModelSpec:
    """The model of a model.toml on the engine that is asked for. Raises RepositoryError."""
    if engine in ("", spec.engine):
        return spec
    readers = readers_of(spec.weights)
    if spec.engine not in readers or engine not in readers:
        raise RepositoryError(
            f"the model in {spec.folder} is for mllib {spec.engine}, not {engine}: change mllib, or convert the model with"
            " dlmodels convert"
        )
    if spec.parameters:
        raise RepositoryError(
            f"the model in {spec.folder} has parameters for {spec.engine}, which {engine} would not honour:"
            f" remove [parameters] from its {MODEL_FILE}, or use mllib {spec.engine}"
        )
    return msgspec.structs.replace(spec, engine=engine)


def _discover(folder: Path, engine: str, classes: int | None, architecture: str) -> ModelSpec:
    """The model of a folder without model.toml."""
    if architecture:
        weights, graph = newest(folder, "*.safetensors"), None
        engine = engine or "torch"
        if weights is None:
            raise RepositoryError(
                f"{folder} has no {MODEL_FILE} and no *.safetensors with the weights of {architecture!r}:"
                f" put them there, or run `dlmodels build {architecture}`"
            )
    else:
        found = find_files(folder, engine)
        if found is None:
            raise RepositoryError(
                f"{folder} is no model folder{f' for {engine}' if engine else ''}: it has neither {MODEL_FILE} nor"
                f" {expected(engine)}. Put a model there (`dlmodels build` makes one) or delete the folder"
            )
        weights, graph = found.weights, found.graph
        engine = engine or found.format.engines[0]
    data = [path for path in (weights.with_name(f"{weights.name}.data"),) if path.is_file()]
    labels = newest(folder, LABELS)
    files = [path for path in (graph, weights, *data) if path is not None]
    for path in (*files, *([labels] if labels else [])):
        inside(folder, path.name)
    if not classes:
        if labels is None:
            raise RepositoryError(
                f"{folder} has no {MODEL_FILE} and no {LABELS}: say how many classes it has (nclasses)"
            )
        classes = count_labels(labels)
    return ModelSpec(
        name=folder.name.lower(),
        engine=engine,
        folder=str(folder),
        architecture=architecture,
        graph=graph.name if graph else "",
        weights=weights.name,
        classes=classes,
        labels=labels.name if labels else "",
        files={path.name: FileFacts("", path.stat().st_size) for path in files},
    )
