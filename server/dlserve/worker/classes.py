"""From a row of probabilities to the classes of an answer: pure."""

import math

import numpy as np
from dlmodels.errors import ForwardError
from numpy.typing import NDArray

Classes = tuple[tuple[int, float], ...]
"""(class index, probability) pairs, most probable first."""


def best_classes(probabilities: NDArray[np.float32], best: int, threshold: float) -> Classes:
    """The `best` most probable classes of one row (all if negative), less those below `threshold`.

    Among equals the lower index comes first. Raises ForwardError if the row holds NaN: it has no order then.
    """
    # Methods in place of numpy's functions: those cost more than the work on a row of 1,000 classes.
    size = probabilities.size
    count = size if best < 0 else min(best, size)
    if math.isnan(probabilities.max(initial=0.0)):
        raise ForwardError(
            "the network answered NaN, which is no probability: check its weights and the input's mean, scale and std"
        )
    if count == 0:
        return ()
    floor = threshold
    if count < size:
        parted = probabilities.copy()
        parted.partition(size - count)
        floor = max(float(parted[size - count]), threshold)
    indices = (probabilities >= floor).nonzero()[0]
    values = probabilities[indices]
    order = (-values).argsort(kind="stable")[:count]
    return tuple(zip(indices[order].tolist(), values[order].tolist(), strict=True))
