"""A page allocator over one region of memory: which pages are whose. It knows nothing of the memory itself."""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from dlmodels.errors import OutOfMemoryError

PAGE_BYTES = 2 << 20
"""A huge page of x86-64 and of most GPUs' memory: few copies for a model, little lost in each one's last page."""


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """Adjacent pages, in bytes of the region."""

    begin: int
    end: int


class Arena:
    """A region of `total_bytes`, of which whole pages are given out and taken back."""

    def __init__(self, total_bytes: int, page_bytes: int = PAGE_BYTES) -> None:
        if page_bytes < 1 or total_bytes < 0:
            raise ValueError(f"an arena of {total_bytes} bytes in pages of {page_bytes} cannot be")
        self.page_bytes = page_bytes
        self.total_bytes = total_bytes // page_bytes * page_bytes
        self._holes = [Run(0, self.total_bytes)] if self.total_bytes else []
        """Free pages, in their order, no two adjacent."""

    @property
    def free_bytes(self) -> int:
        """Of all pages that are nobody's."""
        return sum(hole.end - hole.begin for hole in self._holes)

    def pages_of(self, size: int) -> int:
        """Bytes of the pages that `size` bytes take."""
        return -(-size // self.page_bytes) * self.page_bytes

    def allocate(self, size: int) -> tuple[Run, ...]:
        """Pages for `size` bytes, in the order in which to fill them: as few runs as can be had without moving anything.

        Raises OutOfMemoryError, and then nothing was taken.
        """
        wanted = self.pages_of(size)
        if wanted > self.free_bytes:
            raise OutOfMemoryError(
                f"{size} bytes do not fit the {self.free_bytes} bytes that are free of the host tier's"
                f" {self.total_bytes}: unstage another model, or give the host tier more memory"
            )
        whole = [hole for hole in self._holes if hole.end - hole.begin >= wanted]
        if whole:  # the tightest one: large holes stay whole for large models
            chosen = [min(whole, key=lambda hole: hole.end - hole.begin)]
        else:
            chosen = sorted(self._holes, key=lambda hole: hole.begin - hole.end)
        runs = []
        for hole in chosen:
            if not wanted:
                break
            run = Run(hole.begin, min(hole.end, hole.begin + wanted))
            wanted -= run.end - run.begin
            self._holes.remove(hole)
            if run.end < hole.end:
                insort(self._holes, Run(run.end, hole.end))
            runs.append(run)
        return tuple(sorted(runs))

    def free(self, runs: Iterable[Run]) -> None:
        """Take pages back. Raises ValueError if any of them is not given out, and then takes none."""
        taken = list(runs)
        for run in taken:
            outside = run.begin < 0 or run.end > self.total_bytes or run.begin >= run.end
            if outside or run.begin % self.page_bytes or run.end % self.page_bytes:
                raise ValueError(f"{run} is nothing that this arena gives out")
        together = sorted([*self._holes, *taken])
        for before, after in pairwise(together):
            if before.end > after.begin:
                raise ValueError(f"{before} and {after} are free at once: pages were given back twice")
        self._holes = _joined(together)


def _joined(runs: Iterable[Run]) -> list[Run]:
    """Neighbours made one; `runs` are in order."""
    joined: list[Run] = []
    for run in runs:
        if joined and joined[-1].end == run.begin:
            joined[-1] = Run(joined[-1].begin, run.end)
        else:
            joined.append(run)
    return joined
