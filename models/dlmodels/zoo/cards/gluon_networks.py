"""The networks of MXNet's Gluon model zoo, as `gluon-` and Gluon's own name."""

from dlmodels.zoo.network import Network

_TOP1_SOURCE = "Gluon model zoo's documentation, MXNet 1.5: ImageNet-1K validation, single crop"
_NOTE = "Gluon's documentation counts the running statistics as parameters: that is the bytes divided by 4"
_PREFIX = "gluon-"


def _card(name: str, parameters: int, size: int, macs: int, top1: float, *, side: int = 224) -> Network:
    return Network(_PREFIX + name, parameters, size, macs, top1, _TOP1_SOURCE, side=side, source="gluon", note=_NOTE)


def gluon_name(network: Network) -> str:
    """What `mxnet.gluon.model_zoo.vision.get_model` calls it."""
    return network.name.removeprefix(_PREFIX)


GLUON = (
    _card("alexnet", 61_100_840, 244_403_360, 714_188_480, 54.92),
    _card("squeezenet1.0", 1_248_424, 4_993_696, 818_924_576, 56.11),
    _card("squeezenet1.1", 1_235_496, 4_941_984, 349_151_936, 54.96),
    _card("vgg11", 132_863_336, 531_453_344, 7_609_090_048, 66.62),
    _card("vgg13", 133_047_848, 532_191_392, 11_308_466_176, 67.74),
    _card("vgg16", 138_357_544, 553_430_176, 15_470_264_320, 73.23),
    _card("vgg19", 143_667_240, 574_668_960, 19_632_062_464, 74.11),
    _card("vgg11_bn", 132_868_840, 531_497_376, 7_609_090_048, 68.59),
    _card("vgg13_bn", 133_053_736, 532_238_496, 11_308_466_176, 68.84),
    _card("vgg16_bn", 138_365_992, 553_497_760, 15_470_264_320, 73.1),
    _card("vgg19_bn", 143_678_248, 574_757_024, 19_632_062_464, 74.33),
    _card("inceptionv3", 23_834_568, 95_476_000, 5_713_216_096, 77.55, side=299),
    _card("resnet18_v1", 11_689_512, 46_796_448, 1_814_073_344, 70.93),
    _card("resnet34_v1", 21_797_672, 87_258_784, 3_663_761_408, 74.37),
    _card("resnet50_v1", 25_575_912, 102_516_128, 3_857_973_248, 76.47),
    _card("resnet101_v1", 44_589_800, 178_780_576, 7_570_194_432, 78.34),
    _card("resnet152_v1", 60_252_648, 241_616_288, 11_282_415_616, 79.0),
    _card("resnet18_v2", 11_687_854, 46_783_184, 1_814_073_344, 71.0),
    _card("resnet34_v2", 21_796_014, 87_245_520, 3_663_761_408, 74.4),
    _card("resnet50_v2", 25_549_486, 102_380_240, 4_089_184_256, 77.11),
    _card("resnet101_v2", 44_541_614, 178_557_648, 7_801_405_440, 78.53),
    _card("resnet152_v2", 60_185_262, 241_316_560, 11_513_626_624, 79.21),
    _card("densenet121", 7_978_856, 32_250_016, 2_834_161_664, 74.97),
    _card("densenet161", 28_681_000, 115_603_744, 7_727_907_072, 77.7),
    _card("densenet169", 14_149_480, 57_231_520, 3_359_843_328, 76.17),
    _card("densenet201", 20_013_928, 80_971_936, 4_291_365_888, 77.32),
    _card("mobilenet0.25", 470_072, 1_902_176, 41_030_272, 51.85),
    _card("mobilenet0.5", 1_331_592, 5_370_144, 149_497_088, 63.07),
    _card("mobilenet0.75", 2_585_560, 10_407_904, 325_400_448, 67.38),
    _card("mobilenet1.0", 4_231_976, 17_015_456, 568_740_352, 71.05),
    _card("mobilenetv2_0.25", 1_516_392, 6_107_424, 30_480_864, 50.74),
    _card("mobilenetv2_0.5", 1_964_736, 7_932_416, 92_271_040, 64.49),
    _card("mobilenetv2_0.75", 2_627_592, 10_615_456, 186_650_528, 69.61),
    _card("mobilenetv2_1.0", 3_504_960, 14_156_544, 313_619_328, 71.92),
)
