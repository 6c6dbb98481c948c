"""GoogLeNet as it was published (Szegedy et al.: Going Deeper with Convolutions, 2014): 5 x 5 convolutions, local response
normalization, biases, no batch normalization. torchvision's network of that name differs in all four. As in Caffe's copy,
maps are pooled with the last, partial window. The auxiliary classifiers, which only training uses, are left out.
"""

from typing import NamedTuple

from torch import nn

from dlmodels.zoo.families.branches import Branches
from dlmodels.zoo.families.local_response_norm import LocalResponseNorm


class _Widths(NamedTuple):
    """Channels of one Inception block, by the columns of the paper's table 1."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @property
    def total(self) -> int:
        """Channels that the block gives."""
        return self.one + self.three + self.five + self.pool


_STAGES = (
    (_Widths(64, 96, 128, 16, 32, 32), _Widths(128, 128, 192, 32, 96, 64)),
    (
        _Widths(192, 96, 208, 16, 48, 64),
        _Widths(160, 112, 224, 24, 64, 64),
        _Widths(128, 128, 256, 24, 64, 64),
        _Widths(112, 144, 288, 32, 64, 64),
        _Widths(256, 160, 320, 32, 128, 128),
    ),
    (_Widths(256, 160, 320, 32, 128, 128), _Widths(384, 192, 384, 48, 128, 128)),
)
"""3a to 3b, 4a to 4e, 5a to 5b."""


def googlenet_caffe(classes: int) -> nn.Module:
    """22 layers with weights."""
    layers: list[nn.Module] = [
        _convolution(3, 64, 7, stride=2, padding=3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        LocalResponseNorm(),
        _convolution(64, 64, 1),
        _convolution(64, 192, 3, padding=1),
        LocalResponseNorm(),
    ]
    channels = 192
    for stage in _STAGES:
        layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        for widths in stage:
            layers.append(_inception(channels, widths))
            channels = widths.total
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers)


def _inception(inputs: int, widths: _Widths) -> nn.Module:
    return Branches(
        [
            _convolution(inputs, widths.one, 1),
            nn.Sequential(
                _convolution(inputs, widths.three_reduce, 1),
                _convolution(widths.three_reduce, widths.three, 3, padding=1),
            ),
            nn.Sequential(
                _convolution(inputs, widths.five_reduce, 1),
                _convolution(widths.five_reduce, widths.five, 5, padding=2),
            ),
            nn.Sequential(nn.MaxPool2d(3, 1, padding=1), _convolution(inputs, widths.pool, 1)),
        ]
    )


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True))
