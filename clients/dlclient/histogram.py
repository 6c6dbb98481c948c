"""A histogram of latencies that processes can send to each other and add up: HdrHistogram with seconds outside.

From 1 us to 1 h with 3 significant digits, as wrk2 and the other tools of that family keep theirs: 23,552 counters, 190 KB,
however many samples; encoded, a few KB. A value outside is counted at the nearer end, and `clamped` says how often.
"""

import math
import struct
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any, Self

import numpy as np
from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from dlclient.early_stopping import fewest_samples
from dlclient.statistics import PERCENTILE_FLOORS

LOWEST_S = 1e-6
HIGHEST_S = 3600.0
DIGITS = 3

_PER_SECOND = 1_000_000
_HEAD = struct.Struct(">4sQQdd")
"""Magic, counts below and above the range, sum and largest of the seconds; HdrHistogram's own V2 encoding follows."""
_MAGIC = b"dlh1"


class Histogram:
    """Counts of latencies in seconds. The mean and the largest value are exact, percentiles are within 0.1 %.

    Recording one value costs about 3 us (HdrHistogram's record is plain Python), so 1 % of a core at 3,000 requests/s;
    `record_all` takes many at about 0.1 us each.
    """

    def __init__(self) -> None:
        self._counts: Any = _empty()
        self._below = 0
        self._above = 0
        self._sum_s = 0.0
        self._largest_s = 0.0

    def record(self, seconds: float) -> None:
        """Count one value. Raises ValueError for what is no number."""
        if math.isnan(seconds):
            raise ValueError("a number of seconds is needed, not nan")
        kept = self._clamp(seconds)
        self._counts.record_value(round(kept * _PER_SECOND))
        self._sum_s += kept
        self._largest_s = max(self._largest_s, kept)

    def record_all(self, seconds: Iterable[float]) -> None:
        """Count many values: the same as `record` of each, but far quicker. Raises ValueError as that does."""
        values = np.fromiter(seconds, dtype=np.float64)
        if np.isnan(values).any():
            raise ValueError("numbers of seconds are needed, not nan")
        if not values.size:
            return
        self._below += int((values < LOWEST_S).sum())
        self._above += int((values > HIGHEST_S).sum())
        kept = np.clip(values, LOWEST_S, HIGHEST_S)
        units, counts = np.unique(np.rint(kept * _PER_SECOND).astype(np.int64), return_counts=True)
        for unit, count in zip(units.tolist(), counts.tolist(), strict=True):
            self._counts.record_value(unit, count)
        self._sum_s += math.fsum(kept)
        self._largest_s = max(self._largest_s, float(kept.max()))

    @property
    def count(self) -> int:
        """How many values were recorded."""
        return int(self._counts.get_total_count())

    @property
    def clamped(self) -> tuple[int, int]:
        """How many were below LOWEST_S and above HIGHEST_S, and were counted as these."""
        return self._below, self._above

    @property
    def sum_s(self) -> float:
        """All values added up, in seconds, exact but for what was clamped."""
        return self._sum_s

    @property
    def mean_s(self) -> float | None:
        """The mean in seconds, exact but for what was clamped; None of nothing."""
        return self._sum_s / self.count if self.count else None

    @property
    def largest_s(self) -> float | None:
        """The largest value in seconds, exact but for clamping; None of nothing."""
        return self._largest_s if self.count else None

    def percentile_s(self, fraction: float) -> float | None:
        """The percentile in seconds by nearest rank; None where there are too few values for it to mean something.

        As HdrHistogram does, the highest value that the counter stands for, so never less than what was measured. Its own
        function is not used: it rounds the rank, so that its p99 of 64 values is the 63rd.
        """
        if not 0 < fraction < 1:
            raise ValueError(f"a fraction between 0 and 1 is needed, not {fraction}")
        if self.count < max(PERCENTILE_FLOORS.get(fraction, 0), fewest_samples(fraction)):
            return None
        rank = math.ceil(fraction * self.count - 1e-9)
        index = int(np.searchsorted(np.cumsum(_array(self._counts)), rank))
        return min(float(_highest()[index]) / _PER_SECOND, self._largest_s)

    def merge(self, other: "Histogram") -> None:
        """Add what another one counted."""
        if other.count:
            self._counts.add(other._counts)  # noqa: SLF001  the same class
        below, above = other.clamped
        self._below += below
        self._above += above
        self._sum_s += other.sum_s
        self._largest_s = max(self._largest_s, other.largest_s or 0.0)

    def encode(self) -> bytes:
        """Everything, as bytes for a message."""
        head = _HEAD.pack(_MAGIC, self._below, self._above, self._sum_s, self._largest_s)
        return head + bytes(self._counts.encode())

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """What encode gave. Raises ValueError for anything else."""
        histogram = cls()
        try:
            magic, below, above, sum_s, largest_s = _HEAD.unpack_from(content)
            counts = HdrHistogram.decode(content[_HEAD.size :])
        except (struct.error, ValueError, IndexError, MemoryError, zlib.error) as exc:
            raise ValueError(f"these {len(content)} bytes are no histogram: {exc}") from exc
        except (HdrCookieException, HdrLengthException) as exc:
            raise ValueError(f"these {len(content)} bytes hold no HdrHistogram in encoding V2: {exc}") from exc
        shape = (counts.lowest_trackable_value, counts.highest_trackable_value, counts.significant_figures)
        if magic != _MAGIC or shape != (1, round(HIGHEST_S * _PER_SECOND), DIGITS):
            raise ValueError(
                f"a histogram of another kind ({magic!r}, {shape}); use the same version of dlserve everywhere"
            )
        histogram._counts = counts
        histogram._below, histogram._above = below, above
        histogram._sum_s, histogram._largest_s = sum_s, largest_s
        return histogram

    def _clamp(self, seconds: float) -> float:
        if seconds < LOWEST_S:
            self._below += 1
            return LOWEST_S
        if seconds > HIGHEST_S:
            self._above += 1
            return HIGHEST_S
        return seconds


def _empty() -> HdrHistogram:
    return HdrHistogram(1, round(HIGHEST_S * _PER_SECOND), DIGITS)


def _array(counts: HdrHistogram) -> NDArray[np.uint64]:
    return np.frombuffer(counts.counts, dtype=np.uint64)


@cache
def _highest() -> NDArray[np.int64]:
    """The highest value that each counter stands for, in microseconds."""
    shape = _empty()
    values = [
        shape.get_highest_equivalent_value(shape.get_value_from_index(index)) for index in range(shape.counts_len)
    ]
    return np.asarray(values, dtype=np.int64)
