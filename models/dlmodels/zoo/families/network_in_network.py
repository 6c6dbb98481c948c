"""Network in Network (Lin, Chen, Yan: Network In Network, ICLR 2014), the four-layer network for ImageNet."""

from collections.abc import Iterator

from torch import nn


def network_in_network(classes: int) -> nn.Module:
    """Convolutions that are small networks of their own, and no linear layer: the last maps are averaged, one per class."""
    return nn.Sequential(
        *_perceptron(3, (96, 96, 96), kernel=11, stride=4),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        *_perceptron(96, (256, 256, 256), kernel=5, padding=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        *_perceptron(256, (384, 384, 384), kernel=3, padding=1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        *_perceptron(384, (1024, 1024, classes), kernel=3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _perceptron(
    inputs: int, widths: tuple[int, int, int], *, kernel: int, stride: int = 1, padding: int = 0
) -> Iterator[nn.Module]:
    """A convolution and two 1 x 1 ones behind it: one perceptron of three layers, moved over the map."""
    first, second, third = widths
    yield nn.Conv2d(inputs, first, kernel, stride, padding)
    yield nn.ReLU(inplace=True)
    yield nn.Conv2d(first, second, 1)
    yield nn.ReLU(inplace=True)
    yield nn.Conv2d(second, third, 1)
    yield nn.ReLU(inplace=True)
