"""From probabilities to classes."""

import random

import numpy as np
import pytest
from dlmodels.errors import ForwardError
from dlserve.worker.classes import best_classes


def row(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A row as an engine returns it."""
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("values", "best", "threshold", "indices"),
    [
        pytest.param((0.1, 0.6, 0.3), 1, 0.0, [1], id="the best one"),
        pytest.param((0.1, 0.6, 0.3), 2, 0.0, [1, 2], id="descending"),
        pytest.param((0.1, 0.6, 0.3), 3, 0.0, [1, 2, 0], id="exactly all"),
        pytest.param((0.1, 0.6, 0.3), 99, 0.0, [1, 2, 0], id="more than there are"),
        pytest.param((0.1, 0.6, 0.3), -1, 0.0, [1, 2, 0], id="minus one is all"),
        pytest.param((0.1, 0.6, 0.3), 0, 0.0, [], id="none asked for"),
        pytest.param((0.1, 0.6, 0.3), -1, 0.3, [1, 2], id="the threshold itself is kept"),
        pytest.param((0.1, 0.6, 0.3), 2, 0.9, [], id="nothing reaches the threshold"),
        pytest.param((0.2, 0.2, 0.4, 0.2), 2, 0.0, [2, 0], id="among equals the lower index"),
        pytest.param((0.25, 0.25, 0.25, 0.25), 3, 0.0, [0, 1, 2], id="all equal"),
        pytest.param((1.0,), 5, 0.0, [0], id="one class"),
        pytest.param((0.0, 0.0, 0.0), 2, 0.0, [0, 1], id="zeros"),
    ],
)
def test_best_classes_follow_the_table(
    values: tuple[float, ...], best: int, threshold: float, indices: list[int]
) -> None:
    found = best_classes(row(*values), best, threshold)
    assert [index for index, _ in found] == indices
    assert [value for _, value in found] == [np.float32(values[index]) for index in indices]


def test_the_best_of_random_rows_are_those_of_a_full_sort() -> None:
    generator, draws = np.random.default_rng(1), random.Random(1)
    for _ in range(200):
        size = draws.randint(1, 300)
        values = generator.integers(0, 40, size).astype(np.float32) / 40  # many equal
        best, threshold = draws.randint(-1, size + 3), draws.choice([0.0, 0.3, 0.9])
        everything = sorted(enumerate(values.tolist()), key=lambda pair: (-pair[1], pair[0]))
        wanted = [pair for pair in everything[: best if best >= 0 else None] if pair[1] >= np.float32(threshold)]
        assert list(best_classes(values, best, threshold)) == wanted


def test_the_answer_is_plain_numbers_for_the_wire() -> None:
    ((index, value),) = best_classes(row(0.1, 0.9), 1, 0.0)
    assert type(index) is int
    assert type(value) is float


@pytest.mark.parametrize("best", [0, 1, -1])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_nan_is_an_error_and_never_an_answer(place: int, best: int) -> None:
    values = [0.2, 0.3, 0.5]
    values[place] = float("nan")
    with pytest.raises(ForwardError, match="NaN"):
        best_classes(row(*values), best, 0.0)
