"""The networks of the zoo: what the catalog says of them, and random weights for them."""

import re

import numpy as np
import pytest
import torch
import torchvision
from dlmodels.errors import UnknownArchitectureError
from dlmodels.zoo.catalog import CATALOG, CLASSES, Network, find
from dlmodels.zoo.random_weights import random_weights
from dlmodels.zoo.skeleton import skeleton

ASKED_FOR = [
    "alexnet",
    "squeezenet1_0",
    "squeezenet1_1",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext101_64x4d",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
]
NETWORKS = CATALOG.values()


def name_of(network: Network) -> str:
    return network.name


@pytest.mark.parametrize("name", ASKED_FOR)
def test_every_network_that_was_asked_for_is_there(name: str) -> None:
    assert find(name).name == name


@pytest.mark.parametrize("network", NETWORKS, ids=name_of)
def test_counts_are_those_of_the_network_as_it_is_served(network: Network) -> None:
    module = skeleton(network.name, CLASSES)
    assert sum(parameter.numel() for parameter in module.parameters()) == network.parameters
    assert sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()) == network.bytes


@pytest.mark.parametrize("network", NETWORKS, ids=name_of)
def test_published_figures_and_preprocessing_are_torchvisions(network: Network) -> None:
    weights = torchvision.models.get_model_weights(network.name)["IMAGENET1K_V1"]
    transforms = weights.transforms()
    assert network.macs == round(weights.meta["_ops"] * 1e9)
    assert network.top1 == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert len(weights.meta["categories"]) == CLASSES
    assert transforms.crop_size == [network.side]
    assert (list(network.input.mean), list(network.input.std)) == (transforms.mean, transforms.std)
    assert transforms.interpolation.value == "bilinear"
    assert network.input.interp == "linear"
    assert (network.input.width, network.input.height, network.input.rgb) == (network.side, network.side, True)


@pytest.mark.parametrize("network", NETWORKS, ids=name_of)
def test_state_dict_is_all_that_a_network_holds(network: Network) -> None:
    module = skeleton(network.name, CLASSES)
    held = dict(module.named_parameters()) | dict(module.named_buffers())
    assert held.keys() == module.state_dict().keys()


def test_a_network_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownArchitectureError, match=re.escape("no network 'resnet19'. Did you mean resnet18")):
        find("resnet19")


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    one, same, other = (random_weights("shufflenet_v2_x0_5", seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["fc.weight"], other["fc.weight"])


def test_weights_do_not_depend_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = random_weights("shufflenet_v2_x0_5", 0)
        torch.set_num_threads(2)
        two = random_weights("shufflenet_v2_x0_5", 0)
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "resnet18", "googlenet"])
def test_random_networks_tell_pictures_apart_and_classes_too(name: str) -> None:
    module = skeleton(name, CLASSES).to_empty(device="cpu")
    module.load_state_dict({key: torch.from_numpy(value) for key, value in random_weights(name, 0).items()})
    squares = np.random.default_rng(5).standard_normal((6, 3, 8, 8), dtype=np.float32)
    with torch.inference_mode():
        answers = module(torch.from_numpy(squares.repeat(28, 2).repeat(28, 3))).softmax(1).numpy()
    top = answers.max(axis=1)
    assert np.isfinite(answers).all()
    assert (top > 5 / CLASSES).all()
    assert (top < 0.999).all()
    assert len(set(answers.argmax(axis=1))) > 1


def test_other_numbers_of_classes_can_be_built() -> None:
    assert random_weights("squeezenet1_1", 0, classes=7)["classifier.1.weight"].shape[0] == 7
