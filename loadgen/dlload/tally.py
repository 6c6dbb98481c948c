"""What can be said of a phase while it goes on, kept up to date with each record: to look at it costs the same at any length.

Going through all records in each look would stop the senders: at 20,000 records for 24 ms, twice a second.
"""

from dlclient.results import Record

STEADY_WINDOWS = 3
STEADY_REQUESTS = 20
"""Of a window, at least."""
STEADY_TOLERANCE = 0.10


class Tally:
    """Of one phase in one process."""

    def __init__(self) -> None:
        self.images = 0
        """Of good answers."""
        self.errors = 0
        """Dropped requests too."""
        self.dropped = 0
        self._sums_s = [0.0]
        """Entry n: latency of the first n good answers, all together."""

    def add(self, record: Record) -> None:
        """Count one."""
        if record.error:
            self.errors += 1
            self.dropped += record.dropped
            return
        self.images += record.images
        self._sums_s.append(self._sums_s[-1] + record.latency_s)

    @property
    def steady(self) -> bool:
        """Whether the last 3 windows agree: the mean latency of none is more than 10 % away from that of all three.

        A window holds a sixth of the good answers so far, and at least 20: so windows grow until what is only noise is small.
        """
        good = len(self._sums_s) - 1
        size = max(STEADY_REQUESTS, good // (2 * STEADY_WINDOWS))
        if good < STEADY_WINDOWS * size:
            return False
        edges = [self._sums_s[good - windows * size] for windows in range(STEADY_WINDOWS, -1, -1)]
        middle = (edges[-1] - edges[0]) / (STEADY_WINDOWS * size)
        means = [(edges[window + 1] - edges[window]) / size for window in range(STEADY_WINDOWS)]
        return all(abs(mean - middle) <= STEADY_TOLERANCE * middle for mean in means)
