"""What a Caffe `deploy.prototxt` says of its pictures and layers, read without Caffe.

The syntax is protobuf's text format, as far as caffe.proto needs it: ``key: value``, ``key { ... }``, comments.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from dlmodels.engines.graph_input import TensorInfo
from dlmodels.errors import LoadError

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)|(?P<mark>[{}<>:,;\[\]])|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[\w.+-]+)"""
)
_OPEN, _CLOSE, _SEPARATORS = ("{", "<"), ("}", ">"), (",", ";")
_MOST_DEPTH = 32
_TRAINING = ("data", "imagedata", "hdf5data", "windowdata", "memorydata", "dummydata")
"""Types of layers that read a training set, in lower case and without '_' (old files write IMAGE_DATA)."""

Value = Union[str, "Message"]
Message = list[tuple[str, Value]]


@dataclass(frozen=True, slots=True)
class CaffeNetwork:
    """One prototxt."""

    inputs: tuple[TensorInfo, ...]
    """The batch is free in all: it is set anew for each, whatever the file says."""
    layers: tuple[str, ...]
    """Types, in the order of the file."""


def read_prototxt(path: Path) -> CaffeNetwork:
    """Raises LoadError: no such file, no prototxt, or one for training."""
    try:
        message = _Parser(path.read_text("utf-8")).message()
    except OSError as exc:
        raise LoadError(f"{path} cannot be read ({exc.strerror}): put the file back") from exc
    except ValueError as exc:  # of the parser, or bad UTF-8
        raise LoadError(f"{path} is no prototxt of Caffe ({exc}): put the network's deploy.prototxt there") from exc
    layers = [layer for key, layer in message if key in ("layer", "layers") and isinstance(layer, list)]
    types = tuple(_text(layer, "type") for layer in layers)
    if not layers:
        raise LoadError(f"{path} describes no network, it has no layers: put the network's deploy.prototxt there")
    training = [name for name in types if name.lower().replace("_", "") in _TRAINING]
    inputs = tuple(_inputs(message, layers))
    if training or not inputs:
        raise LoadError(
            f"{path} is a network for training, {'with a ' + training[0] + ' layer' if training else 'without an input'}:"
            " take its deploy.prototxt, whose input is named with its size"
        )
    return CaffeNetwork(inputs, types)


def _inputs(message: Message, layers: list[Message]) -> Iterator[TensorInfo]:
    names = [value for key, value in message if key == "input" and isinstance(value, str)]
    loose = _sizes(message, "input_dim")
    shapes = [_sizes(shape, "dim") for key, shape in message if key == "input_shape" and isinstance(shape, list)]
    shapes = shapes or [loose[start : start + 4] for start in range(0, len(loose), 4)]
    for number, name in enumerate(names):
        yield TensorInfo(name, "float32", _free(shapes[number]) if number < len(shapes) else None)
    for layer in layers:
        if _text(layer, "type") == "Input":
            shape = [_sizes(part, "dim") for key, param in layer if key == "input_param" for part in _shapes(param)]
            yield TensorInfo(_text(layer, "top"), "float32", _free(shape[0]) if shape else None)


def _shapes(param: Value) -> list[Message]:
    return (
        [value for key, value in param if key == "shape" and isinstance(value, list)] if isinstance(param, list) else []
    )


def _free(sizes: list[int]) -> tuple[int | None, ...]:
    return (None, *sizes[1:])


def _sizes(message: Message, name: str) -> list[int]:
    return [int(value) for key, value in message if key == name and isinstance(value, str) and value.isdigit()]


def _text(message: Message, name: str) -> str:
    return next((value for key, value in message if key == name and isinstance(value, str)), "")


class _Parser:
    """Of one text. Raises ValueError naming the line."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._position = 0

    def message(self) -> Message:
        found = self._fields(0)
        if self._position < len(self._tokens):
            raise self._wrong()
        return found

    def _fields(self, depth: int) -> Message:
        if depth > _MOST_DEPTH:
            raise self._wrong()
        found: Message = []
        while self._position < len(self._tokens) and self._peek()[0] != "mark":
            kind, key, _line = self._next()
            if kind != "word":
                raise self._wrong(1)
            found += [(key, value) for value in self._values(depth)]
            while self._is(_SEPARATORS):
                self._next()
        return found

    def _values(self, depth: int) -> Iterator[Value]:
        colon = self._is((":",))
        if colon:
            self._next()
        if self._is(_OPEN):
            self._next()
            yield self._fields(depth + 1)
            if not self._is(_CLOSE):
                raise self._wrong()
            self._next()
        elif colon and self._is(("[",)):
            self._next()
            while not self._is(("]",)):
                yield self._scalar()
                if self._is((",",)):
                    self._next()
            self._next()
        elif colon:
            yield self._scalar()
        else:
            raise self._wrong()

    def _scalar(self) -> str:
        kind, value, _line = self._next()
        if kind == "word":
            return value
        if kind != "text":
            raise self._wrong(1)
        while self._position < len(self._tokens) and self._peek()[0] == "text":
            value += self._next()[1]  # adjacent strings are one
        return value

    def _is(self, marks: tuple[str, ...]) -> bool:
        return self._position < len(self._tokens) and self._peek()[:2] in [("mark", mark) for mark in marks]

    def _peek(self) -> tuple[str, str, int]:
        return self._tokens[self._position]

    def _next(self) -> tuple[str, str, int]:
        if self._position >= len(self._tokens):
            raise ValueError("it ends too early")
        self._position += 1
        return self._tokens[self._position - 1]

    def _wrong(self, back: int = 0) -> ValueError:
        if self._position - back >= len(self._tokens):
            return ValueError("it ends too early")
        _kind, value, line = self._tokens[self._position - back]
        return ValueError(f"line {line} has {value[:40]!r} where it should not be")


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """(kind, content, line) of everything but space and comments."""
    position, line = 0, 1
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(f"line {line} has {text[position]!r} where it should not be")
        kind, content = found.lastgroup or "", found[0]
        if kind != "space":
            yield kind, content[1:-1] if kind == "text" else content, line
        line += content.count("\n")
        position = found.end()
