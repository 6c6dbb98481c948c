"""dlclient.histogram: against all samples, through messages, and at the ends of its range."""

import numpy as np
import pytest
from dlclient.histogram import HIGHEST_S, LOWEST_S, Histogram
from dlclient.statistics import nearest_rank


def filled(seed: int, size: int = 5000) -> tuple[Histogram, list[float]]:
    samples = np.random.default_rng(seed).lognormal(-4, 1, size).tolist()
    histogram = Histogram()
    histogram.record_all(samples)
    return histogram, samples


def test_percentiles_are_within_a_thousandth_of_those_of_all_samples() -> None:
    histogram, samples = filled(1, 20_000)
    for fraction in (0.5, 0.9, 0.99, 0.999):
        assert histogram.percentile_s(fraction) == pytest.approx(nearest_rank(sorted(samples), fraction), rel=1.1e-3)


def test_mean_count_and_largest_are_exact() -> None:
    histogram, samples = filled(2)
    assert histogram.count == 5000
    assert histogram.mean_s == pytest.approx(sum(samples) / 5000, rel=1e-12)
    assert histogram.largest_s == max(samples)


def test_a_percentile_has_the_rank_that_all_samples_have() -> None:
    histogram = Histogram()
    histogram.record_all(number / 1000 for number in range(1, 65))
    assert histogram.percentile_s(0.9) == pytest.approx(0.058, rel=1e-3)  # the rank is 57.6 rounded up


def test_one_by_one_is_the_same_as_all_at_once() -> None:
    histogram, samples = filled(3, 700)
    single = Histogram()
    for sample in samples:
        single.record(sample)
    assert single.mean_s == pytest.approx(histogram.mean_s)
    assert (single.count, single.largest_s, single.clamped) == (histogram.count, histogram.largest_s, histogram.clamped)
    assert [single.percentile_s(fraction) for fraction in (0.5, 0.9, 0.99)] == [
        histogram.percentile_s(fraction) for fraction in (0.5, 0.9, 0.99)
    ]


def test_there_is_no_percentile_under_its_sample_floor() -> None:
    histogram = Histogram()
    histogram.record_all([0.01] * 661)
    assert histogram.percentile_s(0.99) is None
    assert histogram.percentile_s(0.9) == 0.01
    histogram.record(0.01)
    assert histogram.percentile_s(0.99) == 0.01


def test_merged_histograms_are_one_of_all_samples() -> None:
    (one, first), (other, second) = filled(4), filled(5)
    whole = Histogram()
    whole.record_all(first + second)
    one.merge(Histogram.decode(other.encode()))
    one.merge(Histogram())
    assert one.count == whole.count
    assert one.mean_s == pytest.approx(whole.mean_s)
    assert one.largest_s == whole.largest_s
    for fraction in (0.5, 0.9, 0.99):
        assert one.percentile_s(fraction) == whole.percentile_s(fraction)


def test_a_histogram_comes_out_of_a_message_as_it_went_in() -> None:
    histogram, _ = filled(6)
    histogram.record(0.0)
    decoded = Histogram.decode(histogram.encode())
    assert decoded.encode() == histogram.encode()
    assert (decoded.count, decoded.clamped, decoded.mean_s) == (histogram.count, histogram.clamped, histogram.mean_s)
    decoded.record(0.5)
    assert decoded.count == histogram.count + 1


def test_an_empty_histogram_says_nothing_and_travels() -> None:
    empty = Histogram.decode(Histogram().encode())
    assert (empty.count, empty.mean_s, empty.largest_s, empty.percentile_s(0.5)) == (0, None, None, None)
    empty.record_all([])
    empty.merge(filled(7)[0])
    assert empty.count == 5000


def test_values_outside_the_range_count_at_its_ends() -> None:
    histogram = Histogram()
    histogram.record_all([-1.0, 0.0, 1e-7, 4000.0, float("inf")])
    histogram.record(0.0)
    histogram.record(5000.0)
    assert histogram.clamped == (4, 3)
    assert histogram.count == 7
    assert histogram.largest_s == HIGHEST_S
    histogram.record_all([LOWEST_S, HIGHEST_S])
    assert histogram.clamped == (4, 3)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        Histogram().record(float("nan"))
    with pytest.raises(ValueError, match="nan"):
        Histogram().record_all([1.0, float("nan")])
    with pytest.raises(ValueError, match="fraction"):
        Histogram().percentile_s(99)


@pytest.mark.parametrize("cut", [0, 3, 20, 36, 40, 60, 200])
def test_a_message_that_was_cut_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match=r"(?i)histogram"):
        Histogram.decode(filled(8)[0].encode()[:cut])


def test_bytes_of_something_else_are_refused() -> None:
    content = filled(9)[0].encode()
    for other in (b"x" * 500, b"dlh0" + content[4:], content[:36] + b"A" * 400):
        with pytest.raises(ValueError, match=r"(?i)histogram"):
            Histogram.decode(other)
