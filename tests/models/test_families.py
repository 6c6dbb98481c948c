"""The networks that are written here, against their papers and Caffe's files."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from dlmodels.zoo.catalog import CLASSES, find
from dlmodels.zoo.families.caffe_variants import densenet_caffe, resnet_caffe, squeezenet_caffe
from dlmodels.zoo.families.googlenet import googlenet_caffe
from dlmodels.zoo.families.local_response_norm import LocalResponseNorm
from dlmodels.zoo.families.network_in_network import network_in_network
from dlmodels.zoo.families.shufflenet_v1 import shufflenet_v1
from dlmodels.zoo.skeleton import skeleton
from torch import nn

NOT_JUST_A_CHAIN = ["shufflenet_v1", "googlenet_caffe"]


def maps(module: nn.Module, side: int, *kinds: type[nn.Module]) -> list[int]:
    """Heights of what the layers of these kinds give, in the order in which they run."""
    seen: list[int] = []
    for part in module.modules():
        if isinstance(part, kinds):
            part.register_forward_hook(lambda _part, _inputs, output: seen.append(output.shape[2]))
    with torch.inference_mode():
        module(torch.empty((1, 3, side, side), device="meta"))
    return seen


def meta(module: nn.Module) -> nn.Module:
    return module.to("meta").eval()


class TestLocalResponseNorm:
    """Against the formula, written out."""

    def test_each_channel_is_divided_by_its_neighbourhood(self) -> None:
        x = torch.randn((2, 9, 3, 4), generator=torch.Generator().manual_seed(0)) * 100
        size, alpha, beta = 5, 1e-4, 0.75
        expected = torch.empty_like(x)
        for channel in range(9):
            near = x[:, max(0, channel - 2) : channel + 3].double()
            expected[:, channel] = (x[:, channel] / (1 + alpha / size * (near**2).sum(1)) ** beta).float()
        found = LocalResponseNorm(size, alpha, beta)(x)
        assert torch.allclose(found, expected, rtol=1e-5)
        assert not torch.allclose(found, x, rtol=1e-2)

    @pytest.mark.parametrize("traced", [True, False])
    def test_an_onnx_file_holds_one_operator(self, traced: bool, tmp_path: Path) -> None:
        path = tmp_path / "layer.onnx"
        layer = nn.Sequential(nn.Conv2d(3, 8, 1), LocalResponseNorm(alpha=0.5)).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            torch.onnx.export(
                layer,
                (torch.randn(2, 3, 4, 4),),
                path,
                dynamo=not traced,
                opset_version=17 if traced else 18,
                verbose=False,
            )
        graph = onnx.load(path).graph
        assert [node.op_type for node in graph.node] == ["Conv", "LRN"]
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in graph.node[1].attribute}
        assert attributes == pytest.approx({"size": 5, "alpha": 0.5, "beta": 0.75, "bias": 1.0})


def test_googlenets_maps_and_widths_are_those_of_the_papers_table() -> None:
    network = meta(googlenet_caffe(CLASSES))
    assert maps(network, 224, nn.MaxPool2d) == [56, 28, 28, 28, 14, 14, 14, 14, 14, 14, 7, 7, 7]
    widths = [
        sum(branch_width(branch) for branch in block) for block in network.modules() if isinstance(block, nn.ModuleList)
    ]
    assert widths == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


def branch_width(branch: nn.Module) -> int:
    """Channels of its last convolution."""
    return [part for part in branch.modules() if isinstance(part, nn.Conv2d)][-1].out_channels


def test_network_in_network_has_four_perceptrons_of_three_layers_and_no_linear_one() -> None:
    network = meta(network_in_network(CLASSES))
    assert maps(network, 224, nn.Conv2d) == [54] * 3 + [27] * 3 + [13] * 3 + [6] * 3
    assert not any(isinstance(part, nn.Linear) for part in network.modules())


def test_inception_bns_maps_are_the_papers() -> None:
    assert sorted(set(maps(skeleton("inception_bn", CLASSES), 224, nn.Conv2d)), reverse=True) == [112, 56, 28, 14, 7]


def test_shufflenets_groups_exchange_channels_between_two_convolutions() -> None:
    units = [part for part in shufflenet_v1(CLASSES).eval().modules() if hasattr(part, "reduce")]
    assert len(units) == 4 + 8 + 4
    seen: list[torch.Tensor] = []
    units[1].get_submodule("reduce").register_forward_hook(lambda _part, _inputs, output: seen.append(output))
    units[1].get_submodule("expand").register_forward_pre_hook(lambda _part, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        units[1](torch.randn((2, 240, 5, 4), generator=torch.Generator().manual_seed(0)))
    assert torch.equal(seen[1], nn.functional.channel_shuffle(seen[0], 3))
    assert not torch.equal(*seen)


def test_caffes_resnets_halve_the_map_one_convolution_earlier() -> None:
    ours = [part.stride for part in resnet_caffe(50, CLASSES).modules() if isinstance(part, nn.Conv2d)]
    theirs = [part.stride for part in torchvision.models.resnet50().modules() if isinstance(part, nn.Conv2d)]
    moved = [(one, other) for one, other in zip(ours, theirs, strict=True) if one != other]
    assert moved == [((2, 2), (1, 1)), ((1, 1), (2, 2))] * 3
    assert maps(meta(resnet_caffe(50, CLASSES)), 224, nn.MaxPool2d) == [56]


def test_caffes_densenets_keep_the_last_window() -> None:
    network = meta(densenet_caffe(121, CLASSES))
    assert maps(network, 224, nn.MaxPool2d, nn.AvgPool2d) == [57, 29, 15, 8]


def test_caffes_squeezenet_pads_its_last_convolution() -> None:
    assert maps(meta(squeezenet_caffe(CLASSES)), 224, nn.Conv2d)[-1] == 15


def test_grouped_and_depthwise_mobilenet_are_one_network() -> None:
    shapes = [
        {name: tensor.shape for name, tensor in skeleton(name, CLASSES).state_dict().items()}
        for name in ("mobilenet_v1", "mobilenet_v1_depthwise")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", NOT_JUST_A_CHAIN)
def test_networks_can_be_exported_for_any_batch(name: str) -> None:
    network = skeleton(name, 10).to_empty(device="cpu")
    with torch.no_grad():
        for number, tensor in enumerate(network.state_dict().values()):
            ramp = torch.linspace(-0.1, 0.1, tensor.numel()).view(tensor.shape)
            tensor.copy_(ramp * (number % 3) if tensor.ndim > 1 else torch.ones_like(ramp))
        pictures = torch.randn((3, *find(name).input.shape), generator=torch.Generator().manual_seed(0))
        expected = network(pictures)
        program = torch.export.export(network, (pictures[:2],), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        found = program.module()(pictures)
    assert found.shape == (3, 10)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
