"""dlclient.bench.compatible: the figures of others, against values computed by hand."""

import pytest
from dlclient.bench import compatible

TIMES_S = [0.010] * 9 + [0.012] * 9 + [0.020, 0.100]
"""Mean 0.0159; squares of the distances from it: 9 * 3.481e-5 + 9 * 1.521e-5 + 1.681e-5 + 7.07281e-3 = 7.5398e-3; of the
population that is a deviation of sqrt(7.5398e-3 / 20) = 0.019416, so that [-0.0423, 0.0741] is kept: all but the last."""


def test_dlis_filter_drops_what_is_beyond_three_deviations_of_the_population() -> None:
    assert compatible.within_three_sigma(TIMES_S) == TIMES_S[:-1]


def test_dlis_figures_of_synchronous_iterations_are_as_computed_by_hand() -> None:
    found = compatible.dli_latency_mode(TIMES_S, 4)
    # 9 * 10 + 9 * 12 + 20 = 218 ms in 19 kept iterations, the middle one of which took 12 ms; 20 iterations were run
    assert found == pytest.approx(
        {"dli_average_s": 0.218 / 19, "dli_latency_s": 0.012, "dli_batch_fps": 4 / 0.012, "dli_fps": 4 * 20 / 0.218}
    )


def test_an_even_number_of_times_has_its_median_between_two() -> None:
    assert compatible.dli_latency_mode([0.01, 0.02, 0.03, 0.04], 1)["dli_latency_s"] == pytest.approx(0.025)


def test_a_time_at_exactly_three_deviations_is_kept() -> None:
    # nine zeros and one 10: mean 1, deviation of the population 3, so that 10 is just within 1 + 3 * 3
    assert compatible.within_three_sigma([0.0] * 9 + [10.0]) == [0.0] * 9 + [10.0]


def test_dlis_figures_of_asynchronous_iterations_are_of_the_wall_time() -> None:
    assert compatible.dli_throughput_mode(50, 2.0, 8) == {"dli_average_s": 0.04, "dli_fps": 200.0}


def test_deepdetects_figure_is_the_mean_over_all_passes_by_the_batch_size() -> None:
    # 28 + 30 + 29 + 33 + 30 ms of head.time are a mean of 30 ms; 4 images each
    found = compatible.deepdetect([0.028, 0.030, 0.029, 0.033, 0.030], 4)
    assert found == {"deepdetect_mean_s_per_image": pytest.approx(0.0075)}
    assert compatible.deepdetect(TIMES_S, 1)["deepdetect_mean_s_per_image"] == pytest.approx(0.0159)


def test_nothing_gives_no_figures() -> None:
    assert compatible.within_three_sigma([]) == []
    assert compatible.dli_latency_mode([], 1) == compatible.dli_throughput_mode(0, 0.0, 1) == {}
    assert compatible.deepdetect([], 1) == {}


def test_times_that_are_all_alike_are_all_kept() -> None:
    assert len(compatible.within_three_sigma([0.1] * 7)) == 7
