"""Named sets of networks."""

import csv
import re
from pathlib import Path

import pytest
from dlmodels.errors import UnknownArchitectureError
from dlmodels.zoo.presets import PRESETS, preset

SIZES = "cortex-size-"
PUBLISHED_NAMES = {
    "caffenet": "caffenet",
    "nin": "nin",
    "squeezenet1_1": "squeezenet_v1.1",
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "inception_bn": "inception_v3",  # as MXNet's zoo titled the file of 43 MiB that is Inception-BN
    "resnet152": "resnet152",
    "resnext101_64x4d": "resnet101",
}
REFERENCE = Path(__file__).parents[2] / "dashboards/reference"


def test_every_preset_names_networks_of_the_zoo_once() -> None:
    for name, members in PRESETS.items():
        networks = preset(name)
        assert tuple(network.name for network in networks) == members
        assert len(set(members)) == len(members) > 0


def test_the_stream_of_2018_has_eight_networks_of_1_9_gib() -> None:
    networks = preset("stream-2018")
    assert len(networks) == 8
    assert sum(network.bytes for network in networks) / 2**30 == pytest.approx(1.9, abs=0.05)


def test_the_stream_of_2018_has_the_published_file_sizes() -> None:
    with (REFERENCE / "published.csv").open(newline="") as file:
        sizes = {row["model"]: float(row["value"]) for row in csv.DictReader(file) if row["ref_id"].startswith(SIZES)}
    assert sizes.keys() == set(PUBLISHED_NAMES.values())
    for network in preset("stream-2018"):
        published = sizes[PUBLISHED_NAMES[network.name]]
        assert network.bytes / 2**20 == pytest.approx(published, rel=0.125), network.name  # read off a chart


def test_deepdetects_report_has_a_network_for_each_published_row() -> None:
    with (REFERENCE / "published_models.csv").open(newline="") as file:
        rows = [row["model"] for row in csv.DictReader(file)]
    families = {"res": "resnet", "squeezenetv": "squeezenet", "mobilenet_": "mobilenet_v1_"}
    for row, network in zip(rows, preset("deepdetect-report"), strict=True):
        stem = re.sub("[0-9.]+$", "", row)
        assert network.name.startswith(families.get(stem, stem.removesuffix("_depthwise"))), row


def test_gluons_benchmark_has_19_networks_and_those_that_were_switched_off() -> None:
    networks = preset("gluon-zoo")
    assert {network.source for network in networks} == {"gluon"}
    off = [network.name for network in networks if "mobilenet" in network.name or network.name.endswith("_bn")]
    assert len(networks) - len(off) == 19
    assert len(off) == 8


def test_a_preset_that_is_not_there_is_named_with_the_nearest_and_all() -> None:
    with pytest.raises(
        UnknownArchitectureError, match=r"no preset 'stream-2019'\. Did you mean stream-2018\?.*gluon-zoo"
    ):
        preset("stream-2019")
