"""dlload.curve: the knee of curves with and without a bend."""

import numpy as np
import pytest
from dlload.curve import curve_point, knee
from dlload.standing import Figures

from .queueing import response_percentile


def test_a_point_tells_whether_the_target_kept_up() -> None:
    point = curve_point(100.0, Figures(100, 0, 1.0, 96.0, np.full(100, 0.02)), meets=True)
    assert (point.rate_per_s, point.requests, point.p50_s) == (100.0, 100, 0.02)
    assert point.mean_s == pytest.approx(0.02)
    assert point.kept_up
    assert not curve_point(100.0, Figures(100, 0, 1.0, 94.0, np.full(100, 0.02)), meets=False).kept_up
    assert not curve_point(100.0, Figures(100, 100, 1.0, 0.0, []), meets=False).kept_up


def test_the_knee_of_a_queue_is_where_the_latency_turns_up() -> None:
    rates = [20.0 * step for step in range(1, 10)] + [190.0, 195.0]
    curve = [(rate, response_percentile(0.9, rate, 0.01, 2)) for rate in rates]
    found = knee(curve)
    assert found is not None
    assert 160 <= found <= 190


@pytest.mark.parametrize(
    "curve",
    [
        [],
        [(float(rate), 0.01) for rate in range(1, 10)],  # level
        [(float(rate), 0.01 * rate) for rate in range(1, 10)],  # a straight line
        [(float(rate), 1 - 0.5**rate) for rate in range(1, 10)],  # bends the other way
        [(1.0, 0.01), (2.0, 0.01), (3.0, 0.01), (4.0, 1.0)],  # too few points
    ],
)
def test_a_curve_without_a_bend_has_no_knee(curve: list[tuple[float, float]]) -> None:
    assert knee(curve) is None
