"""dlload.mixes: weights, and how they move."""

import random
from collections import Counter

import pytest
from dlload.errors import OptionError
from dlload.mixes import read_mix

SERVICES = ("a", "b", "c")


@pytest.mark.parametrize(
    ("mix", "weights"),
    [
        ("uniform", {"a": 1.0, "b": 1.0, "c": 1.0}),
        ("zipf:1", {"a": 1.0, "b": 1 / 2, "c": 1 / 3}),
        ("zipf:2", {"a": 1.0, "b": 1 / 4, "c": 1 / 9}),
        ("zipf:0", {"a": 1.0, "b": 1.0, "c": 1.0}),
        ("a=3,b=1,c=0", {"a": 3.0, "b": 1.0, "c": 0.0}),
        (" c = 1 , a=2, b=0.5", {"a": 2.0, "b": 0.5, "c": 1.0}),
    ],
)
def test_a_mix_means_these_weights(mix: str, weights: dict[str, float]) -> None:
    assert dict(zip(SERVICES, read_mix(mix, SERVICES).weights, strict=True)) == pytest.approx(weights)


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ("even", "uniform, zipf:S"),
        ("zipf", "uniform, zipf:S"),
        ("zipf:", "exponent"),
        ("zipf:-1", "exponent"),
        ("zipf:nan", "exponent"),
        ("a=1,b=1", "no weight for c"),
        ("a=1,b=1,c=1,d=1", "d: not among the services a, b, c"),
        ("a=1,b=x,c=1", "the weight of b must be a number"),
        ("a=1,b=-2,c=1", "the weight of b must be a number"),
        ("a=1,a=2,b=1,c=1", "a is there twice"),
        ("a=1,,b=1", "is no weight"),
        ("a=0,b=0,c=0", "all weights are 0"),
        ("drift:1", "how often the ranking moves on"),
        ("drift:1:0", "how often the ranking moves on"),
        ("drift:x:2", "exponent after drift"),
    ],
)
def test_a_mix_that_cannot_be_used_says_why(mix: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        read_mix(mix, SERVICES)


def test_drift_moves_the_ranking_on_at_equal_distances() -> None:
    chooser = read_mix("drift:2:2", SERVICES).chooser(90)
    assert [chooser.choose(index, 0.0) for index in (0, 29, 30, 59, 60, 89)] == ["a", "a", "b", "b", "c", "c"]


def test_drift_asks_every_service_alike_in_the_end() -> None:
    draws = random.Random(1)
    chooser = read_mix("drift:1.1:2", SERVICES).chooser(30_000)
    counts = Counter(chooser.choose(index, draws.random()) for index in range(30_000))
    assert all(count / 30_000 == pytest.approx(1 / 3, abs=0.015) for count in counts.values())
