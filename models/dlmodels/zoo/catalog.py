"""The networks of the zoo: what is known of each without importing a framework.

All are torchvision's, under its own names, with its ImageNet classes and the preprocessing of its IMAGENET1K_V1 weights,
but for one thing: torchvision resizes the shorter side (to 256, say) and cuts out the middle, dlserve resizes the whole
picture to the size that remains, as DeepDetect does. Accuracy on wide pictures is therefore not quite the published one.
"""

import difflib
from dataclasses import dataclass
from types import MappingProxyType

from dlmodels.errors import UnknownArchitectureError
from dlmodels.images import InputSpec

CLASSES = 1000
ENGINES = ("torch",)
TOP1_SOURCE = "torchvision, ImageNet-1K validation, single crop, weights IMAGENET1K_V1"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Network:
    """One architecture, as it is served: without auxiliary classifiers."""

    name: str
    parameters: int
    bytes: int
    """Of its weights and statistics in float32, with its 1000 classes."""
    macs: int
    """Multiply-adds of one forward at `side`, from torchvision's `_ops`, which is labelled GFLOPS and counts these."""
    top1: float
    """Percent of the ImageNet validation set that torchvision's IMAGENET1K_V1 weights get right, by its own measure."""
    side: int = 224
    """Width and height of the input."""

    @property
    def input(self) -> InputSpec:
        """Preprocessing of the published weights: RGB, bilinear, ImageNet's mean and deviation."""
        return InputSpec(
            width=self.side, height=self.side, rgb=True, scale=1 / 255, mean=_MEAN, std=_STD, interp="linear"
        )


_NETWORKS = (
    Network("alexnet", 61_100_840, 244_403_360, 714_000_000, 56.522),
    Network("squeezenet1_0", 1_248_424, 4_993_696, 819_000_000, 58.092),
    Network("squeezenet1_1", 1_235_496, 4_941_984, 349_000_000, 58.178),
    Network("vgg11", 132_863_336, 531_453_344, 7_609_000_000, 69.02),
    Network("vgg13", 133_047_848, 532_191_392, 11_308_000_000, 69.928),
    Network("vgg16", 138_357_544, 553_430_176, 15_470_000_000, 71.592),
    Network("vgg19", 143_667_240, 574_668_960, 19_632_000_000, 72.376),
    Network("vgg11_bn", 132_868_840, 531_497_440, 7_609_000_000, 70.37),
    Network("vgg13_bn", 133_053_736, 532_238_576, 11_308_000_000, 71.586),
    Network("vgg16_bn", 138_365_992, 553_497_864, 15_470_000_000, 73.36),
    Network("vgg19_bn", 143_678_248, 574_757_152, 19_632_000_000, 74.218),
    Network("googlenet", 6_624_904, 26_558_312, 1_498_000_000, 69.778),
    Network("inception_v3", 23_834_568, 95_476_752, 5_713_000_000, 77.294, side=299),
    Network("resnet18", 11_689_512, 46_796_608, 1_814_000_000, 69.758),
    Network("resnet34", 21_797_672, 87_259_072, 3_664_000_000, 73.314),
    Network("resnet50", 25_557_032, 102_441_032, 4_089_000_000, 76.13),
    Network("resnet101", 44_549_160, 178_618_848, 7_801_000_000, 77.374),
    Network("resnet152", 60_192_808, 241_378_168, 11_514_000_000, 78.312),
    Network("resnext50_32x4d", 25_028_904, 100_388_936, 4_230_000_000, 77.618),
    Network("resnext101_32x8d", 88_791_336, 355_977_696, 16_414_000_000, 79.312),
    Network("resnext101_64x4d", 83_455_272, 334_633_440, 15_460_000_000, 83.246),
    Network("wide_resnet50_2", 68_883_240, 275_806_280, 11_398_000_000, 78.468),
    Network("wide_resnet101_2", 126_886_696, 508_099_040, 22_753_000_000, 78.848),
    Network("densenet121", 7_978_856, 32_250_984, 2_834_000_000, 74.434),
    Network("densenet169", 14_149_480, 57_232_872, 3_360_000_000, 75.6),
    Network("densenet201", 20_013_928, 80_973_544, 4_291_000_000, 76.896),
    Network("densenet161", 28_681_000, 115_605_032, 7_728_000_000, 77.138),
    Network("shufflenet_v2_x0_5", 1_366_792, 5_499_424, 40_000_000, 60.552),
    Network("shufflenet_v2_x1_0", 2_278_604, 9_179_584, 145_000_000, 69.362),
    Network("shufflenet_v2_x1_5", 3_503_624, 14_108_704, 296_000_000, 72.996),
    Network("shufflenet_v2_x2_0", 7_393_996, 29_711_296, 583_000_000, 76.23),
    Network("mobilenet_v2", 3_504_872, 14_156_352, 301_000_000, 71.878),
    Network("mobilenet_v3_small", 2_542_856, 10_220_144, 57_000_000, 67.668),
    Network("mobilenet_v3_large", 5_483_032, 22_030_096, 217_000_000, 74.042),
)

CATALOG = MappingProxyType({network.name: network for network in _NETWORKS})
"""Name -> network, in the order in which they are listed: by family, then size."""


def find(name: str) -> Network:
    """The network of that name. Raises UnknownArchitectureError naming those that there are."""
    try:
        return CATALOG[name]
    except KeyError:
        close = difflib.get_close_matches(name, CATALOG, n=3)
        guess = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UnknownArchitectureError(f"the zoo has no network {name!r}.{guess} `dlmodels list` shows all") from None
