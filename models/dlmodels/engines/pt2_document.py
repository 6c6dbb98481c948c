"""What a torch.export archive (`.pt2`) says of its network, as data that is safe to hand to torch.

torch's own reader unpickles example inputs, evaluates strings as Python and calls any function of torch that a graph names:
a file could run anything. So the document is read here: its graph may only call operators of the lists below, its names and
formulas may only be names and formulas, and pickles are left out. What is handed to torch is written anew from that.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from dlmodels.engines.safetensors_file import ITEM_BYTES, TensorPlace
from dlmodels.engines.torch_archive import Archive
from dlmodels.errors import LoadError

_MODEL = "models/model.json"
_WEIGHTS, _CONSTANTS = "data/weights", "data/constants"
_CONFIGS = (
    (_WEIGHTS, f"{_WEIGHTS}/model_weights_config.json"),
    (_CONSTANTS, f"{_CONSTANTS}/model_constants_config.json"),
)
_TARGET = re.compile(
    r"torch\.ops\.(?!aten\.(from_file|save|seed|manual_seed|set_grad_enabled)\b)(aten|prims|torchvision|quantized|quantized_decomposed)\.\w+\.\w+"
    r"|torch\.sym_(int|float|min|max|not|sum|ite)"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
_NAME = re.compile(r"[\w.]*")
_PLAIN = re.compile(r"[\w.:+\-, >]*")  # of einsum too
_PATH = re.compile(r"[\w.\-]*")
_PATTERNS = MappingProxyType(
    {"target": _TARGET}
    | dict.fromkeys(("as_string", "as_strings", "torch_version"), _PLAIN)
    | dict.fromkeys(("parameter_name", "buffer_name", "tensor_constant_name", "fqn"), _PATH)
)
"""Of strings by their key; all others are names. torch writes names into Python code as they are, strings in quotes."""
_FOREIGN = frozenset(("as_custom_obj", "as_operator", "as_graph", "custom_obj"))
"""Objects of C++ classes, and graphs within graphs."""
_TREES = frozenset(("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"))
_FORMULA = (ast.Expression, ast.Load, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop)
_SYMBOL = re.compile(r"[suz]\d+")
_ONE_SYMBOL = re.compile(r"(?:Symbol\(')?([suz]\d+)(?:'[\w=, ]*\))?")
_FUNCTIONS = re.compile(
    r"Symbol|Integer|Rational|Add|Mul|Pow|Mod|FloorDiv|ModularIndexing|Where|PythonMod|CleanDiv|"
    r"CeilToInt|FloorToInt|CeilDiv|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|TruncToFloat|TruncToInt|"
    r"RoundToInt|RoundDecimal|ToFloat|Identity|Max|Min|Abs|floor|ceiling|Eq|Ne|Lt|Le|Gt|Ge|And|Or|"
    r"Not"
)
"""Classes of sympy and torch that only compute."""
_FLOAT, _STRIDED = 7, 7
_DTYPES = MappingProxyType(
    {1: "U8", 2: "I8", 3: "I16", 4: "I32", 5: "I64", 6: "F16", 7: "F32", 8: "F64", 12: "BOOL", 13: "BF16"}
)
"""torch's numbers of types in this format (torch._export.serde.schema.ScalarType) -> safetensors' names."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One parameter, buffer or constant of the network."""

    name: str
    place: TensorPlace
    """Of the record that it is in; several tensors may share one."""
    offset: int
    """Of its first element in the record, in elements."""
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A network that has been looked through."""

    archive: bytes
    """For torch.export.load: the graph alone, without weights and without anything pickled."""
    weights: tuple[Weight, ...]
    input_shape: tuple[int | None, ...]
    """None: free."""
    least_images: int
    most_images: int | None


def read_document(archive: Archive, device: str) -> Document:
    """Look the archive through; tensors that the graph makes go to `device` ("cpu", "cuda:N"). Raises LoadError."""
    try:
        model = json.loads(archive.read(_MODEL))
        configs = {folder: json.loads(archive.read(name)) for folder, name in _CONFIGS}
        _strip(model, device)
        _check(archive, model)
        weights = tuple(_weights(archive, configs))
        shape, least, most = _input(archive, model)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as exc:
        raise LoadError(
            f"{archive.path} is not laid out as torch.export.save of torch 2.9 or newer does it"
            f" ({type(exc).__name__}: {exc}): export and save the network again"
        ) from exc
    return Document(_written(model, configs), weights, shape, least, most)


def _strip(model: dict[str, object], device: str) -> None:
    """Take out what only describes (and is Python code in part), and put the graph on its device."""
    model["guards_code"] = []
    kind, _, index = device.partition(":")
    for value in _walk(model):
        if "metadata" in value and isinstance(value["metadata"], dict):
            value["metadata"] = {}
        if value.keys() == {"type", "index"}:
            value["type"], value["index"] = kind, int(index) if index else None


def _walk(value: object) -> Iterator[dict[str, object]]:
    """Every table in a document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _check(archive: Archive, model: dict[str, object]) -> None:
    """Raises LoadError where a string is more than a name, a formula or a known operator."""
    for table in _walk(model):
        for key, value in table.items():
            if not _NAME.fullmatch(key) or key in _FOREIGN:
                raise _refused(archive, f"the entry {key!r}")
            if key in ("in_spec", "out_spec"):
                _check_tree(archive, value)
            elif key == "expr_str":
                _check_formula(archive, value)
            else:
                pattern = _PATTERNS.get(key, _NAME)
                for text in _strings(value):
                    if not pattern.fullmatch(text):
                        raise _refused(archive, f"the {key} {text!r}")


