# mypy: ignore-errors
# It runs in another environment, whose packages are not in ours.
"""The colours as a handler of TorchServe: encoded files in, a JSON object of scores out. It needs no torch model."""

import io

import numpy as np
from colours import COLOURS, scores
from PIL import Image


class Handler:
    """TorchServe calls `initialize` once a worker and `handle` once a batch."""

    def initialize(self, context: object) -> None:
        """Nothing to load."""

    def handle(self, data: list[dict[str, bytes]], context: object) -> list[dict[str, float]]:
        """One object of scores for each request of the batch."""
        files = [one.get("data") or one.get("body") for one in data]
        pictures = np.stack(
            [np.asarray(Image.open(io.BytesIO(file)).convert("RGB").resize((32, 32))) for file in files]
        )
        return [dict(zip(COLOURS, map(float, row), strict=True)) for row in scores(pictures)]
