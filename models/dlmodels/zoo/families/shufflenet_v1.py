"""ShuffleNet v1 (Zhang, Zhou, Lin, Sun: ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices,
2017), width 1 and three groups. As in Caffe's copies, the bottleneck of a unit is a quarter of the channels that it computes;
a unit that halves the map computes only those that its pooled input does not bring.
"""

import torch
from torch import nn

_GROUPS = 3
_STAGES = ((240, 4), (480, 8), (960, 4))
"""Channels and units of the stages 2 to 4 (the paper's table 1)."""
_BOTTLENECK = 4


def shufflenet_v1(classes: int) -> nn.Module:
    """1x, g = 3, at 224 x 224."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 24, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ]
    channels = 24
    for number, (outputs, units) in enumerate(_STAGES):
        # The first 1 x 1 convolution has too few inputs for groups.
        layers.append(_Unit(channels, outputs - channels, halving=True, groups=_GROUPS if number else 1))
        layers += [_Unit(outputs, outputs) for _ in range(units - 1)]
        channels = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers)


class _Unit(nn.Module):
    """A residual bottleneck of grouped convolutions, whose groups exchange channels in its middle (figure 2, b and c)."""

    def __init__(self, inputs: int, outputs: int, *, halving: bool = False, groups: int = _GROUPS) -> None:
        super().__init__()
        middle = outputs // _BOTTLENECK
        self.reduce = nn.Sequential(
            nn.Conv2d(inputs, middle, 1, groups=groups, bias=False), nn.BatchNorm2d(middle), nn.ReLU(inplace=True)
        )
        self.groups = groups
        self.expand = nn.Sequential(
            nn.Conv2d(middle, middle, 3, 2 if halving else 1, padding=1, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            nn.Conv2d(middle, outputs, 1, groups=_GROUPS, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.pool = nn.AvgPool2d(3, 2, padding=1) if halving else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) -> the same shape, or half the map with the input's channels before its own."""
        computed = self.expand(_shuffled(self.reduce(x), self.groups))
        joined = x + computed if self.pool is None else torch.cat([self.pool(x), computed], 1)
        return nn.functional.relu(joined)


def _shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
    """The groups' channels in turns, written out: torch's own channel_shuffle has no equal in ONNX.

    The batch is left to be found (-1): with all else constant, engines need not compute with shapes.
    """
    _, channels, height, width = x.shape
    turns = x.reshape(-1, groups, channels // groups, height, width).transpose(1, 2)
    return turns.reshape(-1, channels, height, width)
