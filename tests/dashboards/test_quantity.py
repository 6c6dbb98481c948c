"""How numbers are printed."""

import pytest
from dlreport.quantity import gigabytes, latency_text, megabytes, milliseconds, moment, plain, ratio, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12.34, "12.3"),
        (9.996, "10.0"),
        (99.96, "100"),
        (0.04561, "0.0456"),
        (0.9996, "1.00"),
        (1234.5, "1,234"),
        (1_234_567, "1,234,567"),
        (-3.14159, "-3.14"),
        (1e-12, "0.000000000"),
        (float("inf"), "inf"),
    ],
)
def test_three_digits_without_powers_of_ten(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.00 x"), (1.994, "1.99 x"), (1.996, "2.0 x"), (3.707, "3.7 x"), (9.96, "10 x"), (1234.4, "1,234 x")],
)
def test_ratios_get_the_decimals_that_matter(value: float, text: str) -> None:
    assert ratio(value) == text


def test_units_are_decimal() -> None:
    assert milliseconds(0.0123) == "12.3"
    assert megabytes(46_830_000) == "46.8"
    assert gigabytes(5_128_205_128) == "5.13"


def test_a_figure_that_too_few_samples_cannot_tell_says_how_few_there_were() -> None:
    assert latency_text(None, 63) == "n/a (n=63)"
    assert latency_text(None, 0) == "n/a (n=0)"
    assert latency_text(0.0451, 64) == "45.1"


@pytest.mark.parametrize(
    ("value", "text"), [(10.0, "10"), (0.5, "0.5"), (2000.0, "2,000"), (0.30000000000000004, "0.3")]
)
def test_ticks_have_no_superfluous_digits(value: float, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    ("iso", "text"),
    [
        ("2026-11-23T01:40:53+00:00", "2026-11-23 01:40:53 UTC"),
        ("2026-11-23T01:40:53.25Z", "2026-11-23 01:40:53 UTC"),
        ("2026-11-23T01:40:53", "2026-11-23 01:40:53"),
        ("yesterday", "yesterday"),
    ],
)
def test_a_moment_is_printed_to_the_second_in_its_zone(iso: str, text: str) -> None:
    assert moment(iso) == text
