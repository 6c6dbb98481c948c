"""What random weights are made of, whatever framework they are for: filters, pictures of noise, powers of two."""

import math

import numpy as np
from numpy.typing import NDArray

from dlmodels.images import InputSpec

SCORE_DEVIATION = 3.0
"""Of the last layer's output: the most probable of 1000 classes then gets some percent."""

BRANCH_SCALE = 0.25
"""Of what a residual branch adds to its shortcut. Training makes it small too; at 1 each block enlarges rounding errors: those of
ResNet-152 a thousandfold, so that frameworks would disagree by more than 1e-3."""
_NOISE_CELL = 28  # pixels; large enough to survive pooling, as a picture's objects do
_NOISE_IMAGES = 2
_PIXEL_DEVIATION = 58.0  # of ImageNet's bytes: 0.226 x 255


def draw_filters(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """Uniform with variance 2 / inputs (He et al. 2015), the mean of each filter taken away; `shape` is (out, in, ...)."""
    inputs = math.prod(shape[1:])
    weights = random.random(math.prod(shape), dtype=np.float32).reshape(shape[0], inputs)
    weights -= weights.mean(axis=1, keepdims=True) if inputs > 1 else np.float32(0.5)
    weights *= np.float32(2 * math.sqrt(6 / inputs))
    return weights.reshape(shape)


def draw_noise(spec: InputSpec, random: np.random.Generator) -> NDArray[np.float32]:
    """(2, 3, height, width): coloured squares, about as far from 0 as a picture is with the network's preprocessing."""
    cells = -(-spec.width // _NOISE_CELL)
    squares = random.standard_normal((_NOISE_IMAGES, 3, cells, cells), dtype=np.float32)
    squares *= np.float32(power_of_two(_PIXEL_DEVIATION * spec.scale / float(np.mean(spec.std or (1.0,)))))
    side = spec.width
    return squares.repeat(_NOISE_CELL, 2).repeat(_NOISE_CELL, 3)[:, :, :side, :side].copy()


def power_of_two(value: float) -> float:
    """The nearest one, by ratio: multiplying by it rounds nothing, so equal seeds give equal files on every machine."""
    return 2.0 ** round(math.log2(value))
