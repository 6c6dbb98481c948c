"""The points of a suite: every combination of a matrix's lists, but for what is zipped and excluded. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import cast

from msgspec import UNSET

from dlclient.bench.known import Known, networks, spelled
from dlclient.bench.suite import AXES, DEFAULTS, INPROC, OWN, Axes, Matrix, Scalar, Suite, listed
from dlclient.bench_result import Question, Setting

_ORDER = (
    "models",
    "engines",
    "devices",
    "inputs",
    "precision",
    "affinity",
    "threads",
    "options",
    "questions",
    "in_flight",
    "batch_sizes",
)
"""Outermost first: what is compared most stands together, and a network's points follow each other."""
_AT_SERVER: Mapping[str, tuple[Scalar, ...]] = MappingProxyType({"engines": ("",), "devices": ("",), "in_flight": (4,)})
"""What a matrix for a server has by default: how many in flight are best is not known there."""
_FIELDS = MappingProxyType(
    {
        "models": "model", "engines": "engine", "devices": "device", "questions": "question", "batch_sizes": "batch_size",
        "in_flight": "in_flight", "threads": "threads", "precision": "precision", "affinity": "affinity", "inputs": "input",
    }
)  # fmt: skip
"""A matrix's list -> the field of a Setting."""


def expand(suite: Suite, known: Known) -> tuple[Setting, ...]:
    """The different points of all matrices, in the order in which they are run. Zipped lists must be equally long: see `unequal`."""
    named = (setting for matrix in suite.matrix for setting in points(matrix, suite.target, known))
    return tuple({setting.id: setting for setting in named}.values())


def points(matrix: Matrix, target: str, known: Known) -> Iterator[Setting]:
    """Of one matrix; some may be there twice."""
    for chosen in combinations(matrix, target):
        for setting in _settings(chosen, target, known):
            if not any(_is_one_of(setting, axes) for axes in matrix.exclude):
                yield setting


def axis(matrix: Matrix, key: str, target: str = INPROC) -> tuple[Scalar, ...]:
    """The values of a list, presets as their networks; by default what DEFAULTS says, or what a server decides."""
    if key.startswith("options."):
        return listed(matrix.options.get(key.removeprefix("options."), UNSET))
    values = listed(getattr(matrix, key))
    if not values and key != "models":
        return DEFAULTS[key] if target == INPROC else _AT_SERVER.get(key, DEFAULTS[key])
    if key == "models":
        values = tuple(network for value in values for network in networks(str(value)))
    if key == "engines":
        values = tuple(spelled(str(value)) for value in values)
    return tuple(dict.fromkeys(values)) if key not in _zipped(matrix) else values


def unequal(matrix: Matrix, target: str = INPROC) -> Iterator[str]:
    """What is wrong with `zip`: keys that there are not or that are there twice, lists of different lengths."""
    seen: set[str] = set()
    options = tuple(f"options.{name}" for name in matrix.options)
    for group in matrix.zip:
        for key in group:
            if key not in AXES[:-1] and key not in options:
                yield f"it zips {key!r}, which is no list of this matrix: name some of {', '.join((*AXES[:-1], *options))}"
            elif key in seen:
                yield f"it zips {key} more than once: put what goes with it into one group"
            seen.add(key)
        lengths = {key: len(axis(matrix, key, target)) for key in group if key in AXES[:-1] or key in options}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            yield f"zipped lists must be equally long, and {told}: make them so, or take them out of zip"


def combinations(matrix: Matrix, target: str) -> Iterator[Mapping[str, Scalar]]:
    """Each choice of a value from every list, options by "options.NAME"."""
    keys = [key for key in _ORDER if key != "options"]
    place = _ORDER.index("options")
    keys[place:place] = [f"options.{name}" for name in matrix.options]
    groups: list[list[dict[str, Scalar]]] = []
    done: set[str] = set()
    for key in keys:
        if key in done:
            continue
        group = next((group for group in matrix.zip if key in group), (key,))
        done.update(group)
        lists = [axis(matrix, name, target) for name in group]
        groups.append([dict(zip(group, values, strict=True)) for values in zip(*lists, strict=True)])
    for parts in product(*groups):
        yield {name: value for part in parts for name, value in part.items()}


def _settings(chosen: Mapping[str, Scalar], target: str, known: Known) -> Iterator[Setting]:
    """The points of a combination: none is one where the engine of a model is not known."""
    model, engine = str(chosen["models"]), str(chosen["engines"])
    engine = known.engine_of(model) if engine == OWN else engine
    question = cast(Question, chosen["questions"])
    options = {key.removeprefix("options."): value for key, value in chosen.items() if key.startswith("options.")}
    for device in known.devices(str(chosen["devices"]), engine):
        yield Setting(
            model=model,
            engine=engine,
            device=device,
            question=question,
            # what a question does not depend on is not what its points differ in
            batch_size=1 if question in ("max-batch", "load") else int(chosen["batch_sizes"]),
            in_flight=int(chosen["in_flight"]) if question == "throughput" else 1,
            threads=int(chosen["threads"]) or None,
            affinity=str(chosen["affinity"]),
            precision=str(chosen["precision"]),
            target=target,
            input=str(chosen["inputs"]),
            options=options,
        )


def _is_one_of(setting: Setting, excluded: Axes) -> bool:
    """Whether a point has, of each list, one of the values."""
    for key, field in _FIELDS.items():
        values: Sequence[Scalar] = listed(getattr(excluded, key))
        if key == "models":
            values = [network for value in values for network in networks(str(value))]
        if key == "engines":
            values = [spelled(str(value)) for value in values]
        if values and (getattr(setting, field) or type(values[0])()) not in values:
            return False
    return all(setting.options.get(name) in listed(values) for name, values in excluded.options.items())


def _zipped(matrix: Matrix) -> set[str]:
    return {key for group in matrix.zip for key in group}
