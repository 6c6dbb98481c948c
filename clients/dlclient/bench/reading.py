"""A suite's TOML -> a Suite, every key that is wrong noted."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import msgspec

from dlclient.bench.changes import Change, apply
from dlclient.bench.job import Budget
from dlclient.bench.problems import Source, Where, nearest, unknown
from dlclient.bench.suite import AXES, PATTERNS, QUESTIONS, Axes, Matrix, Suite, listed
from dlclient.errors import SuiteError

READY = Path(__file__).resolve().parent / "ready"
"""Folder of the suites that ship with dlbench."""
_Table = TypeVar("_Table", bound=msgspec.Struct)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_EMPTY = "an empty list makes no point: give it a value, or leave the key out"
_EXTREMES = (("warm_up_min_iterations", "warm_up_max_iterations"), ("min_iterations", "max_iterations"))
"""Of seconds the maximum wins: see Budget."""


def ready_suites() -> dict[str, Path]:
    """Name -> file."""
    return {path.stem: path for path in sorted(READY.glob("*.toml"))}


def find_suite(name: str) -> Path:
    """The file of a ready suite, or the path as it is. Raises SuiteError."""
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return path
    ready = ready_suites()
    if name not in ready:
        raise SuiteError(f"{unknown('ready suite', name, tuple(ready))}; a suite of your own is a file NAME.toml")
    return ready[name]


def read_suite(path: Path, changes: Sequence[Change] = ()) -> tuple[Suite, Source]:
    """What a file holds, with the changes in it. What is wrong is in the source: `check()` it. Raises SuiteError where there
    is nothing to read.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no UTF-8 text"
        raise SuiteError(f"cannot read the suite {path}: {reason}; `dlbench list` shows those that are ready") from exc
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SuiteError(f"{path} is no TOML: {exc}; correct it there") from exc
    source = Source(str(path), text)
    return parse_suite({"name": path.stem} | table, source, changes), source


def parse_suite(table: Mapping[str, Any], source: Source, changes: Sequence[Change] = ()) -> Suite:
    """As much of a table as is right, with the changes in it; the rest is reported to the source."""
    table = apply(changes, table, source)
    inner = {key: table[key] for key in ("matrix", "budget") if key in table}
    plain = {key: value for key, value in table.items() if key not in inner}
    suite = _fields(plain, Suite, Where(), source, fixed={"matrix": ({},)})
    budget = _budget(inner.get("budget", {}), source)
    return msgspec.structs.replace(suite, matrix=_matrices(inner.get("matrix"), source), budget=budget)


def _matrices(tables: object, source: Source) -> tuple[Matrix, ...]:
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        source.report(Where(table="matrix"), "a suite needs at least one [[matrix]] table with models: add one")
        return ()
    return tuple(_matrix(table, number, source) for number, table in enumerate(tables, start=1))


def _matrix(table: Mapping[str, Any], number: int, source: Source) -> Matrix:
    where = Where(table="matrix", number=number)
    plain = {key: value for key, value in table.items() if key not in ("options", "exclude")}
    matrix = _fields(plain, Matrix, where, source)
    if "models" not in table:
        source.report(where, "it has no models: name some, or a preset of `dlmodels list --preset`")
    excluded = table.get("exclude", [])
    if not isinstance(excluded, list) or not all(isinstance(one, dict) for one in excluded):
        source.report(Where("exclude", "matrix", number), _takes("it is no list of tables", Matrix, "exclude"))
        excluded = []
    return msgspec.structs.replace(
        matrix,
        options=_options(table.get("options", {}), Where("options", "matrix", number), source),
        exclude=tuple(_excluded(one, Where("exclude", "matrix", number), source) for one in excluded),
    )


def _excluded(table: Mapping[str, Any], where: Where, source: Source) -> Axes:
    plain = {key: value for key, value in table.items() if key != "options"}
    axes = _fields(plain, Axes, where, source)
    return msgspec.structs.replace(axes, options=_options(table.get("options", {}), where, source))


def _options(table: object, where: Where, source: Source) -> dict[str, Any]:
    if not isinstance(table, dict):
        source.report(where, _takes("it is no table", Matrix, "options"))
        return {}
    good = {}
    for key, value in table.items():
        place = Where(f"options.{key}", where.table, where.number) if where.key == "options" else where
        if problem := _wrong({"options": {key: value}}, Axes, "options"):
            source.report(place, problem)
        elif value == []:
            source.report(place, _EMPTY)
        else:
            good[key] = tuple(value) if isinstance(value, list) else value
    return good


def _budget(table: object, source: Source) -> Budget:
    if not isinstance(table, dict):
        source.report(Where(table="budget"), "it is no table: write [budget], and its keys below")
        return Budget()
    budget = _fields(table, Budget, Where(table="budget"), source)
    for key in Budget.__struct_fields__:
        if getattr(budget, key) < 0 or (getattr(budget, key) == 0 and not key.startswith(("min_", "warm_up_"))):
            source.report(Where(key, "budget"), f"{getattr(budget, key)} is too small: give a number above 0")
    for least, most in _EXTREMES:
        if getattr(budget, least) > getattr(budget, most):
            source.report(
                Where(least, "budget"), f"it is above {most} = {getattr(budget, most)}: raise that, or lower this"
            )
    return budget


def _fields(
    table: Mapping[str, Any], kind: type[_Table], where: Where, source: Source, fixed: Mapping[str, Any] = _NOTHING
) -> _Table:
    """A struct of the keys that are right."""
    good = dict(fixed)
    for key, value in table.items():
        place = Where(where.key or key, where.table, where.number)
        if key not in kind.__struct_fields__:
            text = f"there is no key {key!r}.{nearest(key, kind.__struct_fields__)} Valid are: {', '.join(kind.__struct_fields__)}"
            source.report(place, text)
        elif problem := _wrong({**fixed, key: value}, kind, key):
            source.report(place, problem)
        elif value == [] and key in AXES:
            source.report(place, _EMPTY)
        else:
            good[key] = value
    return msgspec.convert(good, kind)


def _wrong(table: Mapping[str, Any], kind: type[msgspec.Struct], key: str) -> str:
    """What is wrong with the key's value, and what it takes; "" if nothing is."""
    try:
        msgspec.convert(table, kind)
    except msgspec.ValidationError as exc:
        text, _, path = str(exc).partition(" - at `$.")
        for json, toml in (("`object`", "a table"), ("`array`", "a list"), ("| array`", "or a list`")):
            text = text.replace(json, toml)
        place = f" (value {int(index[1]) + 1})" if (index := re.search(r"\[(\d+)\]`$", path)) else ""
        return _takes(f"{text[:1].lower()}{text[1:]}{place}", kind, key)
    for value in listed(table[key]):
        if key == "questions" and value not in QUESTIONS:
            return unknown("question", str(value), QUESTIONS)
        if key in PATTERNS and not re.fullmatch(PATTERNS[key], str(value)):
            return _takes(f"{value!r} is not of its form", kind, key)
    return ""


def _takes(text: str, kind: type[msgspec.Struct], key: str) -> str:
    """The sentence with what the key is for."""
    for field in msgspec.structs.fields(kind):
        if field.name == key:
            kinds = (field.type, *get_args(field.type))
            for meta in (meta for one in kinds for meta in getattr(one, "__metadata__", ())):
                if meta.description:
                    return f"{text}: give {meta.description}"
    return f"{text}: correct it"
