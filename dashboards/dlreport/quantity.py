"""Numbers as people read them. Inside, times are seconds and sizes bytes; here is where they get their printed units."""

import math
from datetime import datetime

MISSING = "missing"
"""Printed where the server or the run does not tell a figure: never 0, which would be a figure."""


def significant(value: float, digits: int = 3) -> str:
    """`value` with about `digits` significant digits, thousands separated, never in powers of ten."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded if decimals >= 0 else value:,.{min(max(decimals, 0), 9)}f}"


def plain(value: float) -> str:
    """A number without superfluous digits, for the ticks of an axis: 10, 0.5, 2,000."""
    return f"{value:,.10g}"


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds, without the unit."""
    return significant(seconds * 1e3)


def megabytes(size: float) -> str:
    """Bytes as MB (10^6), without the unit."""
    return significant(size / 1e6)


def gigabytes(size: float) -> str:
    """Bytes as GB (10^9), without the unit."""
    return significant(size / 1e9)


def count(number: int) -> str:
    """A whole number, thousands separated."""
    return f"{number:,}"


def ratio(value: float) -> str:
    """How many times: two decimals below 2, where they matter, one below 10, none above."""
    decimals = 2 if value < 1.995 else 1 if value < 9.95 else 0
    return f"{value:,.{decimals}f} x"


def moment(iso: str) -> str:
    """A point in time as run.json has it (ISO 8601), to the second; what is none is left as it is."""
    try:
        parsed = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return parsed.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def latency_text(seconds: float | None, samples: int) -> str:
    """A mean or a percentile in milliseconds, or `n/a (n=..)` where so few samples cannot tell it."""
    return f"n/a (n={count(samples)})" if seconds is None else milliseconds(seconds)
