"""Whether an answer is complete when an engine returns it: what keeps an asynchronous one from looking fast.

Inside the clock every answer is brought to the host, as a NumPy array, and checked: its shape, that each row is made of
probabilities, and that the last row is the one that the same images got before the clock (by the few numbers in which it differs
most from those of the other batches). A row that is still on its way is something else: zeros, or the answer to the images
before it. So there must be several batches, in turn, whose answers differ.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep

import numpy as np
from numpy.typing import NDArray

from dlclient.errors import PointError
from dlclient.results import Reason

Rows = NDArray[np.float32]

SUM_TOLERANCE = 0.02
"""Of a row's sum from 1: a softmax rounded to 16 bits adds up to less than that."""

NOISE_TOLERANCE = 0.02
"""As a part of the largest probability: answers to the same images that are further apart than that are no rounding."""

CLEAR = 8.0
"""How many times further apart answers to different images must be than those to the same ones, to be told apart."""

_LEAST_WAIT_S = 0.1
_MOST_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One number of an answer by which it is told from that to another batch."""

    place: int
    """In the answer, row by row."""
    expected: float
    tolerance: float


@dataclass(slots=True, eq=False)
class Batch:
    """What is inferred at once, and what is known of its answer."""

    data: object
    images: int
    probes: tuple[Probe, ...] = ()
    """In the last row; none: nothing is known yet."""


def materialized(answer: object, images: int, classes: int) -> Rows:
    """The answer on the host, (images, classes): waits for what is not there yet. Raises PointError where it is no such thing."""
    rows = np.asarray(answer, dtype=np.float32)
    if rows.shape != (images, classes):
        raise PointError(
            f"the engine answered {images} images with an array of shape {rows.shape}, where ({images}, {classes}) is due:"
            " correct the model's number of classes, or report the engine's defect",
            kind="error",
        )
    return rows


def check(rows: Rows, batch: Batch, *, independent: bool = False) -> None:
    """Raise PointError unless these are complete answers to the batch. `independent`: classes do not exclude each other."""
    if independent:
        good = bool(rows.min() >= 0 and rows.max() <= 1)  # false for NaN
    else:
        sums = np.add.reduce(rows, axis=1)
        least, most = (sums[0], sums[0]) if len(sums) == 1 else (sums.min(), sums.max())
        good = bool(least > 1 - SUM_TOLERANCE and most < 1 + SUM_TOLERANCE)  # false for NaN, too
    if not good:
        raise PointError(
            "the engine returned something that is no table of probabilities: it had not finished when it returned, or it is"
            " broken. No time was taken from it; make it wait for its result, or use another engine",
            kind="error",
        )
    for probe in batch.probes:
        if not abs(rows.item(probe.place) - probe.expected) <= probe.tolerance:
            raise PointError(
                "the engine answered otherwise than it answered the same images before the clock: it returns before it is done, or"
                " it mixes answers up. No time was taken from it; make it wait for its result, or use another engine",
                kind="error",
            )


def learn(batches: Sequence[Batch], infer: Callable[[Batch], Rows]) -> tuple[Reason, ...]:
    """Find out what each batch's last row is, one batch at a time and without haste, and write it into the batch.

    `infer` gives checked rows, perhaps in memory that it uses again. Each batch is inferred twice, the second time in reverse
    order, so that an engine that answers each with what belonged to the one before is found out. Returns why a late answer
    could not be told from one in time. Raises PointError where an answer changed after it was returned, or between the two.
    """
    firsts = [_settled(infer, batch) for batch in batches]
    noise = 0.0
    for batch, first in zip(reversed(batches), reversed(firsts), strict=True):
        noise = max(noise, float(np.abs(infer(batch)[-1] - first).max()))
    if noise > NOISE_TOLERANCE * max(float(first.max()) for first in firsts):
        raise PointError(
            f"the engine answered the same images twice, with probabilities up to {noise:.2g} apart: it returns before it is"
            " done, or it mixes answers up. Make it wait for its result, or use another engine",
            kind="error",
        )
    for batch, first in zip(batches, firsts, strict=True):
        batch.probes = tuple(_probes(batch, first, firsts, noise))
    difference = _smallest_difference(firsts)
    if len(batches) < 2 or difference > CLEAR * noise:
        return ()
    return (
        Reason(
            "answers-alike",
            f"the answers to different images are {difference:.2g} apart, those to the same images up to {noise:.2g}: whether"
            " each was complete when it was returned could not be checked",
            "measure with weights that tell images apart (dlmodels build --pretrained), or with two or more different images",
        ),
    )


def _settled(infer: Callable[[Batch], Rows], batch: Batch) -> Rows:
    """A copy of a batch's last row. Raises PointError where the answer changes after it was returned."""
    began = perf_counter()
    rows = infer(batch)
    took_s = perf_counter() - began
    kept = rows.copy()
    sleep(min(max(2 * took_s, _LEAST_WAIT_S), _MOST_WAIT_S))
    if not np.array_equal(kept, rows):
        raise PointError(
            "the engine's answer changed after the engine had returned it: it returns before it is done. Make it wait for its"
            " result, or use another engine",
            kind="error",
        )
    last: Rows = kept[-1].copy()
    return last


def _probes(batch: Batch, own: Rows, others: Sequence[Rows], noise: float) -> Iterator[Probe]:
    """For each other batch the number in which both answers differ most, where that is clear."""
    start = (batch.images - 1) * len(own)
    found: dict[int, float] = {}
    for other in others:
        differences = np.abs(own - other)
        place = int(differences.argmax())
        if differences[place] > CLEAR * noise:
            found[place] = min(float(differences[place]) / 2, found.get(place, 1.0))
    for place, tolerance in found.items():
        yield Probe(start + place, float(own[place]), tolerance)


def _smallest_difference(rows: Sequence[Rows]) -> float:
    """Of neighbouring rows, in a circle as the batches take turns: the largest difference of a probability, the least over all."""
    if len(rows) < 2:
        return 0.0
    return min(float(np.abs(row - rows[place - 1]).max()) for place, row in enumerate(rows))
