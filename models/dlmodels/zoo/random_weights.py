"""Seeded random weights under which a network behaves like a trained one, numerically.

torchvision's own initialization takes seconds and leaves deep networks useless in evaluation mode: activations grow until
one class has all the probability, or shrink until all have the same. Here filters are drawn uniformly with He's variance
and zero mean, so that the answer depends on the picture; normalization statistics and the last layer's scale are then set
from one forward of noise. These are powers of two, so that the rounding of a machine's arithmetic does not show in them,
and equal seeds give equal files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import SqueezeExcitation

from dlmodels.zoo.catalog import CLASSES, find
from dlmodels.zoo.draws import BRANCH_SCALE, SCORE_DEVIATION, draw_filters, draw_noise, power_of_two
from dlmodels.zoo.skeleton import unfilled

_BENT_DEVIATION = 8.0
"""Of what flows into SiLU and hard swish. At 1, where they bend, faint pictures fade out from layer to layer."""
_GATE_SCALE = 0.125
"""Of a squeeze-and-excitation's last layer. At 1 its gates multiply the differences between pictures from block to block."""

_DRAWN, _ONES, _KEPT = "drawn", "ones", "kept"
_OTHER_PARAMETERS = MappingProxyType(
    {
        "pos_embedding": _DRAWN,
        "relative_position_bias_table": _DRAWN,
        "class_token": _KEPT,  # zeros: the positions alone tell it from the picture's tokens
        "logit_scale": _KEPT,
        "layer_scale": _ONES,  # begins at 1e-6, where blocks would not count; training brings it to about 0.1 to 1
    }
)
"""Parameters that belong to no layer of torch's own, by name: what becomes of them."""


def random_weights(architecture: str, seed: int, classes: int = CLASSES) -> dict[str, NDArray[np.generic]]:
    """The state dict of a network of torch. Raises UnknownArchitectureError."""
    spec = find(architecture).input
    random = np.random.Generator(np.random.PCG64(seed))
    module = unfilled(architecture, classes)
    with torch.inference_mode():
        _allocate(module)
        last = _fill(module, random)
        with _adapting_statistics(module):
            scores = module(torch.from_numpy(draw_noise(spec, random)))
        last.weight.mul_(power_of_two(SCORE_DEVIATION / float(scores.double().std())))
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def _allocate(module: nn.Module) -> None:
    """Give every parameter that is on the meta device its memory."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if parameter.is_meta:
                setattr(part, name, nn.Parameter(torch.empty(parameter.shape), requires_grad=False))


def _fill(module: nn.Module, random: np.random.Generator) -> nn.Conv2d | nn.Linear:
    """Give every parameter its content; returns the last layer with weights."""
    last = None
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            last = part
            _fill_layer(part.weight, part.bias, random)
        elif isinstance(part, nn.MultiheadAttention):
            _fill_layer(part.in_proj_weight, part.in_proj_bias, random)
        elif isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
            part.reset_parameters()  # weight 1, bias 0, mean 0, variance 1
        else:
            _fill_others(part, random)
    for part in module.modules():
        if isinstance(part, SqueezeExcitation):
            part.fc2.weight.mul_(_GATE_SCALE)
        elif isinstance(part, BasicBlock):
            part.bn2.weight.mul_(BRANCH_SCALE)
        elif isinstance(part, Bottleneck):
            part.bn3.weight.mul_(BRANCH_SCALE)
    if last is None:
        raise TypeError("a network without convolutions and linear layers")
    return last


def _fill_layer(weight: torch.Tensor, bias: torch.Tensor | None, random: np.random.Generator) -> None:
    weight.copy_(torch.from_numpy(draw_filters(tuple(weight.shape), random)))
    if bias is not None:
        bias.zero_()


def _fill_others(part: nn.Module, random: np.random.Generator) -> None:
    for name, parameter in part.named_parameters(recurse=False):
        rule = _OTHER_PARAMETERS.get(name)
        if rule is None:
            raise TypeError(f"no rule for the parameter {name} of {type(part).__name__}")
        if rule == _DRAWN:
            parameter.copy_(torch.from_numpy(random.random(tuple(parameter.shape), dtype=np.float32) - np.float32(0.5)))
        elif rule == _ONES:
            parameter.fill_(1.0)


@contextmanager
def _adapting_statistics(module: nn.Module) -> Iterator[None]:
    """Within it, each batch normalization takes the variance of what first flows into it."""
    wanted = _BENT_DEVIATION if any(isinstance(part, nn.SiLU | nn.Hardswish) for part in module.modules()) else 1.0

    def adapt(part: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(part, nn.BatchNorm2d) and part.running_var is not None:
            part.running_var.fill_((power_of_two(float(inputs[0].double().std())) / wanted) ** 2)

    hooks = [part.register_forward_pre_hook(adapt) for part in module.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
