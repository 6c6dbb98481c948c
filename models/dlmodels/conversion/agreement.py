"""Whether two formats of a model give the same answers on real photographs."""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dlmodels.conversion.photographs import photographs
from dlmodels.engines import create_engine
from dlmodels.engines.base import Model
from dlmodels.errors import ConversionError
from dlmodels.images import Planes
from dlmodels.spec import ModelSpec

Answers = NDArray[np.float32]

TOLERANCE = 1e-3
TIE = 1e-4
"""Classes whose probabilities are that close are equally probable: engines add up in other orders (Winograd's convolutions are
4e-5 apart), and with random weights two classes may come closer than that."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What came of a comparison."""

    pictures: int
    same_class: int
    """Pictures whose most probable class is the same, or one of those that are tied for it."""
    largest_difference: float
    """Of any two probabilities."""

    def within(self, tolerance: float) -> bool:
        """Whether the two are one and the same model."""
        return self.same_class == self.pictures and self.largest_difference <= tolerance


def answers(spec: ModelSpec, pictures: Planes | None = None) -> Answers:
    """Probabilities (2 n, classes) of the model's own engine on a CPU: for n photographs one by one, then as a batch.

    Raises ModelError: whatever keeps the engine from starting, the model from loading or from answering.
    """
    batch = photographs(spec.input) if pictures is None else pictures
    engine = create_engine(spec.engine, "cpu", len(os.sched_getaffinity(0)))
    engine.start()
    model = engine.prepare(spec)
    model.load()
    try:
        return answers_of(model, batch)
    finally:
        model.unload()


def answers_of(model: Model, batch: Planes) -> Answers:
    """The same of a loaded model."""
    rows = [model.run(batch[index : index + 1]) for index in range(len(batch))]
    most = model.most_images or len(batch)
    rows += [model.run(batch[begin : begin + most]) for begin in range(0, len(batch), most)]
    return np.concatenate(rows)


def compare(expected: Answers, given: Answers) -> Agreement:
    """Of answers to the same pictures."""
    if expected.shape != given.shape:
        raise ConversionError(f"the answers have the shapes {expected.shape} and {given.shape}: they are other models")
    chosen = np.take_along_axis(expected, given.argmax(axis=1)[:, None], axis=1)[:, 0]
    return Agreement(
        pictures=len(expected),
        same_class=int((chosen >= expected.max(axis=1) - TIE).sum()),
        largest_difference=float(np.abs(expected - given).max()),
    )
