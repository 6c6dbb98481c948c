"""What options of the command line change of a suite: `--set batch_sizes=1,2,budget.max_s=5`."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlclient.bench.job import Budget
from dlclient.bench.problems import Source, Where, unknown
from dlclient.bench.suite import AXES, Scalar, Suite
from dlclient.errors import SuiteError

_OPTIONS, _BUDGET = "options.", "budget."
_NUMBERS = frozenset({"batch_sizes", "in_flight", "threads"})
_LISTS = tuple(key for key in AXES if key != "options")
_PLAIN = tuple(key for key in Suite.__struct_fields__ if key not in ("matrix", "budget"))
_TEXTS = frozenset({"name", "title", "reproduces", "repository", "target", "images", "dataset"})


@dataclass(frozen=True, slots=True)
class Change:
    """New values of a key, in every matrix where it is one of theirs. `option`: what said so, for messages."""

    key: str
    """batch_sizes, options.hint, budget.max_s, repository, ..."""
    values: tuple[str, ...]
    option: str


def parse_set(texts: Sequence[str]) -> list[Change]:
    """`--set` as often as it was given: key=value,value,key=value; what has no "=" is one more value of the key before it.

    Raises SuiteError.
    """
    changes: list[Change] = []
    for text in texts:
        found: dict[str, list[str]] = {}
        key = ""
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if equals:
                key, part = name.strip(), value  # noqa: PLW2901  the rest of the part is its value
                found[key] = []
            if not key:
                raise SuiteError(f"--set {text!r}: {part!r} is no key=value: write --set batch_sizes=1,2")
            found[key].append(part.strip())
        changes += [Change(key, tuple(values), f"--set {key}={','.join(values)}") for key, values in found.items()]
    return changes


def apply(changes: Sequence[Change], table: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """The suite's table with the changes in it; keys that no suite has are reported."""
    changed = dict(table)
    for change in changes:
        if change.key in _LISTS or change.key.startswith(_OPTIONS):
            changed["matrix"] = _in_matrices(change, changed.get("matrix"), source)
        elif change.key.removeprefix(_BUDGET) in Budget.__struct_fields__ and change.key.startswith(_BUDGET):
            _change(change, changed, "budget", source)
        elif change.key in _PLAIN:
            text = ",".join(change.values)
            changed[change.key] = text if change.key in _TEXTS else _scalar(text)
            source.changed[Where(change.key)] = change.option
        else:
            known = (*_LISTS, *_PLAIN, *(f"{_BUDGET}{key}" for key in Budget.__struct_fields__), "options.NAME")
            source.problems.append(f"{change.option}: {unknown('key', change.key, known)}")
    return changed


def _in_matrices(change: Change, matrices: object, source: Source) -> object:
    if not isinstance(matrices, list):
        return matrices  # which is reported as wrong by itself
    values: list[Scalar] = list(change.values)
    if change.key in _NUMBERS or change.key.startswith(_OPTIONS):
        values = [_scalar(value) for value in change.values]
    changed = []
    for number, matrix in enumerate(matrices, start=1):
        source.changed[Where(change.key, "matrix", number)] = change.option
        if not isinstance(matrix, dict):
            changed.append(matrix)
        elif change.key.startswith(_OPTIONS):
            options = matrix.get("options")
            name = change.key.removeprefix(_OPTIONS)
            changed.append(matrix | {"options": (options if isinstance(options, dict) else {}) | {name: values}})
        else:
            changed.append(matrix | {change.key: values})
    return changed


def _change(change: Change, table: dict[str, Any], inner: str, source: Source) -> None:
    before = table.get(inner)
    name = change.key.partition(".")[2]
    table[inner] = (before if isinstance(before, dict) else {}) | {name: _scalar(",".join(change.values))}
    source.changed[Where(name, inner)] = change.option


def _scalar(text: str) -> Scalar:
    """A number, true or false as TOML writes them; all else is text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str) else text
