"""MobileNet v1 (Howard et al.: MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, 2017)."""

from collections.abc import Iterator

from torch import nn

_PAIRS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
"""Channels and stride of each pair of a depthwise and a 1 x 1 convolution (the paper's table 1)."""


def mobilenet_v1(classes: int) -> nn.Module:
    """The full width, at 224 x 224."""
    layers = list(_normalized(nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)))
    channels = 32
    for outputs, stride in _PAIRS:
        layers += _normalized(nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False))
        layers += _normalized(nn.Conv2d(channels, outputs, 1, bias=False))
        channels = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers)


def _normalized(convolution: nn.Conv2d) -> Iterator[nn.Module]:
    yield convolution
    yield nn.BatchNorm2d(convolution.out_channels)
    yield nn.ReLU(inplace=True)
