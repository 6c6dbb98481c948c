"""Seeded random weights under which a network behaves like a trained one, numerically.

torchvision's own initialization takes seconds and leaves deep networks useless in evaluation mode: activations grow until
one class has all the probability, or shrink until all have the same. Here filters are drawn uniformly with He's variance
and zero mean, so that the answer depends on the picture; normalization statistics and the last layer's scale are then set
from one forward of noise. These are powers of two, so that the rounding of a machine's arithmetic does not show in them,
and equal seeds give equal files.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from dlmodels.zoo.catalog import CLASSES, find
from dlmodels.zoo.skeleton import skeleton

_SCORE_DEVIATION = 3.0  # the most probable of 1000 classes then gets some percent
_NOISE_CELL = 28  # pixels; large enough to survive pooling, as a picture's objects do
_NOISE_IMAGES = 2


def random_weights(architecture: str, seed: int, classes: int = CLASSES) -> dict[str, NDArray[np.generic]]:
    """The state dict of a network. Raises UnknownArchitectureError."""
    side = find(architecture).side
    random = np.random.Generator(np.random.PCG64(seed))
    module = skeleton(architecture, classes).to_empty(device="cpu")
    with torch.inference_mode():
        last = _fill(module, random)
        with _adapting_statistics(module):
            scores = module(_noise(side, random))
        last.weight.mul_(_power_of_two(_SCORE_DEVIATION / float(scores.double().std())))
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def _fill(module: torch.nn.Module, random: np.random.Generator) -> torch.nn.Conv2d | torch.nn.Linear:
    """Give every parameter and buffer a content; returns the last layer with weights."""
    last = None
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            last = part
            part.weight.copy_(torch.from_numpy(_filters(tuple(part.weight.shape), random)))
            if part.bias is not None:
                part.bias.zero_()
        elif isinstance(part, torch.nn.BatchNorm2d):
            part.reset_parameters()  # weight 1, bias 0, mean 0, variance 1
        elif next(part.parameters(recurse=False), None) is not None:
            raise TypeError(f"no rule for the parameters of {type(part).__name__}")
    if last is None:
        raise TypeError("a network without convolutions and linear layers")
    return last


def _filters(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """Uniform with variance 2 / inputs (He et al. 2015), the mean of each filter taken away."""
    inputs = math.prod(shape[1:])
    weights = random.random(math.prod(shape), dtype=np.float32).reshape(shape[0], inputs)
    weights -= weights.mean(axis=1, keepdims=True) if inputs > 1 else np.float32(0.5)
    weights *= np.float32(2 * math.sqrt(6 / inputs))
    return weights.reshape(shape)


def _noise(side: int, random: np.random.Generator) -> torch.Tensor:
    """Pictures of grey and coloured squares, normalized like any picture."""
    cells = -(-side // _NOISE_CELL)
    squares = random.standard_normal((_NOISE_IMAGES, 3, cells, cells), dtype=np.float32)
    return torch.from_numpy(squares.repeat(_NOISE_CELL, 2).repeat(_NOISE_CELL, 3)[:, :, :side, :side].copy())


@contextmanager
def _adapting_statistics(module: torch.nn.Module) -> Iterator[None]:
    """Within it, each normalization takes the variance of what first flows into it."""

    def adapt(part: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(part, torch.nn.BatchNorm2d) and part.running_var is not None:
            part.running_var.fill_(_power_of_two(float(inputs[0].double().std())) ** 2)

    hooks = [part.register_forward_pre_hook(adapt) for part in module.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _power_of_two(value: float) -> float:
    """The nearest one, by ratio."""
    return 2.0 ** round(math.log2(value))
