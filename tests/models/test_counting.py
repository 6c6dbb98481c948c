"""Counting by hand, by torch's shapes and by MXNet's."""

from dataclasses import dataclass

import pytest
import torch
from dlmodels.zoo.counting import count
from dlmodels.zoo.symbol_counting import Shapes, Symbol, count_symbol
from torch import nn

MAP = 8 * 8


def on_meta(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).to("meta").eval()


def test_a_convolution_takes_each_of_its_weights_once_for_each_place_of_its_output() -> None:
    counts = count(on_meta(nn.Conv2d(3, 10, 5, stride=2, padding=2)), (3, 16, 16))
    weights = 10 * 3 * 5 * 5
    assert (counts.macs, counts.parameters, counts.biases) == (weights * MAP, weights + 10, 10)
    assert counts.bytes == 4 * (weights + 10)
    assert counts.depthwise_macs == 0


def test_groups_divide_the_work() -> None:
    counts = count(on_meta(nn.Conv2d(6, 12, 3, padding=1, groups=3, bias=False)), (6, 8, 8))
    assert (counts.macs, counts.biases, counts.depthwise_macs) == (12 * 2 * 9 * MAP, 0, 0)


def test_depthwise_convolutions_are_counted_in_the_whole_and_apart() -> None:
    counts = count(on_meta(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 5, 1)), (4, 8, 8))
    assert (counts.depthwise_macs, counts.macs) == (4 * 9 * MAP, 4 * 9 * MAP + 4 * 5 * MAP)


def test_the_only_channel_of_a_grey_picture_is_no_depthwise_convolution() -> None:
    assert count(on_meta(nn.Conv2d(1, 4, 3, padding=1)), (1, 8, 8)).depthwise_macs == 0


def test_normalization_has_parameters_and_statistics_but_no_multiply_adds() -> None:
    counts = count(on_meta(nn.BatchNorm2d(7)), (7, 8, 8))
    assert (counts.macs, counts.parameters, counts.biases) == (0, 14, 0)
    assert counts.bytes == 4 * 28 + 8  # and torch's counter of batches


def test_attention_is_counted() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    tokens, width = 10, 6
    assert count(Attention().eval(), (2, tokens, width)).macs == 2 * 2 * tokens * tokens * width


@dataclass
class Graph(Symbol):
    """A convolution and a linear layer, as MXNet describes them."""

    inner: bool = False

    def get_internals(self) -> Symbol:
        return Graph(inner=True)

    def list_arguments(self) -> list[str]:
        return ["data", "conv_weight", "conv_bias", "fc_weight"]

    def list_outputs(self) -> list[str]:
        return (
            ["data", "conv_weight", "conv_bias", "conv_output", "fc_weight", "fc_output"]
            if self.inner
            else ["fc_output"]
        )

    def infer_shape(self, **shapes: tuple[int, ...]) -> tuple[Shapes, Shapes, Shapes]:
        assert shapes == {"data": (1, 4, 8, 8)}
        assert self.inner
        weights = [(6, 2, 3, 3), (6,), (5, 6 * MAP)]
        return [shapes["data"], *weights], [(1, 4, 8, 8), *weights[:2], (1, 6, 8, 8), weights[2], (1, 5)], [(6,)]

    def tojson(self) -> str:
        return (
            '{"nodes": [{"op": "null", "name": "data", "inputs": []}, {"op": "null", "name": "conv_weight", "inputs": []},'
            ' {"op": "null", "name": "conv_bias", "inputs": []},'
            ' {"op": "Convolution", "name": "conv", "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]},'
            ' {"op": "null", "name": "fc_weight", "inputs": []},'
            ' {"op": "FullyConnected", "name": "fc", "inputs": [[3, 0, 0], [4, 0, 0]]}]}'
        )


def test_a_symbol_is_counted_by_its_inferred_shapes() -> None:
    counts = count_symbol(Graph(), (4, 8, 8))
    convolution, linear = 6 * 2 * 3 * 3, 5 * 6 * MAP
    assert counts.macs == convolution * MAP + linear
    assert counts.parameters == convolution + 6 + linear
    assert counts.bytes == 4 * (counts.parameters + 6)


@pytest.mark.parametrize("name", ["alexnet", "densenet121"])
def test_equal_networks_of_both_frameworks_count_the_same(name: str) -> None:
    from dlmodels.zoo.catalog import find  # noqa: PLC0415  beside its use

    ours, gluons = find(name), find(f"gluon-{name}")
    assert (ours.parameters, ours.macs) == (gluons.parameters, gluons.macs)
