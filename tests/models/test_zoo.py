"""The networks of the zoo: what the catalog says of them, and random weights for them."""

import re
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from dlmodels.errors import UnknownArchitectureError
from dlmodels.images import validate
from dlmodels.repository import is_name
from dlmodels.zoo.cards.own_networks import OWN
from dlmodels.zoo.catalog import CATALOG, CLASSES, find
from dlmodels.zoo.random_weights import random_weights
from dlmodels.zoo.skeleton import skeleton, unfilled

ONE_OF_EACH_FAMILY = [
    "alexnet",
    "squeezenet1_1",
    "vgg11_bn",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "shufflenet_v2_x0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_32",
    "swin_t",
    "swin_v2_t",
    "maxvit_t",
    *(network.name for network in OWN),
]
NETWORKS = CATALOG.values()


def test_every_classification_network_of_torchvision_is_there_under_its_own_name() -> None:
    theirs = torchvision.models.list_models(module=torchvision.models)
    assert {network.name for network in NETWORKS if network.source == "torchvision"} == set(theirs)


def test_every_network_of_gluon_is_there_with_a_prefix() -> None:
    found = util.find_spec("mxnet")
    if found is None or found.origin is None:
        pytest.skip("mxnet is not installed")
    theirs = Path(found.origin).parent / "gluon/model_zoo/vision/__init__.py"
    names = re.findall(r"^ +(?:models = \{)?'([a-z0-9_.]+)': \w+,?$", theirs.read_text(), re.MULTILINE)
    assert len(names) > 30
    assert {network.name for network in NETWORKS if network.source == "gluon"} == {f"gluon-{name}" for name in names}


def test_every_name_can_be_a_model_and_every_input_is_valid() -> None:
    for network in NETWORKS:
        assert is_name(network.name), network.name
        validate(network.input)
        assert (network.input.width, network.input.height) == (network.side, network.side)


def test_an_accuracy_has_a_source_and_only_torchvisions_weights_can_be_fetched() -> None:
    for network in NETWORKS:
        assert (network.top1 is None) == (not network.top1_source), network.name
        assert bool(network.trained) == (network.source == "torchvision"), network.name


def test_engines_begin_with_the_one_that_is_built_for() -> None:
    assert find("resnet50").engines == ("torch", "onnxruntime", "openvino", "opencv", "tensorrt")
    assert find("vit_b_16").engines == ("torch", "onnxruntime", "openvino", "tensorrt")
    assert find("gluon-resnet50_v1").engines[0] == find("gluon-resnet50_v1").engine == "mxnet"


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_state_dict_is_all_that_a_network_holds_and_has_no_content(name: str) -> None:
    module = skeleton(name, CLASSES)
    held = dict(module.named_parameters()) | dict(module.named_buffers())
    assert held.keys() == module.state_dict().keys()
    assert all(tensor.is_meta for tensor in held.values())
    assert not module.training


def test_a_gluon_network_has_no_skeleton_in_torch() -> None:
    with pytest.raises(UnknownArchitectureError, match="use the engine mxnet"):
        skeleton("gluon-alexnet", CLASSES)


def test_tables_of_positions_are_those_that_torchvision_computes() -> None:
    for name in ("swin_t", "swin_v2_t", "maxvit_t"):
        theirs = torchvision.models.get_model(name, weights=None).state_dict()
        ours = unfilled(name, CLASSES).state_dict()
        tables = [
            key for key in theirs if key.endswith(("relative_position_index", "relative_coords_table", "logit_scale"))
        ]
        assert tables
        assert all(torch.equal(ours[key], theirs[key]) for key in tables)


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


@pytest.mark.parametrize(
    "name", ["squeezenet1_1", "mobilenet_v3_small", "efficientnet_b0", "googlenet_caffe", "nin", "swin_t"]
)
def test_random_networks_tell_pictures_apart_and_classes_too(name: str) -> None:
    module = skeleton(name, CLASSES).to_empty(device="cpu")
    weights = random_weights(name, 0)
    spec = find(name).input
    squares = np.random.default_rng(5).standard_normal((6, 3, 8, 8), dtype=np.float32)
    squares *= np.float32(58 * spec.scale / np.mean(spec.std or (1.0,)))
    with torch.inference_mode():
        for key, tensor in module.state_dict().items():
            tensor.copy_(torch.from_numpy(weights[key]))
        answers = module(torch.from_numpy(squares.repeat(28, 2).repeat(28, 3))).softmax(1).numpy()
    top = answers.max(axis=1)
    assert np.isfinite(answers).all()
    assert (top > 5 / CLASSES).all()
    assert (top < 0.999).all()
    assert len(set(answers.argmax(axis=1))) > 1


def test_other_numbers_of_classes_can_be_built() -> None:
    assert random_weights("squeezenet1_1", 0, classes=7)["classifier.1.weight"].shape[0] == 7
