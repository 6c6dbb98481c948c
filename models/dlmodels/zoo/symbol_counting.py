"""How much an MXNet graph holds and computes, from the shapes that MXNet infers for it: the same count as zoo/counting.py."""

import json
import math
from dataclasses import dataclass
from typing import Protocol

_FLOAT32_BYTES = 4
_INPUT = "data"
_LAYERS = ("Convolution", "FullyConnected")

Shapes = list[tuple[int, ...]]


class Symbol(Protocol):
    """What is used of an `mxnet.symbol.Symbol`."""

    def get_internals(self) -> "Symbol":
        """All its nodes as outputs."""

    def infer_shape(self, **shapes: tuple[int, ...]) -> tuple[Shapes, Shapes, Shapes]:
        """Of the arguments, the outputs and the auxiliary states."""

    def list_arguments(self) -> list[str]:
        """Weights and the input."""

    def list_outputs(self) -> list[str]:
        """A node's name with `_output` behind it."""

    def tojson(self) -> str:
        """The graph."""


@dataclass(frozen=True, slots=True)
class SymbolCounts:
    """What the catalog says of a network of Gluon."""

    parameters: int
    """Arguments of the graph; the running statistics are no arguments."""
    bytes: int
    """Of arguments and running statistics in float32."""
    macs: int
    """Multiply-adds of convolutions and linear layers in one forward."""


def count_symbol(symbol: Symbol, shape: tuple[int, int, int]) -> SymbolCounts:
    """Of a graph whose input is named `data`, for one input of `shape` (channels, height, width)."""
    internals = symbol.get_internals()
    arguments, outputs, states = internals.infer_shape(**{_INPUT: (1, *shape)})
    weights = dict(zip(symbol.list_arguments(), arguments, strict=True))
    del weights[_INPUT]
    maps = dict(zip(internals.list_outputs(), outputs, strict=True))
    parameters = sum(map(math.prod, weights.values()))
    nodes = json.loads(symbol.tojson())["nodes"]
    macs = 0
    for node in nodes:
        if node["op"] in _LAYERS:
            filters = weights[nodes[node["inputs"][1][0]]["name"]]
            # Each place of the output map (a linear layer has one) takes every number of the filters once.
            macs += math.prod(filters) * math.prod(maps[f"{node['name']}_output"][2:])
    return SymbolCounts(parameters, (parameters + sum(map(math.prod, states))) * _FLOAT32_BYTES, macs)
