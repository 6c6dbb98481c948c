"""torchvision's networks changed into what Caffe's users had under the same names, whose figures DeepDetect's report has."""

import torchvision
from torch import nn
from torchvision.models.resnet import Bottleneck


def resnet_caffe(depth: int, classes: int) -> nn.Module:
    """ResNet 50, 101 or 152 as published (He et al. 2015): the first 1 x 1 convolution of a block halves the map.

    torchvision's do it one convolution later. The first pooling is Caffe's, without padding.
    """
    network: nn.Module = torchvision.models.get_model(f"resnet{depth}", weights=None, num_classes=classes)
    network.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for block in network.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return network


def densenet_caffe(depth: int, classes: int) -> nn.Module:
    """DenseNet 121 or 201 (Huang et al. 2017), its maps pooled as Caffe does, with the last, partial window: 57, 29, 15, 8.

    The authors' and torchvision's are 56, 28, 14, 7.
    """
    network: nn.Module = torchvision.models.get_model(f"densenet{depth}", weights=None, num_classes=classes)
    for part in network.modules():
        if isinstance(part, nn.MaxPool2d | nn.AvgPool2d):
            part.ceil_mode = True
    return network


def squeezenet_caffe(classes: int) -> nn.Module:
    """SqueezeNet 1.0 (Iandola et al. 2016), whose authors' Caffe file pads the last 1 x 1 convolution: 15 x 15, not 13 x 13."""
    network: nn.Module = torchvision.models.get_model("squeezenet1_0", weights=None, num_classes=classes)
    last: nn.Conv2d = network.classifier[1]  # type: ignore[index,assignment]  # Sequential, as torchvision has it
    last.padding = (1, 1)
    return network