def _strings(value: object) -> Iterator[str]:
    """A string, or those in lists; tables are looked at one by one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _check_tree(archive: Archive, text: object) -> None:
    """How inputs and outputs are nested: plain containers of Python only."""
    if text == "" or text is None:
        return
    tree = json.loads(text) if isinstance(text, str) else None
    if not isinstance(tree, list) or len(tree) != 2:
        raise _refused(archive, f"the nesting {text!r}")
    for table in _walk(tree):
        kind, context = table.get("type"), table.get("context")
        plain = context is None or (isinstance(context, str) and re.fullmatch(r'null|\[("\w*"(, ?"\w*")*)?\]', context))
        if (kind is not None and kind not in _TREES) or not plain:
            raise _refused(archive, f"inputs or outputs of the type {kind!r}")


def _check_formula(archive: Archive, text: object) -> None:
    """A size, as arithmetic over symbols: torch evaluates it."""
    tree = ast.parse(str(text).strip(), mode="eval")
    for node in ast.walk(tree):
        fine = isinstance(node, _FORMULA)
        if isinstance(node, ast.Constant):
            fine = isinstance(node.value, int | float) or _SYMBOL.fullmatch(str(node.value)) is not None
        if isinstance(node, ast.Name):
            fine = _FUNCTIONS.fullmatch(node.id) is not None or _SYMBOL.fullmatch(node.id) is not None
        if isinstance(node, ast.Call):
            fine = isinstance(node.func, ast.Name) and _FUNCTIONS.fullmatch(node.func.id) is not None
        if isinstance(node, ast.keyword):
            fine = node.arg in ("positive", "integer", "nonnegative", "nonzero", "evaluate")
        if not fine:
            raise _refused(archive, f"the formula {text!r}")


def _weights(archive: Archive, configs: Mapping[str, dict[str, dict[str, dict[str, object]]]]) -> Iterator[Weight]:
    for folder, config in configs.items():
        for name, payload in config["config"].items():
            entry = msgspec.convert(payload, _Payload)
            meta = entry.tensor_meta
            if entry.use_pickle or meta is None or not entry.path_name.startswith(("weight_", "tensor_")):
                raise _refused(archive, f"{name!r}, which is pickled")
            record = archive.records.get(f"{folder}/{entry.path_name}")
            dtype = _DTYPES.get(meta.dtype)
            if record is None or dtype is None or meta.layout != _STRIDED or not _PATH.fullmatch(name):
                raise LoadError(
                    f"{archive.path}: {name!r} is compressed, missing or of a type that is not known here:"
                    " save the network again with torch.export.save"
                )
            place = TensorPlace(f"{folder}/{entry.path_name}", dtype, (), record.begin, record.end)
            shape = tuple(size.as_int for size in meta.sizes)
            stride = tuple(step.as_int for step in meta.strides)
            offset = meta.storage_offset.as_int
            extent = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1
            if min((offset, *shape, *stride)) < 0 or (0 not in shape and extent * ITEM_BYTES[dtype] > record.bytes):
                raise LoadError(f"{archive.path}: the record of {name!r} is shorter than it: save the network again")
            yield Weight(name, place, offset, shape, stride)
            # On the meta device torch makes the skeleton alone: nothing is read, and no memory taken.
            payload["tensor_meta"]["device"] = {"type": "meta", "index": None}  # type: ignore[index]  # checked above
            payload["tensor_meta"]["storage_offset"] = {"as_int": 0}  # type: ignore[index]


class _Whole(msgspec.Struct, frozen=True):
    as_int: int


class _TensorMeta(msgspec.Struct, frozen=True):
    dtype: int
    sizes: list[_Whole]
    strides: list[_Whole]
    storage_offset: _Whole
    layout: int


class _Payload(msgspec.Struct, frozen=True):
    path_name: str
    use_pickle: bool
    tensor_meta: _TensorMeta | None


def _input(archive: Archive, model: dict[str, object]) -> tuple[tuple[int | None, ...], int, int | None]:
    """Shape of the one input, and the least and most images of a batch."""
    module: dict[str, dict[str, object]] = model["graph_module"]  # type: ignore[assignment]  # of JSON; wrong ones raise
    specs: list[dict[str, dict[str, dict[str, object]]]] = module["signature"]["input_specs"]  # type: ignore[assignment]
    inputs = [spec["user_input"]["arg"] for spec in specs if "user_input" in spec]
    if len(inputs) != 1 or "as_tensor" not in inputs[0]:
        raise LoadError(f"{archive.path} takes {len(inputs)} inputs, where one batch of images is given")
    name = inputs[0]["as_tensor"]["name"]  # type: ignore[index]
    meta: dict[str, object] = module["graph"]["tensor_values"][name]  # type: ignore[index]
    sizes: list[dict[str, object]] = meta["sizes"]  # type: ignore[assignment]
    if meta["dtype"] != _FLOAT or len(sizes) != 4:
        raise LoadError(f"{archive.path} takes no float32 batch (n, channels, height, width): export it with one")
    shape = tuple(int(str(size["as_int"])) if "as_int" in size else None for size in sizes)
    if shape[0] is not None:
        return shape, shape[0], shape[0]
    symbol = _ONE_SYMBOL.fullmatch(sizes[0]["as_expr"]["expr_str"])  # type: ignore[index]
    if symbol is None:
        raise LoadError(f"{archive.path} takes only some sizes of batch: export it with a free batch dimension")
    ranges: dict[str, dict[str, int | None]] = model["range_constraints"]  # type: ignore[assignment]
    bounds = ranges.get(symbol[1], {})
    return shape, max(1, bounds.get("min_val") or 1), bounds.get("max_val")


def _written(model: object, configs: Mapping[str, object]) -> bytes:
    """An archive as torch.export.save writes it, with empty records for weights and for the example inputs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        members = {"archive_format": "pt2", "archive_version": "0", "byteorder": "little", ".data/version": "3\n"}
        members |= {_MODEL: json.dumps(model), "data/sample_inputs/model.pt": ""}
        for folder, name in _CONFIGS:
            members[name] = json.dumps(configs[folder])
            payloads: dict[str, dict[str, str]] = configs[folder]["config"]  # type: ignore[index]
            members |= {f"{folder}/{payload['path_name']}": "" for payload in payloads.values()}
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return buffer.getvalue()


def _refused(archive: Archive, what: str) -> LoadError:
    return LoadError(
        f"{archive.path} has {what}, which is not run here, since it could be anything: export the plain network with"
        " torch.export.export and torch.export.save"
    )
