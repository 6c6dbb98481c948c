"""Inception-BN (Ioffe, Szegedy: Batch Normalization, 2015, appendix), with the widths and the biases that MXNet's model zoo
gives it: its blocks 4a to 5b differ from the paper's in some pooling branches. Maps are the paper's: 112, 56, 28, 14, 7.
"""

from typing import NamedTuple

from torch import nn

from dlmodels.zoo.families.branches import Branches


class _Block(NamedTuple):
    """Channels of a block that keeps the map's size; `double` is the branch of two 3 x 3 convolutions."""

    one: int
    three_reduce: int
    three: int
    double_reduce: int
    double: int
    pool: int
    largest: bool = False
    """Pool by maximum instead of by average."""


class _Reduction(NamedTuple):
    """Channels of a block that halves the map; its third branch only pools."""

    three_reduce: int
    three: int
    double_reduce: int
    double: int


_BLOCKS = (
    _Block(64, 64, 64, 64, 96, 32),
    _Block(64, 64, 96, 64, 96, 64),
    _Reduction(128, 160, 64, 96),
    _Block(224, 64, 96, 96, 128, 128),
    _Block(192, 96, 128, 96, 128, 128),
    _Block(160, 128, 160, 128, 160, 128),
    _Block(96, 128, 192, 160, 192, 128),
    _Reduction(128, 192, 192, 256),
    _Block(352, 192, 320, 160, 224, 128),
    _Block(352, 192, 320, 192, 224, 128, largest=True),
)
"""3a to 3c, 4a to 4e, 5a to 5b."""


def inception_bn(classes: int) -> nn.Module:
    """GoogLeNet's successor: two 3 x 3 convolutions for each 5 x 5 one, normalization after every convolution."""
    layers: list[nn.Module] = [
        _convolution(3, 64, 7, stride=2, padding=3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        _convolution(64, 64, 1),
        _convolution(64, 192, 3, padding=1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ]
    channels = 192
    for block in _BLOCKS:
        if isinstance(block, _Block):
            layers.append(_block(channels, block))
            channels = block.one + block.three + block.double + block.pool
        else:
            layers.append(_reduction(channels, block))
            channels += block.three + block.double
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers)


def _block(inputs: int, widths: _Block) -> nn.Module:
    pooling = nn.MaxPool2d(3, 1, padding=1) if widths.largest else nn.AvgPool2d(3, 1, padding=1)
    return Branches(
        [
            _convolution(inputs, widths.one, 1),
            _three(inputs, widths.three_reduce, widths.three),
            _double(inputs, widths.double_reduce, widths.double),
            nn.Sequential(pooling, _convolution(inputs, widths.pool, 1)),
        ]
    )


def _reduction(inputs: int, widths: _Reduction) -> nn.Module:
    return Branches(
        [
            _three(inputs, widths.three_reduce, widths.three, stride=2),
            _double(inputs, widths.double_reduce, widths.double, stride=2),
            nn.MaxPool2d(3, 2, padding=1),
        ]
    )


def _three(inputs: int, reduced: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(_convolution(inputs, reduced, 1), _convolution(reduced, outputs, 3, stride=stride, padding=1))


def _double(inputs: int, reduced: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        _convolution(inputs, reduced, 1),
        _convolution(reduced, outputs, 3, padding=1),
        _convolution(outputs, outputs, 3, stride=stride, padding=1),
    )


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
