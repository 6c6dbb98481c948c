"""The catalog's figures: all counted again, and held against what others published of the same networks."""

import csv
import functools
from pathlib import Path
from types import MappingProxyType

import pytest
import torchvision
from dlmodels.errors import EngineUnavailableError
from dlmodels.zoo.cards.gluon_networks import GLUON, gluon_name
from dlmodels.zoo.cards.own_networks import OWN
from dlmodels.zoo.cards.torchvision_networks import TORCHVISION
from dlmodels.zoo.catalog import CLASSES, Network
from dlmodels.zoo.counting import Counts, count
from dlmodels.zoo.gluon import gluon_network, mxnet_or_unavailable
from dlmodels.zoo.presets import preset
from dlmodels.zoo.skeleton import skeleton
from dlmodels.zoo.symbol_counting import count_symbol

PUBLISHED = Path(__file__).parents[2] / "dashboards/reference/published_models.csv"
WITHIN = 0.01  # for figures that count otherwise
AS_PRINTED = 5e-4  # what four digits, rounded or cut off, leave open

GLUONS_OWN_COUNTS = MappingProxyType(
    {
        "alexnet": 61_100_840,
        "densenet121": 8_062_504,
        "densenet161": 28_900_936,
        "densenet169": 14_307_880,
        "densenet201": 20_242_984,
        "inceptionv3": 23_869_000,
        "mobilenet0.25": 475_544,
        "mobilenet0.5": 1_342_536,
        "mobilenet0.75": 2_601_976,
        "mobilenet1.0": 4_253_864,
        "mobilenetv2_1.0": 3_539_136,
        "mobilenetv2_0.75": 2_653_864,
        "mobilenetv2_0.5": 1_983_104,
        "mobilenetv2_0.25": 1_526_856,
        "resnet18_v1": 11_699_112,
        "resnet34_v1": 21_814_696,
        "resnet50_v1": 25_629_032,
        "resnet101_v1": 44_695_144,
        "resnet152_v1": 60_404_072,
        "resnet18_v2": 11_695_796,
        "resnet34_v2": 21_811_380,
        "resnet50_v2": 25_595_060,
        "resnet101_v2": 44_639_412,
        "resnet152_v2": 60_329_140,
        "squeezenet1.0": 1_248_424,
        "squeezenet1.1": 1_235_496,
        "vgg11": 132_863_336,
        "vgg13": 133_047_848,
        "vgg16": 138_357_544,
        "vgg19": 143_667_240,
        "vgg11_bn": 132_874_344,
        "vgg13_bn": 133_059_624,
        "vgg16_bn": 138_374_440,
        "vgg19_bn": 143_689_256,
    }
)
"""Parameters by the documentation of Gluon's model zoo (MXNet 1.5), which counts the running statistics among them."""


def name_of(network: Network) -> str:
    return network.name


@functools.cache
def counted(network: Network) -> Counts:
    return count(skeleton(network.name, CLASSES), network.input.shape)


def off(ours: int, printed: str, unit: float) -> float:
    """Relative difference."""
    return abs(ours / (float(printed) * unit) - 1)


@pytest.mark.parametrize("network", [*TORCHVISION, *OWN], ids=name_of)
def test_a_card_of_a_torch_network_is_what_is_counted(network: Network) -> None:
    counts = counted(network)
    assert (network.parameters, network.bytes, network.macs) == (counts.parameters, counts.bytes, counts.macs)


@pytest.mark.parametrize("network", TORCHVISION, ids=name_of)
def test_our_count_and_published_figures_are_torchvisions(network: Network) -> None:
    weights = torchvision.models.get_model_weights(network.name)[network.trained]
    transforms = weights.transforms()
    assert round(network.macs / 1e9, 3) == weights.meta["_ops"]
    assert network.parameters <= weights.meta["num_params"]  # which counts auxiliary classifiers
    assert network.top1 == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert network.trained in network.top1_source
    assert len(weights.meta["categories"]) == CLASSES
    assert transforms.crop_size == [network.side]
    assert (network.input.width, network.input.height, network.input.rgb) == (network.side, network.side, True)
    assert network.input.interp == {"bilinear": "linear", "bicubic": "cubic"}[transforms.interpolation.value]


