"""Named sets of networks: those that published benchmarks ran."""

import difflib
from types import MappingProxyType

from dlmodels.errors import UnknownArchitectureError
from dlmodels.zoo.catalog import find
from dlmodels.zoo.network import Network

PRESETS = MappingProxyType(
    {
        "stream-2018": (
            "caffenet",
            "nin",
            "squeezenet1_1",
            "vgg16",
            "vgg19",
            "inception_bn",
            "resnet152",
            "resnext101_64x4d",
        ),
        "deepdetect-report": (
            "mobilenet_v1",
            "mobilenet_v1_depthwise",
            "resnet50_caffe",
            "resnet101_caffe",
            "resnet152_caffe",
            "googlenet_caffe",
            "densenet121_caffe",
            "densenet201_caffe",
            "squeezenet1_0_caffe",
            "squeezenet1_1",
            "vgg16",
            "vgg19",
            "shufflenet_v1",
        ),
        "gluon-zoo": (
            "gluon-alexnet",
            "gluon-densenet121",
            "gluon-densenet161",
            "gluon-densenet169",
            "gluon-densenet201",
            "gluon-resnet18_v1",
            "gluon-resnet34_v1",
            "gluon-resnet50_v1",
            "gluon-resnet101_v1",
            "gluon-resnet152_v1",
            "gluon-resnet18_v2",
            "gluon-resnet34_v2",
            "gluon-resnet50_v2",
            "gluon-squeezenet1.0",
            "gluon-squeezenet1.1",
            "gluon-vgg11",
            "gluon-vgg13",
            "gluon-vgg16",
            "gluon-vgg19",
            # switched off in the benchmark's published list
            "gluon-mobilenet0.25",
            "gluon-mobilenet0.5",
            "gluon-mobilenet0.75",
            "gluon-mobilenet1.0",
            "gluon-vgg11_bn",
            "gluon-vgg13_bn",
            "gluon-vgg16_bn",
            "gluon-vgg19_bn",
        ),
    }
)
"""Name -> networks, in the order of the publication: the stream test of 2018 (eight networks, 1.9 GiB), DeepDetect's performance
report (13, the rows of dashboards/reference/published_models.csv), and the benchmark of MXNet's Gluon networks (19 and 8)."""


def preset(name: str) -> tuple[Network, ...]:
    """The networks of a preset. Raises UnknownArchitectureError naming those that there are."""
    try:
        return tuple(map(find, PRESETS[name]))
    except KeyError:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        guess = f" Did you mean {close[0]}?" if close else ""
        raise UnknownArchitectureError(f"there is no preset {name!r}.{guess} There are: {', '.join(PRESETS)}") from None
