"""What a model's forward takes by batch size, learned from those that ran. Pure; both kinds of process keep it.

A size that was seen is expected to take what it took lately; between two of them the time grows in a straight line. A forward
that differs more than they usually do counts as if it differed so much: on shared cores one is interrupted every now and then,
and says nothing of the next (the loss of Huber, Robust Estimation of a Location Parameter, 1964). What lasts is usual soon.
"""

from bisect import bisect_left, insort

_STEP = 0.2
"""Weight of the latest in the mean of one size."""
_STEP_AFTER = 64
_LONG_STEP = 0.5
"""Of a size that did not come in so many forwards of others; and it counts in full then: much may have changed since."""
_FIRST = 6
"""Of the first of a size the quickest counts: what a process does for the first time, or beside others that do, takes longer."""
_STEP_USUAL = 0.1
"""And in the mean of how much forwards differ from it."""
GAIN = 0.03
"""A larger batch pays where it takes so much less time per image than a smaller one."""
_SEEN = 3
"""Forwards of a size before a batch's growth is judged by it."""
_JUDGE_EVERY = 16
"""Forwards between two looks at where growth stops paying."""
_TRY_EVERY = 16
"""Of batches that were kept small, one in so many may be twice as large all the same: what did not pay may do so now. No
larger, for where growth does not pay it costs: 16 images of SqueezeNet, where 2 are best, took a CPU half as long again per image."""


class ForwardTimes:
    """Of one model."""

    __slots__ = ("_counts", "_kept", "_latest", "_learned", "_limit", "_seconds", "_sizes", "_usual")

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._counts: dict[int, int] = {}
        self._usual: dict[int, float] = {}
        """By how much those of a size differ from what was expected, either way."""
        self._latest: dict[int, int] = {}
        """How many forwards there had been of all sizes by the latest of each."""
        self._sizes: list[int] = []
        """Those seen, ascending."""
        self._learned = 0
        self._limit = 0
        self._kept = 0

    @property
    def known(self) -> bool:
        """Whether any forward was seen."""
        return bool(self._sizes)

    def learn(self, images: int, seconds: float) -> None:
        """A forward of so many images took so long.

        Of each size the first is forgotten once there is a second: it may have compiled, captured or allocated something.
        """
        count = self._counts.get(images, 0)
        self._counts[images] = count + 1
        if count < 2:
            if not count:
                insort(self._sizes, images)
            self._seconds[images] = seconds
        else:
            off = seconds - self._seconds[images]
            size = abs(off)
            usual = self._usual.get(images, size)
            step = _STEP
            if self._learned - self._latest[images] > _STEP_AFTER:
                step, usual = _LONG_STEP, size
            if count < _FIRST and off < 0:
                step = 1.0
            elif size > usual:
                off = usual if off > 0 else -usual
            self._seconds[images] += step * off
            self._usual[images] = usual + _STEP_USUAL * (size - usual)
        self._latest[images] = self._learned = self._learned + 1
        if self._learned % _JUDGE_EVERY == 0:
            self._limit = self._judge()

    def seconds(self, images: int) -> float:
        """Expected for a batch of so many; 0 before any was seen.

        Below the smallest size seen it is in proportion; beyond the largest it grows as it did from the smallest to it.
        """
        known = self._seconds.get(images)
        if known is not None:
            return known
        sizes, seconds = self._sizes, self._seconds
        if not sizes:
            return 0.0
        place = bisect_left(sizes, images)
        if place == 0:
            return seconds[sizes[0]] * images / sizes[0]
        if place < len(sizes):
            low, high = sizes[place - 1], sizes[place]
        elif len(sizes) > 1:
            low, high = sizes[0], sizes[-1]
        else:
            return seconds[sizes[0]] * images / sizes[0]
        slope = (seconds[high] - seconds[low]) / (high - low)
        if place < len(sizes):
            return seconds[low] + slope * (images - low)
        return seconds[high] + max(slope, 0.0) * (images - high)

    def added(self, images: int, more: int) -> float:
        """What a batch of so many images is expected to take longer with `more` in it; never less than 0."""
        if not images:
            return self.seconds(more)
        if more <= 0:
            return 0.0
        known = self._seconds
        fewer_s, all_s = known.get(images), known.get(images + more)
        if fewer_s is None:
            fewer_s = self.seconds(images)
        if all_s is None:
            all_s = self.seconds(images + more)
        return all_s - fewer_s if all_s > fewer_s else 0.0

    def limit(self, most: int) -> int:
        """The images beyond which a batch no longer pays, at most `most`: its time per image has stopped falling.

        Where that is not known, because no larger one was seen, it is `most`.
        """
        return min(self._limit, most) if self._limit else most

    @property
    def pays_up_to(self) -> int:
        """That limit, 0 where none is known."""
        return self._limit

    def limit_now(self, most: int) -> int:
        """`limit` for a batch that is being formed: once in a while twice that, to see whether it has changed."""
        limit = self.limit(most)
        if limit == most:
            return most
        self._kept += 1
        return limit if self._kept % _TRY_EVERY else min(2 * limit, most)

    def _judge(self) -> int:
        """The smallest size that no larger one beats by `GAIN` per image; 0 if none is larger."""
        per_image = [(size, self._seconds[size] / size) for size in self._sizes if self._counts[size] >= _SEEN]
        for place, (size, mine) in enumerate(per_image[:-1]):
            if mine * (1 - GAIN) <= min(theirs for _, theirs in per_image[place + 1 :]):
                return size
        return 0
