"""From a row of probabilities to the classes of an answer: pure."""

import math

import numpy as np
from dlmodels.errors import ForwardError
from numpy.typing import NDArray

_FEW = 10
Classes = tuple[tuple[int, float], ...]
"""(class index, probability) pairs, most probable first."""


def best_classes(probabilities: NDArray[np.float32], best: int, threshold: float) -> Classes:
    """The `best` most probable classes of one row (all if negative), less those below `threshold`.

    Among equals the lower index comes first. Raises ForwardError if the row holds NaN: it has no order then.
    """
    # Methods in place of numpy's functions: those cost more than the work on a row of 1,000 classes.
    size = probabilities.size
    count = size if best < 0 else min(best, size)
    if 0 < count <= _FEW:
        return _few_classes(probabilities.copy(), count, threshold)
    if math.isnan(probabilities.max(initial=0.0)):
        raise _not_a_number()
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


def _few_classes(left: NDArray[np.float32], count: int, threshold: float) -> Classes:
    """The same for a few classes, which are quicker taken out one by one. Overwrites `left`."""
    classes: list[tuple[int, float]] = []
    floor = float(np.float32(threshold)) if threshold else 0.0  # compared as what the probabilities are
    for _ in range(count):
        index = int(left.argmax())  # of equals the first; NaN before all else
        probability = left.item(index)
        if math.isnan(probability):
            raise _not_a_number()
        if probability < floor:
            break
        classes.append((index, probability))
        left[index] = -math.inf
    return tuple(classes)


def _not_a_number() -> ForwardError:
    return ForwardError(
        "the network answered NaN, which is no probability: check its weights and the input's mean, scale and std"
    )
