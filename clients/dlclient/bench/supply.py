"""Model folders for the points of a suite: found in the repository, or built and converted there first."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from dlmodels.zoo.catalog import CATALOG

from dlclient.bench.known import SIMULATED, Known, conversion, folder_for
from dlclient.bench.suite import INPROC
from dlclient.bench_result import Failure, Setting
from dlclient.errors import LocalServerError
from dlclient.local_server import COMMANDS, build, run

Need = tuple[str, str]
"""A model, and the engine that is to run it."""


Failures = dict[Need, tuple[Failure, bytes]]
"""Of what could not be made: why, and what was said meanwhile."""


def supply(
    settings: Iterable[Setting], known: Known, repository: Path, scratch: Path, say: Callable[[str], None]
) -> Failures:
    """Build the networks that the repository lacks, and convert models for engines that read other formats.

    `scratch`: a file for what the commands say. Whatever fails is a failure of its points, and no more.
    """
    wanted = dict.fromkeys((one.model, one.engine) for one in settings if one.target == INPROC)
    lacking = [need for need in wanted if need not in known.folders and need[1] != SIMULATED]
    failures = _Supplier(known, repository, scratch, say).make(lacking)
    scratch.unlink(missing_ok=True)
    return failures


class _Supplier:
    def __init__(self, known: Known, repository: Path, scratch: Path, say: Callable[[str], None]) -> None:
        self._known = known
        self._repository = repository
        self._scratch = scratch
        self._say = say

    def make(self, needs: Sequence[Need]) -> Failures:
        """Build first, all at once, then convert."""
        models = dict.fromkeys(model for model, _ in needs if model not in self._known.repository)
        unbuilt = self._build([name for name in models if not (self._repository / name).is_dir()])
        failures = {need: unbuilt[need[0]] for need in needs if need[0] in unbuilt}
        tried: dict[tuple[str, str], tuple[Failure, bytes] | None] = {}
        for model, engine in needs:
            own = self._known.model(model)
            assert own is not None, "unknown models are told before anything runs"
            if (model, engine) in failures or folder_for(model, engine, own.engine, self._repository):
                continue
            made = (model, conversion(own, engine))
            if made not in tried:
                tried[made] = self._convert(*made)
            if failed := tried[made]:
                failures[model, engine] = failed
            elif folder_for(model, engine, own.engine, self._repository) is None:
                text = f"{engine} does not read {self._repository}/{model}-{made[1]}: remove that folder, and run again"
                failures[model, engine] = Failure(kind="error", stage="convert", text=text), b""
        return failures

    def _build(self, names: Sequence[str]) -> dict[str, tuple[Failure, bytes]]:
        """All in one go, which imports their framework once; where that fails one by one, to know which."""
        if not names:
            return {}
        size = sum(CATALOG[name].bytes for name in names)
        self._say(f"building {', '.join(names)} in {self._repository} (seeded random weights, {size / 1e6:.0f} MB)")
        try:
            self._build_quietly(names)
        except LocalServerError:
            return dict(self._build_apart([name for name in names if not (self._repository / name).is_dir()]))
        return {}

    def _build_apart(self, names: Sequence[str]) -> Iterator[tuple[str, tuple[Failure, bytes]]]:
        for name in names:
            try:
                self._build_quietly([name])
            except LocalServerError as exc:
                self._say(f"{name} could not be built; its points will say so")
                yield name, self._failure("build", f"{name} could not be built: {exc}")

    def _build_quietly(self, names: Sequence[str]) -> None:
        with self._scratch.open("wb") as output:
            build(names, self._repository, lambda _: None, output)

    def _convert(self, model: str, target: str) -> tuple[Failure, bytes] | None:
        self._say(f"converting {model} (dlmodels convert --to {target})")
        command = [str(COMMANDS / "dlmodels"), "convert", model, "--to", target, "--repository", str(self._repository)]
        try:
            with self._scratch.open("wb") as output:
                run(command, f"`dlmodels convert {model} --to {target}` failed", output=output)
        except LocalServerError as exc:
            self._say(f"{model} could not be converted; its points will say so")
            return self._failure("convert", f"{model} could not be converted: {exc}")
        return None

    def _failure(self, stage: str, text: str) -> tuple[Failure, bytes]:
        """With the last line that the command said, which is its error."""
        said = self._scratch.read_bytes()
        lines = said.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return Failure(kind="error", stage=stage, text=f"{text}{f': {last}' if last else ''}"), said
