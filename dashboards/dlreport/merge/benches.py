"""Benches of several machines as one bench result, whose report then sets them side by side."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from dlclient.bench_result import (
    LOGS_DIR,
    POINTS_FILE,
    SAMPLES_DIR,
    Bench,
    Failure,
    Point,
    Setting,
    encode_lines,
    read_bench,
    read_points,
    samples_file,
)
from dlclient.errors import ResultError
from dlclient.results import RUN_FILE, Environment, write_json

from dlreport.errors import NotAResultError, OutputError
from dlreport.merge.labels import labels
from dlreport.stream.facts import DIFFERENT

_WHERE_THEY_DIFFER: Mapping[str, object] = {"cpu_cores": 0, "memory_bytes": 0, "gpus": ()}
"""Fields that must hold something; what they hold is none that a machine can have."""


def merge_benches(folders: Sequence[Path], target: Path, names: Sequence[str] | None = None) -> Path:
    """Write a bench result into an empty folder that holds all points of these, each device named with its machine.

    Points, samples and logs are those of the results, stamps and reasons too; only the settings' devices, and so the ids, are new.
    Raises NotAResultError where one cannot be read or the programs differ, OutputError where `target` holds anything.
    """
    try:
        read = [(read_bench(folder), read_points(folder)) for folder in folders]
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    benches = [bench for bench, _ in read]
    for folder, bench in zip(folders, benches, strict=True):
        if bench.program != benches[0].program:
            raise NotAResultError(
                f"{folders[0]} is of {benches[0].program}, {folder} of {bench.program}: a merged bench has one program; "
                "merge those of each program by themselves, or use compare"
            )
    called = labels(folders, [bench.environment.host for bench in benches], names)
    try:
        _prepare(target)
        points = [
            _take(folder, point, "" if bench.machines else label, bench.environment, target)
            for folder, label, (bench, own) in zip(folders, called, read, strict=True)
            for point in own
        ]
        (target / POINTS_FILE).write_bytes(encode_lines(points))
        write_json(target / RUN_FILE, _merged(folders, called, benches))
    except OSError as exc:
        raise OutputError(
            f"cannot write the merged result into {target}: {exc.strerror or exc}; name a folder that can be written (-o DIR)"
        ) from exc
    return target


def _prepare(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target} is not empty; a merged result needs a folder of its own: name a new one (-o DIR)")
    for part in (SAMPLES_DIR, LOGS_DIR):
        (target / part).mkdir(parents=True, exist_ok=True)


def _take(folder: Path, point: Point, label: str, machine: Environment, target: Path) -> Point:
    """The point with its device on that machine; its files are copied under its new id. `label` "": it is named already."""
    setting, read_back = point.setting, point.read_back
    if label:
        setting = msgspec.structs.replace(setting, device=f"{setting.device} on {label}".strip())
        read_back = {**_hardware(point.setting, machine), **read_back}
    if (folder / samples_file(point.id)).exists():
        shutil.copyfile(folder / samples_file(point.id), target / samples_file(setting.id))
    failure = _failure(folder, point, setting.id, target)
    return msgspec.structs.replace(point, id=setting.id, setting=setting, read_back=read_back, failure=failure)


def _hardware(setting: Setting, machine: Environment) -> dict[str, str]:
    """What computed, by name, since the merged result's machine is none; nothing of a server, which may run elsewhere."""
    if setting.target != "inproc":
        return {}
    kind, _, number = setting.device.partition(":")
    if kind != "cuda":
        return {"device_name": machine.cpu_model}
    index = int(number) if number.isdecimal() else 0
    return {"device_name": machine.gpus[index].name} if index < len(machine.gpus) else {}


def _failure(folder: Path, point: Point, new_id: str, target: Path) -> Failure | None:
    """With its log, where that is there."""
    failure = point.failure
    if failure is None or not failure.log:
        return failure
    log, copy = folder / LOGS_DIR / Path(failure.log).name, f"{LOGS_DIR}/{new_id}.log"
    if not log.is_file():
        return msgspec.structs.replace(failure, log="")
    shutil.copyfile(log, target / copy)
    return msgspec.structs.replace(failure, log=copy)


def _merged(folders: Sequence[Path], called: Sequence[str], benches: Sequence[Bench]) -> Bench:
    machines: dict[str, Environment] = {}
    for label, bench in zip(called, benches, strict=True):
        machines |= bench.machines or {label: bench.environment}
    titles = list(dict.fromkeys(bench.title for bench in benches))
    reproduced = {bench.reproduces for bench in benches}
    ends = [bench.finished for bench in benches]
    return Bench(
        schema=benches[0].schema,
        kind="bench",
        program=benches[0].program,
        name=benches[0].name,
        title=f"{' + '.join(titles)}: {', '.join(machines)} side by side",
        started=min(bench.started for bench in benches),
        finished=None if None in ends else max(end for end in ends if end is not None),
        points=sum(bench.points for bench in benches),
        command=("dlreport", "merge", *map(str, folders)),
        environment=_in_common([bench.environment for bench in benches]),
        simulated=any(bench.simulated for bench in benches),
        reproduces=reproduced.pop() if len(reproduced) == 1 else "",
        machines=machines,
    )


def _in_common(machines: Sequence[Environment]) -> Environment:
    """What all have alike; where they differ, no machine's figure stands for the others."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Environment):
        told = [getattr(machine, field.name) for machine in machines]
        if all(value == told[0] for value in told):
            values[field.name] = told[0]
        elif field.name in _WHERE_THEY_DIFFER:
            values[field.name] = _WHERE_THEY_DIFFER[field.name]
        else:
            values[field.name] = DIFFERENT if isinstance(told[0] or told[-1], str) else None
    versions = {}
    for library in sorted({library for machine in machines for library in machine.versions}):
        found = {machine.versions.get(library, "none") for machine in machines}
        versions[library] = found.pop() if len(found) == 1 else DIFFERENT
    hosts = " + ".join(dict.fromkeys(machine.host for machine in machines))
    return Environment(**(values | {"versions": versions, "host": hosts}))
