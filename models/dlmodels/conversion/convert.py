"""A model folder of one format made into another of a second format, which is kept only if both answer alike."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from dlmodels.conversion.agreement import TOLERANCE, Agreement, Answers, answers, compare
from dlmodels.conversion.routes import ENGINES, OPSETS, Target, route, source_of
from dlmodels.conversion.steps import write_step
from dlmodels.engines import engine_type
from dlmodels.errors import ConversionError, DisagreementError, ModelError
from dlmodels.new_folder import new_folder
from dlmodels.repository import ModelSpec, check_absent, is_name, read_model, write_model

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be made of what."""

    folder: Path
    """Of the model."""
    target: Target
    repository: Path
    """The folder in which the new model's folder is made."""
    name: str = ""
    """"": the model's own with the format behind it."""
    opset: int | None = None
    """Of ONNX, on the way from torch; None: a usual one."""
    force: bool = False
    """Replace a folder that is there."""
    tolerance: float = TOLERANCE
    """The largest difference of any two probabilities."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The new model, and how well it agrees with the old one."""

    spec: ModelSpec
    agreement: Agreement


def convert(request: Request, progress: Progress = lambda _: None, expected: Answers | None = None) -> Converted:
    """Make the folder, which appears only when it is whole and has been checked. `progress` gets a line for each step.

    `expected`: the model's `answers` to the photographs, where they are known already.

    Raises ConversionError (no way between the formats, a framework is missing or fails, other answers), BuildError (the
    folder exists, and no `force`), or what keeps the source from being read and run: RepositoryError, LoadError, ...
    """
    source = read_model(request.folder)
    steps = route(source, request.target)
    folder = _destination(request, source)
    _check_means(request, source, steps)
    if expected is None:
        progress(f"{source.name}: asking {source.engine} about photographs")
        expected = answers(source)
    with new_folder(folder, ConversionError) as unfinished:
        _write(request, source, steps, unfinished, folder.name, progress)
        target = read_model(unfinished)
        progress(f"{target.name}: asking {target.engine} about the same photographs")
        try:
            agreement = compare(expected, answers(target))
        except ModelError as exc:
            raise ConversionError(f"{source.name!r} was written as {request.target} and does not work: {exc}") from exc
        if not agreement.within(request.tolerance):
            raise DisagreementError(
                f"{source.name!r} answers otherwise as {request.target}: the same class for {agreement.same_class} of"
                f" {agreement.pictures} pictures, and probabilities up to {agreement.largest_difference:.1e} apart, where"
                f" {request.tolerance:.1e} is allowed. Nothing was kept: choose another --to, or see --tolerance"
            )
    return Converted(read_model(folder), agreement)


def _destination(request: Request, source: ModelSpec) -> Path:
    name = request.name or f"{source.name}-{request.target}"
    if not is_name(name):
        raise ConversionError(
            f"no model can be named {name!r}: give --name with letters, digits, '.', '_' and '-', at most 128, beginning with"
            " a letter or digit"
        )
    folder = request.repository.absolute() / name
    if folder.resolve() == Path(source.folder).resolve():
        raise ConversionError(f"{folder} is the model that is to be converted: give another --name")
    if not request.force:
        check_absent(folder)
    return folder


def _check_means(request: Request, source: ModelSpec, steps: tuple[Target, ...]) -> None:
    """What cannot work is told before minutes of work, not after."""
    for engine in dict.fromkeys((source.engine, ENGINES[request.target], *(ENGINES[step] for step in steps[1:]))):
        if reason := engine_type(engine).missing("cpu"):
            raise ConversionError(f"{source.name!r} cannot be converted to {request.target} here: {reason}")
    if "onnx" in steps and find_spec("onnx") is None:
        raise ConversionError(
            "writing ONNX needs the package onnx: run `make install`, or pip install 'dlserve[convert]'"
        )
    if request.opset is not None and (steps[0] != "onnx" or source_of(source) == "mxnet"):
        raise ConversionError(
            f"--opset is for what torch writes as ONNX, and {source.name!r} needs no such step: leave it out"
        )
    if request.opset is not None and request.opset not in OPSETS:
        raise ConversionError(
            f"torch writes ONNX operator sets {OPSETS[0]} to {OPSETS[-1]}, not {request.opset}: correct --opset"
        )


def _write(
    request: Request, source: ModelSpec, steps: tuple[Target, ...], folder: Path, name: str, progress: Progress
) -> None:
    """All files of the new model; what is made on the way is deleted."""
    current = source
    for step in steps:
        last = step == steps[-1]
        where = folder if last else folder / f"step-{step}"
        where.mkdir(exist_ok=True)
        progress(f"{source.name}: writing {step}")
        current = write_step(current, step, where, request.opset, for_mxnet=request.target == "mxnet")
    for left in folder.glob("step-*"):
        shutil.rmtree(left)
    labels = Path(source.labels).name
    if labels:
        shutil.copyfile(Path(source.folder) / source.labels, folder / labels)
    write_model(folder, msgspec.structs.replace(current, name=name, labels=labels))