@pytest.mark.parametrize("network", TORCHVISION, ids=name_of)
def test_a_picture_becomes_the_numbers_that_torchvisions_network_works_with(network: Network) -> None:
    transforms = torchvision.models.get_model_weights(network.name)[network.trained].transforms()
    for channel, (mean, std) in enumerate(zip(transforms.mean, transforms.std, strict=True)):
        for pixel in (0, 128, 255):
            theirs = (pixel / 255 - mean) / std
            if network.name in ("googlenet", "inception_v3"):  # whose published weights come with transform_input
                theirs = theirs * (std / 0.5) + (mean - 0.5) / 0.5
            ours = (pixel * network.input.scale - network.input.mean[channel]) / network.input.std[channel]
            assert ours == pytest.approx(theirs, abs=1e-6)


def test_the_13_networks_of_deepdetects_report_are_those_that_it_ran() -> None:
    with PUBLISHED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    networks = preset("deepdetect-report")
    assert len(rows) == len(networks) == 13
    for row, network in zip(rows, networks, strict=True):
        counts = counted(network)
        # By the report's own count: no biases, and no depthwise convolutions where those were a layer of their own.
        macs = counts.macs - (counts.depthwise_macs if "depthwise convolutions out" in network.note else 0)
        parameters = counts.parameters - counts.biases
        assert off(counts.parameters, row["mparams"], 1e6) < WITHIN, network.name
        assert off(parameters, row["mparams"], 1e6) < AS_PRINTED, network.name
        assert off(macs, row["gmacs"], 1e9) < AS_PRINTED, network.name


def test_only_depthwise_layers_of_their_own_are_missing_in_the_report() -> None:
    by_name = {network.name: counted(network) for network in preset("deepdetect-report")}
    left_out = {network.name for network in preset("deepdetect-report") if "depthwise convolutions out" in network.note}
    assert left_out == {"mobilenet_v1_depthwise", "shufflenet_v1"}
    assert by_name["mobilenet_v1"].depthwise_macs == by_name["mobilenet_v1_depthwise"].depthwise_macs == 17_385_984
    assert all(by_name[name].depthwise_macs > 0.01 * by_name[name].macs for name in left_out)


def test_accuracies_of_deepdetects_report_are_told_as_such() -> None:
    with PUBLISHED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, network in zip(rows, preset("deepdetect-report"), strict=True):
        if "DeepDetect" in network.top1_source:
            assert network.top1 == float(row["top1_percent"]), network.name


@pytest.mark.parametrize("network", GLUON, ids=name_of)
def test_a_card_of_a_gluon_network_is_what_is_counted(network: Network) -> None:
    try:
        mxnet_or_unavailable()
    except EngineUnavailableError as exc:
        pytest.skip(str(exc))
    _, symbol = gluon_network(gluon_name(network))
    counts = count_symbol(symbol, network.input.shape)
    assert (network.parameters, network.bytes, network.macs) == (counts.parameters, counts.bytes, counts.macs)


@pytest.mark.parametrize("network", GLUON, ids=name_of)
def test_gluon_counts_the_same_with_its_running_statistics(network: Network) -> None:
    assert network.bytes == 4 * GLUONS_OWN_COUNTS[gluon_name(network)]
    assert network.top1 is not None


def test_the_same_network_counts_the_same_in_both_frameworks() -> None:
    torch_cards = {network.name: network for network in TORCHVISION}
    gluon_cards = {gluon_name(network): network for network in GLUON}
    pairs = {
        "alexnet": "alexnet",
        "vgg16_bn": "vgg16_bn",
        "squeezenet1.1": "squeezenet1_1",
        "densenet201": "densenet201",
    }
    for gluon, torch in pairs.items():
        assert gluon_cards[gluon].macs == torch_cards[torch].macs
        assert gluon_cards[gluon].parameters == torch_cards[torch].parameters
