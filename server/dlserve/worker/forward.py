"""One batch through one model; in parts where the device has no room for all of it."""

import logging

import numpy as np
from dlmodels.engines.base import Batch, Model
from dlmodels.errors import ForwardError, OutOfMemoryError
from numpy.typing import NDArray

log = logging.getLogger(__name__)


def forward(model: Model, inputs: Batch) -> tuple[NDArray[np.float32], int]:
    """Probabilities, float32 (n, classes), and the images of the largest part that ran at once.

    No part has more images than the network takes (`most_images`). Out of memory halves the size of the parts, down to one image, and goes on from where it was.
    Raises OutOfMemoryError when even one image does not fit, ForwardError if the model fails.
    """
    count = len(inputs)
    part = min(count, model.most_images or count)
    largest = 0
    done: list[NDArray[np.float32]] = []
    start = 0
    while start < count:
        chunk = inputs[start : start + part]
        try:
            probabilities = model.run(chunk)
        except OutOfMemoryError as exc:
            if part == 1:
                raise
            part = (part + 1) // 2
            log.warning("model %s: %s; going on with at most %d images at once", model.spec.name, exc, part)
            continue
        if len(probabilities) != len(chunk):
            raise ForwardError(
                f"model {model.spec.name!r} answered {len(probabilities)} rows for {len(chunk)} images:"
                " its network mixes or drops images; export it with a free batch dimension"
            )
        done.append(probabilities)
        largest = max(largest, len(chunk))
        start += len(chunk)
    return (done[0] if len(done) == 1 else np.concatenate(done)), largest
