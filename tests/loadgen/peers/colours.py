# mypy: ignore-errors
# It runs in other environments, whose packages are not in ours.
"""A model that needs nothing but numpy: how near a picture's mean colour is to each of a few colours.

Runs inside the peers' own environments, never in ours; its weights are a file, so that loading it reads something.
"""

import numpy as np

COLOURS = ("black", "white", "red", "green", "blue")
_RGB = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.float32)


def scores(pictures: np.ndarray) -> np.ndarray:
    """(n, height, width, 3) of 0..255 -> (n, 5) that sum to 1, the nearest colour's the largest."""
    means = pictures.reshape(len(pictures), -1, 3).mean(axis=1, dtype=np.float32)
    distances = np.linalg.norm(means[:, None, :] - _RGB[None], axis=2)
    likeness = np.exp(-distances / 64)
    return (likeness / likeness.sum(axis=1, keepdims=True)).astype(np.float32)
