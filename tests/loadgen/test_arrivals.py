"""dlload.arrivals: due times have the rate, the spread and the distribution that were asked for."""

import math
import random
import statistics
from bisect import bisect
from collections import Counter
from itertools import pairwise

import pytest
from dlload import arrivals
from dlload.arrivals import Course, Piece, due_times, looped, read_course, read_gaps, read_intervals, read_mmpp
from dlload.errors import OptionError
from scipy import stats


def draw(
    rate: str,
    process: str = "poisson",
    *,
    requests: int | None = None,
    seconds: float | None = None,
    step_s: float = 1.0,
    seed: int = 1,
) -> list[float]:
    return due_times(read_course(rate, step_s), process, random.Random(seed), requests=requests, seconds=seconds)


def gaps(due: list[float]) -> list[float]:
    return [after - before for before, after in pairwise([0.0, *due])]


def variation(numbers: list[float]) -> float:
    """Coefficient of variation."""
    return statistics.pstdev(numbers) / statistics.fmean(numbers)


def counts(due: list[float], width_s: float, windows: int) -> list[int]:
    """Requests in each window (k * width, (k + 1) * width]."""
    found = Counter(math.ceil(time_s / width_s - 1e-9) - 1 for time_s in due)
    return [found[window] for window in range(windows)]


@pytest.mark.parametrize(
    ("text", "step_s", "pieces"),
    [
        ("200", 1.0, [Piece(math.inf, 200, 200)]),
        ("0.5", 1.0, [Piece(math.inf, 0.5, 0.5)]),
        ("10:30:10", 5.0, [Piece(5, 10, 10), Piece(5, 20, 20), Piece(5, 30, 30)]),
        ("10:35:10", 5.0, [Piece(5, 10, 10), Piece(5, 20, 20), Piece(5, 30, 30)]),
        ("30:10:10", 5.0, [Piece(5, 30, 30), Piece(5, 20, 20), Piece(5, 10, 10)]),
        ("10:10:5", 5.0, [Piece(5, 10, 10)]),
        ("10..200/60", 1.0, [Piece(60, 10, 200)]),
        ("200..10/0.5", 1.0, [Piece(0.5, 200, 10)]),
    ],
)
def test_a_rate_means_this_course(text: str, step_s: float, pieces: list[Piece]) -> None:
    assert read_course(text, step_s) == Course(tuple(pieces))


def test_a_staircase_of_tenths_has_its_last_step() -> None:
    assert [piece.first for piece in read_course("0.1:0.9:0.1", 1.0).pieces] == pytest.approx(
        [number / 10 for number in range(1, 10)]
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "'fast' is no number of requests per second above 0"),
        ("0", "above 0"),
        ("-3", "above 0"),
        ("nan", "above 0"),
        ("inf", "above 0"),
        ("1000001", "up to 1,000,000"),
        ("10..200", r"a ramp needs its length, such as 10..200/60"),
        ("10..200/", "no number of seconds above 0"),
        ("10..200/0", "no number of seconds above 0"),
        ("0..200/10", "'0' is no number of requests per second"),
        ("10..x/10", "'x' is no number of requests per second"),
        ("10:20", "a staircase is FIRST:LAST:STEP"),
        ("10:20:5:1", "a staircase is FIRST:LAST:STEP"),
        ("10:20:0", "'0' is no number"),
        ("10:20:-5", "'-5' is no number"),
        ("1:2000:1", "2000 steps; take a larger STEP"),
    ],
)
def test_a_rate_that_is_none_says_why(text: str, says: str) -> None:
    with pytest.raises(OptionError, match=says) as caught:
        read_course(text, 1.0)
    assert str(caught.value).startswith(f"--rate {text}: ")


@pytest.mark.parametrize(
    ("piece", "requests", "seconds"),
    [
        (Piece(math.inf, 4, 4), 8, 2.0),
        (Piece(10, 5, 5), 0, 0.0),
        (Piece(10, 0, 10), 50, 10.0),  # t**2 / 2
        (Piece(10, 0, 10), 12.5, 5.0),
        (Piece(10, 10, 0), 50, 10.0),  # 10 t - t**2 / 2
        (Piece(10, 10, 0), 37.5, 5.0),
        (Piece(1, 100, 100 + 1e-9), 50, 0.5),
    ],
)
def test_a_piece_knows_when_so_many_are_expected(piece: Piece, requests: float, seconds: float) -> None:
    assert piece.when(requests) == pytest.approx(seconds, abs=1e-7)


def test_a_piece_expects_its_area() -> None:
    assert Piece(10, 5, 15).requests == 100
    assert math.isinf(Piece(math.inf, 1, 1).requests)


