"""model.toml: what a model folder says of itself."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import msgspec
import tomli_w

from dlmodels.errors import RepositoryError
from dlmodels.images import InputSpec, Interpolation
from dlmodels.integrity import file_facts, inside
from dlmodels.settings import check_known, parse_settings
from dlmodels.spec import MODEL_FILE, FileFacts, ModelSpec


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """model.toml: a ModelSpec but for the folder, which is where it lies."""

    engine: str
    name: str = ""
    """"": the folder's name."""
    architecture: str = ""
    graph: str = ""
    weights: str = ""
    classes: int = 1000
    labels: str = ""
    multi_label: bool = False
    input: InputSpec = InputSpec()
    parameters: dict[str, object] = {}
    files: dict[str, FileFacts] = {}


def read_model_file(folder: Path) -> ModelSpec:
    """The model that a folder's model.toml describes; every file that it names is there and has the right size.

    Raises RepositoryError naming the key or the file, and the cure.
    """
    path = folder / MODEL_FILE
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:  # ValueError: bad TOML or bad UTF-8
        raise RepositoryError(f"{path} cannot be read: {exc}. Correct it, or build the model again") from exc
    _check_tables(table, path)
    read = parse_settings(table, ModelFile, str(path), RepositoryError)
    name = (read.name or folder.name).lower()
    values = {field: getattr(read, field) for field in ModelFile.__struct_fields__ if field != "name"}
    spec = ModelSpec(name=name, folder=str(folder), **values)
    for file in {spec.graph, spec.weights, spec.labels, *spec.files} - {""}:
        _check_file(spec, inside(folder, file), spec.files.get(file))
    unlisted = [file for file in (spec.graph, spec.weights) if file and file not in spec.files]
    sizes = {file: FileFacts("", (folder / file).stat().st_size) for file in unlisted}
    return msgspec.structs.replace(spec, files=spec.files | sizes)


def _check_tables(table: Mapping[str, object], path: Path) -> None:
    """Unknown keys of the inner tables, of which msgspec would not say what is valid."""
    inner = table.get("input")
    if isinstance(inner, dict):
        for key in inner:
            check_known(key, InputSpec.__struct_fields__, f"{path}: [input] has a setting", RepositoryError)
        if isinstance(inner.get("interp"), str):
            check_known(inner["interp"], get_args(Interpolation), f"{path}: [input] has an interp", RepositoryError)
    files = table.get("files")
    for name, facts in files.items() if isinstance(files, dict) else ():
        for key in facts if isinstance(facts, dict) else ():
            check_known(key, FileFacts.__struct_fields__, f'{path}: [files."{name}"] has a setting', RepositoryError)


def _check_file(spec: ModelSpec, path: Path, facts: FileFacts | None) -> None:
    try:
        size = path.stat().st_size
        regular = path.is_file()
    except OSError as exc:
        raise RepositoryError(
            f"{path} is named in {MODEL_FILE} and cannot be read ({exc.strerror}): put it there"
        ) from exc
    if not regular:
        raise RepositoryError(f"{path} is named in {MODEL_FILE} and is no file: put the file there")
    if facts is not None and size != facts.bytes:
        raise RepositoryError(
            f"{path} has {size} bytes, not {facts.bytes} as {MODEL_FILE} says:"
            f" copy it again, or build {spec.name!r} again with --force"
        )


def write_model(folder: Path, spec: ModelSpec) -> ModelSpec:
    """Write model.toml beside the files that `spec` names, with their sizes and hashes; the spec as it is then.

    Files that `spec.files` names already are recorded too: data that a graph keeps in a file of its own.
    """
    folder = folder.absolute()
    names = dict.fromkeys((spec.graph, spec.weights, spec.labels, *spec.files))
    files = {name: file_facts(inside(folder, name)) for name in names if name}
    spec = msgspec.structs.replace(spec, folder=str(folder), files=files)
    table = msgspec.to_builtins(spec)
    del table["folder"]
    nested = {key: table.pop(key) for key in ("input", "parameters", "files")}
    flat = {key: value for key, value in table.items() if value != ""}
    text = tomli_w.dumps(flat | {key: value for key, value in nested.items() if value})
    (folder / MODEL_FILE).write_text(text, "utf-8")
    return spec
