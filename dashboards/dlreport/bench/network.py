"""Which network of a published benchmark one of ours is, and what is known of it: multiply-adds, parameters, top-1."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dlclient.bench_result import Point

from dlreport.published import OUR_NAMES, published_costs

_BYTES = {"": 4, "fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
"""Of a weight, by precision."""

_FULL = ("", "fp32")
"""Precisions at which a network is as right as was published."""

_DEEPDETECT = {
    "mobilenet": ("mobilenet_v1",),
    "mobilenet_depthwise": ("mobilenet_v1_depthwise",),
    "res50": ("resnet50_caffe",),
    "res101": ("resnet101_caffe",),
    "res152": ("resnet152_caffe",),
    "googlenet": ("googlenet_caffe",),
    "densenet121": ("densenet121_caffe",),
    "densenet201": ("densenet201_caffe",),
    "squeezenetv1.0": ("squeezenet1_0_caffe",),
    "squeezenetv1.1": ("squeezenet1_1",),
    "vgg16": ("vgg16",),
    "vgg19": ("vgg19",),
    "shufflenet": ("shufflenet_v1",),
}
_DEEPDETECT_KIN = {
    "mobilenet": ("gluon-mobilenet1.0",),
    "res50": ("resnet50", "gluon-resnet50_v1"),
    "res101": ("resnet101", "gluon-resnet101_v1"),
    "res152": ("resnet152", "gluon-resnet152_v1"),
    "squeezenetv1.0": ("squeezenet1_0", "gluon-squeezenet1.0"),
    "squeezenetv1.1": ("gluon-squeezenet1.1",),
    "densenet121": ("gluon-densenet121",),
    "densenet201": ("gluon-densenet201",),
    "vgg16": ("gluon-vgg16",),
    "vgg19": ("gluon-vgg19",),
}
"""Networks of the same design that differ in details (where a stride is, how a pooling rounds)."""

_DLI = {"mobilenet-v1-1.0-224": ("mobilenet_v1", "mobilenet_v1_depthwise"), "resnet50": ("resnet50",)}
_DLI_KIN = {"mobilenet-v1-1.0-224": ("gluon-mobilenet1.0",), "resnet50": ("resnet50_caffe", "gluon-resnet50_v1")}


@dataclass(frozen=True, slots=True)
class Namesake:
    """A network as a publication calls it. `same`: the very network; else one of the same design."""

    name: str
    same: bool


def _by_our_name(same: Mapping[str, tuple[str, ...]], kin: Mapping[str, tuple[str, ...]]) -> Mapping[str, Namesake]:
    """Their names count too: a server's service may be called so."""
    found = {name: Namesake(name, same=True) for name in same}
    found |= {ours: Namesake(theirs, same=False) for theirs, names in kin.items() for ours in names}
    found |= {ours: Namesake(theirs, same=True) for theirs, names in same.items() for ours in names}
    return MappingProxyType(found)


NAMESAKES: Mapping[str, Mapping[str, Namesake]] = MappingProxyType(
    {
        "dd_performances": _by_our_name(_DEEPDETECT, _DEEPDETECT_KIN),
        "dli": _by_our_name(_DLI, _DLI_KIN),
        "cortex": _by_our_name({theirs: (ours,) for theirs, ours in OUR_NAMES.items()}, {}),
    }
)
"""`system` in published.csv -> our network -> its network."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network is made of. None: not known. `source`: who says so."""

    macs: float | None
    parameters: float | None
    model_bytes: int | None
    """Measured: of its weights as they were loaded."""
    source: str
    published_as: str


def cost(points: tuple[Point, ...]) -> Cost:
    """Of the network of these points: by the catalog, else by DeepDetect's report, else parameters from the weights' size."""
    sizes = [(point.model_bytes, point.setting.precision) for point in points if point.model_bytes]
    model_bytes = sizes[0][0] if sizes else None
    card = next((point.card for point in points if point.card is not None), None)
    namesake = NAMESAKES["dd_performances"].get(points[0].setting.model)
    published = published_costs().get(namesake.name) if namesake else None
    called = namesake.name if namesake and published else ""
    if card is not None and (card.macs or card.parameters):
        return Cost(card.macs, card.parameters, model_bytes, "the catalog's own count", called)
    if published is not None and namesake is not None:
        kind = "" if namesake.same else ", of a network of the same design"
        return Cost(
            published.macs, published.parameters, model_bytes, f"published by DeepDetect's report{kind}", called
        )
    if sizes and sizes[0][1] in _BYTES:
        of_weights = (sizes[0][0] or 0) / _BYTES[sizes[0][1]]
        return Cost(None, of_weights, model_bytes, "parameters: size of the weights over that of a weight", called)
    return Cost(None, None, model_bytes, "", called)


@dataclass(frozen=True, slots=True)
class Rightness:
    """Top-1 as a fraction. `measured` false: published, by `source`."""

    top1: float
    measured: bool
    source: str
    interval: tuple[float, float] | None = None


def rightness(model: str, precision: str, points: tuple[Point, ...]) -> Rightness | None:
    """Of a network at a precision: as it was measured at the best-founded of these points, else as it was published.

    None: neither. Of what was rounded to fewer bits than a float32 nothing was published.
    """
    own = [point for point in points if point.setting.model == model and point.setting.precision == precision]
    told = [(point.accuracy, point) for point in own if point.failure is None and point.accuracy is not None]
    if told:
        accuracy, _ = max(told, key=lambda pair: (not pair[1].reasons, pair[0].images))
        said = f"measured on {accuracy.images:,} images of {accuracy.dataset}"
        return Rightness(accuracy.top1, measured=True, source=said, interval=accuracy.top1_interval)
    if precision not in _FULL:
        return None
    card = next((point.card for point in own if point.card is not None and point.card.top1 is not None), None)
    if card is not None and card.top1 is not None:
        return Rightness(card.top1, measured=False, source=f"published: {card.top1_source or 'source not told'}")
    namesake = NAMESAKES["dd_performances"].get(model)
    published = published_costs().get(namesake.name) if namesake else None
    if published is None or published.top1 is None or namesake is None:
        return None
    kind = "" if namesake.same else " of a network of the same design"
    return Rightness(published.top1, measured=False, source=f"published by DeepDetect's report{kind}")
