"""Model folders for the points of a suite: found in the repository, or built and converted there first."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlmodels.zoo.catalog import CATALOG

from dlclient.bench.known import SIMULATED, Known, conversion, folder_for
from dlclient.bench.suite import INPROC
from dlclient.bench_result import Failure, Setting
from dlclient.errors import LocalServerError
from dlclient.local_server import COMMANDS, build, run

Need = tuple[str, str]
"""A model, and the engine that is to run it."""


@dataclass(frozen=True, slots=True)
class Supply:
    """What came of it, for each need."""

    folders: dict[Need, Path]
    """Nothing of a simulated model without a folder."""
    failures: dict[Need, tuple[Failure, bytes]]
    """Of those that could not be made, with what was said meanwhile."""


def supply(
    settings: Iterable[Setting], known: Known, repository: Path, scratch: Path, say: Callable[[str], None]
) -> Supply:
    """Build the networks that the repository lacks, and convert models for engines that read other formats.

    `scratch`: a file for what the commands say. Whatever fails is a failure of its points, and no more.
    """
    needs = dict.fromkeys((one.model, one.engine) for one in settings if one.target == INPROC)
    supplied = Supply({need: folder for need, folder in known.folders.items() if need in needs}, {})
    lacking = [need for need in needs if need not in supplied.folders and need[1] != SIMULATED]
    _build(
        [model for model, _ in lacking if model not in known.repository], repository, scratch, say, supplied, lacking
    )
    for model, engine in lacking:
        if (model, engine) not in supplied.failures:
            _convert((model, engine), known, repository, scratch, say, supplied)
    scratch.unlink(missing_ok=True)
    return supplied


def _build(
    names: Sequence[str],
    repository: Path,
    scratch: Path,
    say: Callable[[str], None],
    supplied: Supply,
    needs: Sequence[Need],
) -> None:
    """All in one go, which imports their framework once; where that fails one by one, to know which."""
    missing = [name for name in dict.fromkeys(names) if not (repository / name).is_dir()]
    if not missing:
        return
    size = sum(CATALOG[name].bytes for name in missing)
    say(f"building {', '.join(missing)} in {repository} (seeded random weights, {size / 1e6:.0f} MB)")
    try:
        with scratch.open("wb") as output:
            build(missing, repository, _silent, output)
    except LocalServerError:
        for name in missing:
            if (repository / name).is_dir():
                continue
            try:
                with scratch.open("wb") as output:
                    build([name], repository, _silent, output)
            except LocalServerError as exc:
                say(f"{name} could not be built; its points will say so")
                failed = _failure("build", f"{name} could not be built: {exc}", scratch)
                supplied.failures.update({need: failed for need in needs if need[0] == name})


def _convert(
    need: Need, known: Known, repository: Path, scratch: Path, say: Callable[[str], None], supplied: Supply
) -> None:
    model, engine = need
    own = known.model(model)
    assert own is not None, "unknown models are told before anything runs"
    folder = folder_for(model, engine, own.engine, repository)
    if folder is None:
        target = conversion(own, engine)
        say(f"converting {model} for {engine} (dlmodels convert --to {target})")
        command = [str(COMMANDS / "dlmodels"), "convert", model, "--to", target, "--repository", str(repository)]
        try:
            with scratch.open("wb") as output:
                run(command, f"`dlmodels convert {model} --to {target}` failed", output=output)
        except LocalServerError as exc:
            say(f"{model} could not be converted for {engine}; its points will say so")
            supplied.failures[need] = _failure(
                "convert", f"{model} could not be converted for {engine}: {exc}", scratch
            )
            return
        folder = folder_for(model, engine, own.engine, repository)
    if folder is None:
        text = f"{engine} does not read what was made of {model} in {repository}: remove that folder, and run again"
        supplied.failures[need] = (Failure(kind="error", stage="convert", text=text), b"")
        return
    supplied.folders[need] = folder


def _failure(stage: str, text: str, scratch: Path) -> tuple[Failure, bytes]:
    """With the last line that the command said, which is its error."""
    said = scratch.read_bytes()
    lines = said.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return Failure(kind="error", stage=stage, text=f"{text}{f': {last}' if last else ''}"), said


def _silent(_line: str) -> None:
    """What `build` says is said here already, or in the failure."""
