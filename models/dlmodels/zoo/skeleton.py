"""Architectures without weights: networks whose parameters lie on the meta device, where making one takes milliseconds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
import torchvision
from torch.overrides import TorchFunctionMode

from dlmodels.errors import UnknownArchitectureError
from dlmodels.zoo.catalog import find
from dlmodels.zoo.families.caffe_variants import densenet_caffe, resnet_caffe, squeezenet_caffe
from dlmodels.zoo.families.caffenet import caffenet
from dlmodels.zoo.families.googlenet import googlenet_caffe
from dlmodels.zoo.families.inception_bn import inception_bn
from dlmodels.zoo.families.mobilenet_v1 import mobilenet_v1
from dlmodels.zoo.families.network_in_network import network_in_network
from dlmodels.zoo.families.shufflenet_v1 import shufflenet_v1

_OPTIONS = MappingProxyType(
    {
        # Only training uses the auxiliary classifiers. Both take pixels normalized with 0.5, as the catalog says; torchvision
        # has ImageNet's normalization before the network, and a first step in it that makes the one into the other.
        "googlenet": {"aux_logits": False, "init_weights": False, "transform_input": False},
        "inception_v3": {"aux_logits": False, "init_weights": False, "transform_input": False},
    }
)
_FAMILIES: Mapping[str, Callable[[int], torch.nn.Module]] = MappingProxyType(
    {
        "caffenet": caffenet,
        "nin": network_in_network,
        "inception_bn": inception_bn,
        "googlenet_caffe": googlenet_caffe,
        "mobilenet_v1": mobilenet_v1,
        "mobilenet_v1_depthwise": mobilenet_v1,
        "shufflenet_v1": shufflenet_v1,
        "resnet50_caffe": partial(resnet_caffe, 50),
        "resnet101_caffe": partial(resnet_caffe, 101),
        "resnet152_caffe": partial(resnet_caffe, 152),
        "densenet121_caffe": partial(densenet_caffe, 121),
        "densenet201_caffe": partial(densenet_caffe, 201),
        "squeezenet1_0_caffe": squeezenet_caffe,
    }
)


def skeleton(architecture: str, classes: int) -> torch.nn.Module:
    """The network in evaluation mode, its parameters and buffers on the meta device: shapes without content.

    Raises UnknownArchitectureError.
    """
    return unfilled(architecture, classes).to("meta")


def unfilled(architecture: str, classes: int) -> torch.nn.Module:
    """The same, but that the tables which follow from the architecture (relative positions, say) have their content.

    So have parameters that begin at 0 or 1; those that begin with random numbers are on the meta device.
    """
    network = find(architecture)
    if network.source == "gluon":
        raise UnknownArchitectureError(
            f"{architecture} is a network of Gluon, which torch cannot make: use the engine mxnet,"
            f" or the nearest network of torchvision (`dlmodels list`)"
        )
    with _WithoutWeights():
        module = (
            _FAMILIES[architecture](classes) if network.source == "dlserve" else _torchvision(architecture, classes)
        )
    return module.eval().requires_grad_(requires_grad=False)


def _torchvision(name: str, classes: int) -> torch.nn.Module:
    module: torch.nn.Module = torchvision.models.get_model(
        name, weights=None, num_classes=classes, **_OPTIONS.get(name, {})
    )
    return module


class _WithoutWeights(TorchFunctionMode):
    """Within it, memory that is to be filled later is never allocated.

    torch.device("meta") would take the numbers too with which RegNets and Swin transformers compute their own shape.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        options = dict(kwargs or {})
        if func is torch.empty:
            options["device"] = "meta"
        return func(*args, **options)
