"""dlclient.bench.answers: what counts as a complete answer, and when a late one can be told."""

import re

import numpy as np
import pytest
from dlclient.bench import answers
from dlclient.bench.answers import Batch, Rows
from dlclient.errors import PointError


def rows(*values: list[float]) -> Rows:
    return np.array(values, np.float32)


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(PointError, match=re.escape("shape (1, 3), where (2, 3) is due")):
        answers.materialized(rows([1, 0, 0]), 2, 3)


@pytest.mark.parametrize("row", [[0, 0, 0], [0.5, 0.4, 0.0], [np.nan, 0.5, 0.5], [np.inf, 0, 0], [0.6, 0.5, 0.0]])
def test_rows_that_are_no_probabilities_are_refused_wherever_they_stand(row: list[float]) -> None:
    good = [0.2, 0.3, 0.5]
    answers.check(rows(good, good), Batch(None, 2))
    for wrong in (rows(row, good), rows(good, row)):
        with pytest.raises(PointError, match="had not finished when it returned"):
            answers.check(wrong, Batch(None, 2))


def test_independent_classes_need_not_add_up() -> None:
    answers.check(rows([0.9, 0.9, 0.0]), Batch(None, 1), independent=True)
    for wrong in ([1.5, 0, 0], [np.nan, 0, 0], [-0.1, 0, 0]):
        with pytest.raises(PointError, match="no table of probabilities"):
            answers.check(rows(wrong), Batch(None, 1), independent=True)


def test_the_last_row_is_held_against_what_was_learnt() -> None:
    truths = {"a": rows([0.7, 0.2, 0.1]), "b": rows([0.2, 0.7, 0.1]), "c": rows([0.1, 0.2, 0.7])}
    batches = [Batch(name, 1) for name in truths]
    assert answers.learn(batches, lambda batch: truths[str(batch.data)]) == ()
    for batch in batches:
        answers.check(truths[str(batch.data)], batch)
    with pytest.raises(PointError, match="otherwise than it answered the same images"):
        answers.check(truths["b"], batches[0])


def test_rounding_is_no_other_answer() -> None:
    random = np.random.default_rng(0)
    truths = {"a": rows([0.7, 0.2, 0.1]), "b": rows([0.2, 0.7, 0.1])}

    def infer(batch: Batch) -> Rows:
        return truths[str(batch.data)] + random.normal(0, 1e-4, 3).astype(np.float32)

    batches = [Batch(name, 1) for name in truths]
    assert answers.learn(batches, infer) == ()
    for batch in batches * 50:
        answers.check(infer(batch), batch)


def test_answers_that_differ_no_more_than_by_chance_cannot_be_checked() -> None:
    random = np.random.default_rng(0)
    batches = [Batch(name, 1) for name in "ab"]
    (reason,) = answers.learn(batches, lambda _: rows([0.4, 0.3, 0.3]) + random.normal(0, 1e-4, 3).astype(np.float32))
    assert reason.code == "answers-alike"


def test_an_answer_that_is_another_the_second_time_is_refused() -> None:
    turns = iter([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1]])
    with pytest.raises(PointError, match="answered the same images twice, with probabilities up to "):
        answers.learn([Batch("a", 1), Batch("b", 1)], lambda _: rows(next(turns)))
