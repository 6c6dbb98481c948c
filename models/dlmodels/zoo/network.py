"""A card of the catalog: what is known of one network without importing a framework."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import msgspec

from dlmodels.formats import readers_of
from dlmodels.images import InputSpec

Source = Literal["torchvision", "gluon", "dlserve"]
"""Whose definition it is: torchvision's, MXNet's Gluon model zoo's, or our own (zoo/families)."""

Preprocessing = Literal["imagenet", "imagenet-cubic", "half", "half-cubic", "caffe", "caffe-scaled", "mxnet"]
"""Name of the preprocessing under which the published weights were measured."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET = InputSpec(rgb=True, scale=1 / 255, mean=_MEAN, std=_STD, interp="linear")
_HALF = msgspec.structs.replace(_IMAGENET, mean=(0.5,) * 3, std=(0.5,) * 3)
_SCALE = 0.017
_SCALED_MEAN = tuple(round(mean * _SCALE, 5) for mean in (103.94, 116.78, 123.68))

_INPUTS = MappingProxyType(
    {
        # torchvision's and Gluon's
        "imagenet": _IMAGENET,
        "imagenet-cubic": msgspec.structs.replace(_IMAGENET, interp="cubic"),
        "half": _HALF,
        "half-cubic": msgspec.structs.replace(_HALF, interp="cubic"),
        # bytes of blue, green, red with the training set's mean taken away, as Caffe's first networks had them
        "caffe": InputSpec(mean=(104.0, 117.0, 123.0), interp="linear"),
        # the same scaled to a deviation of about 1: MobileNet, DenseNet and ShuffleNet in Caffe
        "caffe-scaled": InputSpec(scale=_SCALE, mean=_SCALED_MEAN, interp="linear"),
        # bytes of red, green, blue: MXNet's first model zoo
        "mxnet": InputSpec(rgb=True, mean=(123.68, 116.779, 103.939), interp="linear"),
    }
)


@dataclass(frozen=True, slots=True)
class Network:
    """One architecture, as it is served: for ImageNet's 1000 classes, without auxiliary classifiers."""

    name: str
    parameters: int
    """All that training would change; not the statistics of normalization."""
    bytes: int
    """Of its weights and statistics in float32."""
    macs: int
    """Multiply-adds of one forward at `side`, by our own count (zoo/counting.py, zoo/symbol_counting.py): convolutions, matrix
    products and attention; not biases, normalization and pooling."""
    top1: float | None
    """Percent of the ImageNet validation set that published weights get right, by their publisher's measure; None where
    nothing is published that could be checked."""
    top1_source: str = ""
    """Who published `top1`, and of which weights."""
    side: int = 224
    """Width and height of the input."""
    source: Source = "torchvision"
    preprocessing: Preprocessing = "imagenet"
    trained: str = ""
    """The torchvision weights that `dlmodels build --pretrained` takes; "" where there are none."""
    not_for: tuple[str, ...] = ()
    """Engines that read ONNX files, but not one of this network."""
    note: str = ""
    """What sets it apart from networks of the same name elsewhere, and how published figures of it were counted."""

    @property
    def input(self) -> InputSpec:
        """The preprocessing of the published weights, at `side`."""
        return msgspec.structs.replace(_INPUTS[self.preprocessing], width=self.side, height=self.side)

    @property
    def engine(self) -> str:
        """The engine that `dlmodels build` makes a folder for."""
        return "mxnet" if self.source == "gluon" else "torch"

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that can serve it: its own, and those that read what `dlmodels convert` makes of it."""
        return (self.engine, *(name for name in readers_of("model.onnx") if name not in self.not_for))
