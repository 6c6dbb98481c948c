"""CaffeNet: AlexNet (Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012)
as Caffe's reference model has it, on one device and with pooling before normalization. For pictures of 227 x 227.
"""

from torch import nn

from dlmodels.zoo.families.local_response_norm import LocalResponseNorm

_LAST_MAP = 256 * 6 * 6  # channels x height x width after the last pooling


def caffenet(classes: int) -> nn.Module:
    """Five convolutions, of which three in two groups, and three linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        LocalResponseNorm(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        LocalResponseNorm(),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(_LAST_MAP, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, classes),
    )
