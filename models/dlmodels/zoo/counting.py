"""How much a network holds and computes, counted on the meta device: exact, and in less than a second."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_FLOPS_PER_MAC = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """What the catalog says of a network, and what some published counts leave out of it."""

    parameters: int
    """All that training would change; not the statistics of normalization."""
    bytes: int
    """Of parameters and buffers."""
    macs: int
    """Multiply-adds of one forward: convolutions, matrix products and attention; not biases, normalization and pooling."""
    depthwise_macs: int
    """Those of them in depthwise convolutions."""
    biases: int
    """Those of the parameters that are biases of convolutions and linear layers."""


def count(module: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Of a network on the meta device, for one input of `shape` (channels, height, width)."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(torch.empty((1, *shape), device="meta"))
    by_module = counter.get_flop_counts()
    root = type(module).__name__
    depthwise = [f"{root}.{name}" for name, part in module.named_modules() if _is_depthwise(part)]
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    return Counts(
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()),
        macs=counter.get_total_flops() // _FLOPS_PER_MAC,
        depthwise_macs=sum(sum(by_module[name].values()) for name in depthwise) // _FLOPS_PER_MAC,
        biases=sum(layer.bias.numel() for layer in layers if layer.bias is not None),
    )


def _is_depthwise(part: nn.Module) -> bool:
    """Whether it is a convolution of which every output channel sees one input channel."""
    return isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1