@pytest.mark.parametrize(
    ("course", "seconds", "pieces"),
    [
        ("50", 3.0, [Piece(3, 50, 50)]),
        ("10:30:10", 1.5, [Piece(1, 10, 10), Piece(0.5, 20, 20)]),
        ("10:30:10", 2.0, [Piece(1, 10, 10), Piece(1, 20, 20)]),
        ("10:30:10", 9.0, [Piece(1, 10, 10), Piece(1, 20, 20), Piece(1, 30, 30)]),
        ("10..30/10", 5.0, [Piece(5, 10, 20)]),
        ("10", 0.0, []),
    ],
)
def test_a_course_can_be_cut(course: str, seconds: float, pieces: list[Piece]) -> None:
    assert read_course(course, 1.0).cut(seconds) == Course(tuple(pieces))


def test_times_of_rate_1_are_laid_on_the_course_and_end_with_it() -> None:
    course = Course((Piece(2, 1, 1), Piece(2, 4, 4)))
    assert list(arrivals.rescaled(course.pieces, map(float, range(1, 30)))) == pytest.approx(
        [1, 2, 2.25, 2.5, 2.75, 3, 3.25, 3.5, 3.75, 4]
    )


def test_poisson_gaps_are_exponential() -> None:
    found = gaps(draw("100", requests=20_000))
    assert statistics.fmean(found) == pytest.approx(0.01, rel=0.03)
    assert variation(found) == pytest.approx(1.0, rel=0.03)
    assert stats.kstest(found, "expon", args=(0, 0.01)).pvalue > 0.01
    assert abs(statistics.correlation(found[:-1], found[1:])) < 0.03, "no gap tells of the next one"


def test_constant_gaps_are_all_alike() -> None:
    assert draw("8", "constant", requests=4) == [0.125, 0.25, 0.375, 0.5]


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_gamma_gaps_have_their_mean_and_their_coefficient_of_variation(spread: float) -> None:
    found = gaps(draw("100", f"gamma:{spread}", requests=50_000))
    assert statistics.fmean(found) == pytest.approx(0.01, rel=4 * spread / math.sqrt(50_000) + 1e-3)
    assert variation(found) == pytest.approx(spread, rel=0.08)


def test_gamma_of_1_is_poisson_in_distribution() -> None:
    assert stats.kstest(gaps(draw("1", "gamma:1", requests=20_000)), "expon").pvalue > 0.01


def test_a_burst_comes_at_once_and_then_nothing_until_the_next() -> None:
    assert draw("10", "burst:3", requests=8) == pytest.approx([0.3] * 3 + [0.6] * 3 + [0.9] * 2)
    assert draw("10", "burst:1", requests=3) == draw("10", "constant", requests=3)


def test_mmpp_has_its_mean_rate_and_comes_in_clumps() -> None:
    seconds, states = 4000, "mmpp:10:1:4"
    # the mean over a draw has a standard deviation of about 2 %: 800 cycles of states
    rates = [len(draw("100", states, seconds=seconds, seed=seed)) / seconds for seed in range(1, 4)]
    assert statistics.fmean(rates) == pytest.approx(100, rel=0.06)
    clumps = counts(draw("100", states, seconds=seconds), 1.0, seconds)
    # index of dispersion of counts: 1 for Poisson; here the rate itself is 36 or 357 per second
    assert statistics.pvariance(clumps) / statistics.fmean(clumps) > 20
    even = counts(draw("100", seconds=seconds), 1.0, seconds)
    assert statistics.pvariance(even) / statistics.fmean(even) == pytest.approx(1.0, abs=0.15)


def test_mmpp_with_equal_rates_is_poisson() -> None:
    assert stats.kstest(gaps(draw("1", "mmpp:1:1:4", requests=10_000)), "expon").pvalue > 0.01


def test_mmpp_sends_all_its_requests_however_long_it_stays_calm() -> None:
    assert len(draw("100", "mmpp:100000:1:100000", requests=300)) == 300


@pytest.mark.parametrize("process", ["poisson", "constant", "gamma:2", "burst:4", "mmpp:5:1:1"])
def test_due_times_ascend_are_whole_microseconds_and_come_again_with_their_seed(process: str) -> None:
    due = draw("500", process, requests=2000)
    assert due == sorted(due)
    assert all(time_s == round(time_s, 6) for time_s in due)
    assert due == draw("500", process, requests=2000)
    assert due[:500] == draw("500", process, requests=500), "a shorter one is the beginning of a longer one"
    if process not in {"constant", "burst:4"}:
        assert due != draw("500", process, requests=2000, seed=2)


def test_each_step_of_a_staircase_has_its_requests() -> None:
    assert counts(draw("10:50:10", "constant", step_s=2.0), 2.0, 5) == [20, 40, 60, 80, 100]
    found = counts(draw("1000:5000:1000", step_s=2.0), 2.0, 5)
    for number, expected in zip(found, (2000, 4000, 6000, 8000, 10_000), strict=True):
        assert number == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_a_ramp_rises_evenly() -> None:
    due = draw("10..200/60", "constant")
    assert len(due) == 6300
    # up to t seconds there are 10 t + 190 / 60 * t**2 / 2
    for seconds in (10, 30, 50):
        assert bisect(due, seconds) == pytest.approx(10 * seconds + 190 / 60 * seconds**2 / 2, abs=1)
    assert len(draw("1000..10/10")) == pytest.approx(5050, abs=4 * math.sqrt(5050))


