"""What an ONNX file says of itself, read without any framework: inputs, outputs, operators, and the files it refers to.

Field numbers are those of onnx.proto (ONNX 1.18).
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import msgspec

from dlmodels.engines.graph_input import TensorInfo
from dlmodels.engines.protobuf_wire import WireError, blob, fields, integer, text
from dlmodels.errors import LoadError, RepositoryError
from dlmodels.integrity import inside
from dlmodels.spec import FileFacts, ModelSpec

_DTYPES = MappingProxyType(
    {
        1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
        10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    }
)  # fmt: skip
_EXTERNAL = 1
_WITHOUT_INPUT = frozenset(("Constant", "RandomNormal", "RandomUniform"))
_FLOATS = ("float32", "float16", "bfloat16", "float64")


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """One `.onnx` file, without its weights."""

    path: Path
    ir_version: int
    opsets: dict[str, int]
    """Operator set -> version; "" is ONNX's own."""
    inputs: tuple[TensorInfo, ...]
    """What must be fed: weights, which old files list among the inputs, are left out."""
    outputs: tuple[TensorInfo, ...]
    operators: frozenset[str]
    """"Conv"; of another domain than ONNX's own "com.microsoft:FusedConv"."""
    data_files: frozenset[str]
    """Files that hold weights, relative to the folder of this one."""
    dtype: str
    """Of most of its floating-point weights: what it computes in."""


@dataclass(slots=True)
class _Reading:
    """What is gathered on the way through the file."""

    initializers: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    """Names of what operators give and graphs are fed."""
    taken: dict[str, str] = field(default_factory=dict)
    """Name of what an operator takes -> the operator."""
    operators: set[str] = field(default_factory=set)
    data_files: set[str] = field(default_factory=set)
    floats: dict[str, int] = field(default_factory=dict)


def read_onnx_file(path: Path) -> OnnxFile:
    """Raises LoadError: no such file, no whole ONNX file, or a graph that is no network."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise _broken(path, "it is empty")
            # Not closed by hand: it goes with the last slice of it, which an exception's traceback may hold.
            return _model(path, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except OSError as exc:
        raise LoadError(f"the model {path} cannot be read ({exc.strerror}): put the file back") from exc
    except WireError as exc:
        raise _broken(path, str(exc)) from exc


def with_data_files(spec: ModelSpec, onnx: OnnxFile) -> ModelSpec:
    """The model with every file that its graph refers to among its files. Raises LoadError or RepositoryError."""
    files = dict(spec.files)
    for name in sorted(onnx.data_files):
        try:
            path = inside(Path(spec.folder), name)
        except RepositoryError as exc:
            raise RepositoryError(f"{onnx.path} keeps weights in {name!r}, which is not inside its folder") from exc
        if not path.is_file():
            raise LoadError(f"{onnx.path} keeps weights in the file {name!r}, which is missing: copy it there too")
        files.setdefault(name, FileFacts("", path.stat().st_size))
    return msgspec.structs.replace(spec, files=files)


def _model(path: Path, view: memoryview) -> OnnxFile:
    ir_version, opsets, graph = 0, dict[str, int](), None
    for number, value in fields(view):
        if number == 1:
            ir_version = integer(value)
        elif number == 7:
            graph = blob(value)
        elif number == 8:
            domain, version = _opset(blob(value))
            opsets[domain] = version
    if graph is None or not opsets or not 1 <= ir_version < 1000:
        raise WireError("it names no graph, no operator set or no version")
    found = _Reading()
    inputs, outputs = _graph(graph, found)
    _check_edges(found, outputs)
    return OnnxFile(
        path=path,
        ir_version=ir_version,
        opsets=opsets,
        inputs=tuple(tensor for tensor in inputs if tensor.name not in found.initializers),
        outputs=tuple(outputs),
        operators=frozenset(found.operators),
        data_files=frozenset(found.data_files),
        dtype=max(found.floats, key=lambda name: found.floats[name], default="float32"),
    )


def _opset(message: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in fields(message):
        if number == 1:
            domain = text(value)
        elif number == 2:
            version = integer(value)
    return domain, version


def _graph(message: memoryview, found: _Reading) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Inputs and outputs; also of a graph within an operator (If, Loop)."""
    inputs, outputs = [], []
    for number, value in fields(message):
        if number == 1:
            _node(blob(value), found)
        elif number == 5:
            found.initializers.add(_tensor(blob(value), found))
        elif number == 11:
            inputs.append(_value_info(blob(value)))
            found.given.add(inputs[-1].name)
        elif number == 12:
            outputs.append(_value_info(blob(value)))
    return inputs, outputs


