"""A suite: what a bench is to measure, as people write it. TOML with one or more [[matrix]] tables, each of them points."""

from typing import Annotated, Any, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dlclient.bench.job import Budget
from dlclient.bench_result import Question

OWN = "own"
"""As an engine: the one that the model is for."""
AVAILABLE = "available"
"""As a device: the CPU, and the first GPU where there is one, of those that the engine computes on."""
INPROC = "inproc"

QUESTIONS: tuple[str, ...] = get_args(Question)
Scalar = bool | int | float | str
PATTERNS: dict[str, str] = {
    "devices": "^(cpu|cuda:[0-9]+|available)$",
    "affinity": "^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$",
    "name": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    "target": "^(inproc|https?://.+)$",
}
"""Of texts. Checked by reading.py: a Meta with `pattern` may crash msgspec when the interpreter ends (its issue 717)."""
_Name = Annotated[str, Meta(min_length=1)]
_Count = Annotated[int, Meta(ge=1)]
_WholeNumber = Annotated[int, Meta(ge=0)]
_Question = Annotated[str, Meta(extra_json_schema={"enum": list(QUESTIONS)})]
_Device = Annotated[str, Meta(extra_json_schema={"pattern": PATTERNS["devices"]})]
_Affinity = Annotated[str, Meta(extra_json_schema={"pattern": PATTERNS["affinity"]})]


class Axes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Lists of values; a single value is a list of one. A key that is left out has its default."""

    models: (
        Annotated[
            _Name | tuple[_Name, ...],
            Meta(description="names of models in the repository or of the zoo's networks, or of presets"),
        ]
        | UnsetType
    ) = UNSET
    engines: (
        Annotated[
            _Name | tuple[_Name, ...], Meta(description='names of engines; "own" (the default) is the one of the model')
        ]
        | UnsetType
    ) = UNSET
    devices: (
        Annotated[
            _Device | tuple[_Device, ...],
            Meta(
                description='"cpu" (the default), "cuda:N", or "available": the CPU and the first GPU where there is one'
            ),
        ]
        | UnsetType
    ) = UNSET
    questions: (
        Annotated[
            _Question | tuple[_Question, ...],
            Meta(description=f"what is asked: {', '.join(QUESTIONS)} (default: latency)"),
        ]
        | UnsetType
    ) = UNSET
    batch_sizes: (
        Annotated[
            _Count | tuple[_Count, ...],
            Meta(description="images per inference, 1 or more (default: 1); max-batch and load have none"),
        ]
        | UnsetType
    ) = UNSET
    in_flight: (
        Annotated[
            _WholeNumber | tuple[_WholeNumber, ...],
            Meta(
                description="inferences at a time, for the question throughput; 0 (the default): as many as the engine finds best"
            ),
        ]
        | UnsetType
    ) = UNSET
    threads: (
        Annotated[
            _WholeNumber | tuple[_WholeNumber, ...],
            Meta(description="CPU threads of the engine; 0 (the default): its own choice"),
        ]
        | UnsetType
    ) = UNSET
    precision: (
        Annotated[
            str | tuple[str, ...],
            Meta(
                description='what is computed in, as the engine calls it (fp32, bf16, ...); "" (the default): its own'
            ),
        ]
        | UnsetType
    ) = UNSET
    affinity: (
        Annotated[
            _Affinity | tuple[_Affinity, ...],
            Meta(description='CPUs that the process is bound to, like "0-3" or "0,2"; "" (the default): all'),
        ]
        | UnsetType
    ) = UNSET
    inputs: (
        Annotated[
            _Name | tuple[_Name, ...],
            Meta(
                description="in process: tensor (ready) or image (decoded in the clock); at a server: base64, path, raw or url"
            ),
        ]
        | UnsetType
    ) = UNSET
    options: Annotated[
        dict[str, Scalar | tuple[Scalar, ...]],
        Meta(description="other settings of the engine, as [parameters] of a model.toml has them"),
    ] = {}


class Matrix(Axes, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Every combination of its lists is a point, but for those that `zip` and `exclude` rule out."""

    zip: Annotated[
        tuple[Annotated[tuple[_Name, ...], Meta(min_length=2)], ...],
        Meta(
            description="groups of keys whose lists, equally long, are walked side by side: "
            '[["batch_sizes", "in_flight"]]; an option is "options.NAME"'
        ),
    ] = ()
    exclude: Annotated[
        tuple[Axes, ...],
        Meta(description="points that are left out: those that have, of each key that is given, one of its values"),
    ] = ()


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A suite of `dlbench`. Paths are relative to where dlbench is run. Sizes are bytes, times seconds."""

    matrix: Annotated[tuple[Matrix, ...], Meta(min_length=1, description="tables of points: [[matrix]]")]
    name: Annotated[
        str,
        Meta(
            description="by default the file's; letters, digits, '.', '_' and '-'",
            extra_json_schema={"pattern": PATTERNS["name"]},
        ),
    ] = ""
    title: Annotated[str, Meta(description="a line, for lists and reports")] = ""
    reproduces: Annotated[
        str, Meta(description="the benchmark that it stands for, by `system` of the published figures")
    ] = ""
    repository: Annotated[
        str,
        Meta(min_length=1, description="folder of model folders; networks of the zoo that it lacks are built there"),
    ] = "models/repository"
    target: Annotated[
        str,
        Meta(
            description='"inproc" or the URL of a server: http://HOST:PORT',
            extra_json_schema={"pattern": PATTERNS["target"]},
        ),
    ] = INPROC
    images: Annotated[str, Meta(description='folder of images; "": the sample photographs')] = ""
    dataset: Annotated[str, Meta(description="folder of labelled images, for the question accuracy")] = ""
    memory_limit_bytes: (
        Annotated[int, Meta(ge=1, description="what max-batch may take on a CPU; by default what is free")] | UnsetType
    ) = UNSET
    most_images: Annotated[int, Meta(ge=1, description="where the search of max-batch ends")] = 4096
    reloads: Annotated[int, Meta(ge=0, description="how often the question load unloads and loads again")] = 5
    drop_page_cache: Annotated[
        bool, Meta(description="whether each load in process reads the disk; it fails where the system keeps the files")
    ] = False
    profile: Annotated[bool, Meta(description="whether utilization also runs a profiler, after the timed part")] = False
    every_s: Annotated[float, Meta(gt=0, description="seconds between two samples of utilization")] = 0.1
    budget: Budget = Budget()


AXES = Axes.__struct_fields__
"""Names of the lists of a matrix, `options` the last of them."""

DEFAULTS: dict[str, tuple[Scalar, ...]] = {
    "engines": (OWN,),
    "devices": ("cpu",),
    "questions": ("latency",),
    "batch_sizes": (1,),
    "in_flight": (0,),
    "threads": (0,),
    "precision": ("",),
    "affinity": ("",),
    "inputs": ("",),
}
"""Of the lists that a matrix leaves out. At a server it decides on engine and device: see dlclient.bench.matrix."""


def listed(value: Any) -> tuple[Scalar, ...]:
    """One value or several as a tuple; of what is not set, an empty one."""
    if value is UNSET:
        return ()
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def to_table(suite: Suite) -> dict[str, Any]:
    """As TOML has it, without what is by default."""
    table: dict[str, Any] = msgspec.to_builtins(suite)
    last = ("budget", "matrix")
    return {key: table[key] for key in (*(key for key in table if key not in last), *last) if key in table}