@pytest.mark.parametrize(
    ("rate", "requests", "seconds", "count"),
    [
        ("10", 7, None, 7),
        ("10", None, 2.0, 20),
        ("100", None, 0.29, 29),  # 0.29 * 100 is a little less than 29
        ("10", 7, 2.0, 7),
        ("10", 100, 2.0, 20),
        ("10:20:10", None, None, 30),
        ("10:20:10", 15, None, 15),
        ("10:20:10", None, 1.5, 20),
        ("10", None, 0.05, 0),
    ],
)
def test_a_schedule_ends_by_whatever_comes_first(
    rate: str, requests: int | None, seconds: float | None, count: int
) -> None:
    assert len(draw(rate, "constant", requests=requests, seconds=seconds)) == count


def test_a_schedule_without_an_end_is_refused() -> None:
    with pytest.raises(OptionError, match="give --requests or --duration"):
        draw("10")


@pytest.mark.parametrize("process", ["poisson", "burst:5000000", "mmpp:10:0.001:0.001"])
def test_a_schedule_that_would_not_fit_into_memory_is_refused(process: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "MOST_REQUESTS", 2000)
    if process.startswith("burst"):
        process = "burst:2000"
    with pytest.raises(OptionError, match="more than 2,000 requests a phase"):
        draw("1000000", process, seconds=1e6)
    with pytest.raises(OptionError, match="more than 2,000 requests a phase"):
        looped((1,), seconds=1e6)


@pytest.mark.parametrize(
    ("process", "says"),
    [
        ("even", "not an arrival process; use poisson, constant, gamma:CV"),
        ("Poisson", "not an arrival process"),
        ("poisson:2", "not an arrival process"),
        ("", "not an arrival process"),
        ("gamma", "coefficient of variation must be a number above 0, not ''"),
        ("gamma:0", "coefficient of variation must be a number above 0"),
        ("gamma:nan", "coefficient of variation must be a number above 0"),
        ("burst", "whole number of 1 or more"),
        ("burst:0", "whole number of 1 or more"),
        ("burst:2.5", "whole number of 1 or more"),
        ("burst:5000001", "up to 5,000,000"),
        ("burst:" + "9" * 5000, "up to 5,000,000"),
        ("mmpp", "write mmpp:RATIO:BUSY_S:CALM_S"),
        ("mmpp:10:1", "write mmpp:RATIO:BUSY_S:CALM_S"),
        ("mmpp:x:1:4", "the ratio of the rates must be a number above 0, not 'x'"),
        ("mmpp:10:0:4", "the mean busy time must be a number above 0"),
        ("mmpp:10:1:-4", "the mean calm time must be a number above 0"),
        ("mmpp:10:1:0.0001", "must be 0.001 s or more"),
    ],
)
def test_arrivals_that_are_none_say_why(process: str, says: str) -> None:
    with pytest.raises(OptionError, match=says) as caught:
        draw("10", process, requests=5)
    assert str(caught.value).startswith(f"--arrivals {process}")


@pytest.mark.parametrize("rate", ["10:20:10", "10..20/5"])
def test_mmpp_makes_its_own_course(rate: str) -> None:
    with pytest.raises(OptionError, match="give --rate as one number"):
        draw(rate, "mmpp:10:1:4")


def test_mmpp_alone_is_read_as_mmpp() -> None:
    assert read_mmpp("poisson") is None
    found = read_mmpp("mmpp:10:1:4")
    assert found is not None
    assert (found.ratio, found.busy_s, found.calm_s) == (10, 1, 4)


def test_gaps_of_a_process_have_the_mean_1() -> None:
    for process in ("poisson", "constant", "gamma:0.5", "burst:10"):
        drawn = read_gaps(process, random.Random(3))
        assert statistics.fmean(next(drawn) for _ in range(20_000)) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize(
    ("requests", "seconds", "due"),
    [
        (5, None, [0.1, 0.3, 0.4, 0.6, 0.7]),
        (None, 0.4, [0.1, 0.3, 0.4]),
        (2, 0.4, [0.1, 0.3]),
        (None, 0.05, []),
    ],
)
def test_intervals_are_looped(requests: int | None, seconds: float | None, due: list[float]) -> None:
    assert looped((100_000, 200_000), requests=requests, seconds=seconds) == due


def test_an_interval_file_is_whole_microseconds() -> None:
    assert read_intervals(b"1000\n\n 2500 \r\n0\n", "gaps") == (1000, 2500, 0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "gaps: no gap above 0"),
        (b"0\n0\n", "gaps: no gap above 0"),
        (b"1000\n1.5\n", "gaps:2: '1.5' is no whole number of microseconds"),
        (b"-5\n", "gaps:1: '-5'"),
        (b"\xff\xfe\n", "gaps:1: "),
    ],
)
def test_an_interval_file_that_is_none_says_why(content: bytes, says: str) -> None:
    with pytest.raises(OptionError, match=f"--intervals {says}"):
        read_intervals(content, "gaps")