def _node(message: memoryview, found: _Reading) -> None:
    operator, domain = "", ""
    inputs = []
    for number, value in fields(message):
        if number == 1:
            inputs.append(text(value))
        elif number == 2:
            found.given.add(text(value))
        elif number == 4:
            operator = text(value)
        elif number == 7:
            domain = text(value)
        elif number == 5:
            _attribute(blob(value), found)
    own = domain in ("", "ai.onnx")
    if own and not inputs and operator not in _WITHOUT_INPUT:
        raise WireError(f"its operator {operator!r} takes nothing")
    found.taken |= dict.fromkeys(inputs, operator)
    found.operators.add(operator if own else f"{domain}:{operator}")


def _check_edges(found: _Reading, outputs: list[TensorInfo]) -> None:
    """Every tensor that is taken must be given; some frameworks end the process where one is not."""
    if not found.operators:
        raise WireError("its graph has no operators")
    known = found.given | found.initializers | {""}  # "": an optional input that is left out
    for name, operator in found.taken.items():
        if name not in known:
            raise WireError(f"its operator {operator!r} takes {name!r}, which nothing gives")
    for tensor in outputs:
        if tensor.name not in known:
            raise WireError(f"nothing gives its output {tensor.name!r}")


def _attribute(message: memoryview, found: _Reading) -> None:
    """Tensors and graphs that an operator holds may keep their data in files too."""
    for number, value in fields(message):
        if number in (5, 10):
            _tensor(blob(value), found)
        elif number in (6, 11):
            _graph(blob(value), found)


def _tensor(message: memoryview, found: _Reading) -> str:
    """The tensor's name."""
    name, external, entries = "", False, dict[str, str]()
    dtype, count = "", 1
    for number, value in fields(message):
        if number == 1:
            for size in _sizes(value):
                count *= size
        elif number == 2:
            dtype = _DTYPES.get(integer(value), "")
        elif number == 8:
            name = text(value)
        elif number == 13:
            entry = dict(_entry(blob(value)))
            entries[entry.get(1, "")] = entry.get(2, "")
        elif number == 14:
            external = integer(value) == _EXTERNAL
    if external:
        found.data_files.add(entries.get("location", ""))
    if dtype in _FLOATS:
        found.floats[dtype] = found.floats.get(dtype, 0) + count
    return name


def _sizes(value: int | memoryview) -> Iterator[int]:
    """Dimensions, packed or one by one."""
    if isinstance(value, int):
        yield integer(value)
        return
    size, shift = 0, 0
    for byte in value:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield size
            size, shift = 0, 0


def _entry(message: memoryview) -> Iterator[tuple[int, str]]:
    return ((number, text(value)) for number, value in fields(message))


def _value_info(message: memoryview) -> TensorInfo:
    name, dtype = "", "no tensor"
    shape: tuple[int | None, ...] | None = None
    for number, value in fields(message):
        if number == 1:
            name = text(value)
        elif number == 2:
            for kind, tensor in fields(blob(value)):
                if kind == 1:
                    dtype, shape = _tensor_type(blob(tensor))
    return TensorInfo(name, dtype, shape)


def _tensor_type(message: memoryview) -> tuple[str, tuple[int | None, ...] | None]:
    dtype = "no type"
    shape: tuple[int | None, ...] | None = None
    for number, value in fields(message):
        if number == 1:
            code = integer(value)
            dtype = _DTYPES.get(code, f"ONNX's type {code}")
        elif number == 2:
            shape = tuple(_dimension(blob(size)) for kind, size in fields(blob(value)) if kind == 1)
    return dtype, shape


def _dimension(message: memoryview) -> int | None:
    """None: open, named or not."""
    for number, value in fields(message):
        if number == 1 and integer(value) > 0:
            return integer(value)
    return None


def _broken(path: Path, why: str) -> LoadError:
    return LoadError(f"{path} is no whole ONNX file: {why}. Copy it again, or export the network again")
