"""No engine that returns before it is done gets a time that is too short: either its time is right, or its point fails."""

import numpy as np
import pytest
from dlclient.bench import measuring
from dlclient.bench.job import Budget, Ended, Job
from dlclient.bench_result import Setting
from dlclient.errors import PointError

from tests.clients.bench import fake_engines
from tests.clients.bench.fake_engines import COMPUTING_S

BUDGET = Budget(warm_up_max_iterations=3, min_iterations=12, max_iterations=12, min_s=0.0, max_s=30.0)


def measured(monkeypatch: pytest.MonkeyPatch, way: str) -> Ended:
    fake_engines.install(monkeypatch, way)
    return measuring.measure(Job(setting=Setting(model="fake", engine="fake"), budget=BUDGET), lambda _: None)


@pytest.mark.parametrize("way", ["honest", "lazy"])
def test_an_answer_is_waited_for_inside_the_clock(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    ended = measured(monkeypatch, way)
    point = ended.point
    assert not point.reasons
    assert len(ended.samples) == point.iterations == 12
    assert min(sample.latency_s for sample in ended.samples) > 0.95 * COMPUTING_S
    assert point.images_per_s is not None
    assert point.images_per_s < 1.05 / COMPUTING_S


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("filled_later", "no table of probabilities"),
        ("same_buffer", "before it is done"),
        ("one_behind", "it mixes answers up"),
        ("late_in_the_end", "otherwise than it answered the same images before the clock"),
    ],
)
def test_an_engine_whose_answer_is_not_there_yet_gets_no_time_at_all(
    monkeypatch: pytest.MonkeyPatch, way: str, said: str
) -> None:
    with pytest.raises(PointError, match=said) as raised:
        measured(monkeypatch, way)
    assert raised.value.kind == "error"
    assert "use another engine" in str(raised.value)


def test_figures_are_not_to_be_trusted_where_all_images_get_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    point = measured(monkeypatch, "constant").point
    assert [reason.code for reason in point.reasons] == ["answers-alike"]
    assert "two or more different images" in point.reasons[0].cure


def test_the_fakes_answer_different_images_differently() -> None:
    images = np.random.default_rng(0).random((2, 3, 16, 16), np.float32) * np.array([[[[1]]], [[[3]]]], np.float32)
    one, other = fake_engines.truth(images)
    assert np.abs(one - other).max() > 0.05
