"""Where a front end leaves the bodies of its calls for the workers to read: slots in memory that both have mapped.

A body that goes through a socket is copied into the kernel and out of it again, 60 KB for each image; in a slot it is
copied once. The front end alone writes and says which slots are in use: a slot is lent with a job and free again once that
job is answered, or its worker's connection has ended. A worker reads a body there only until it answers.
"""

import mmap
import os
from collections.abc import Sequence

SLOT_BYTES = 1 << 20
"""What a larger body has no room in: it follows its job in the frame."""
SMALL_BYTES = 1 << 12
"""A body below this is in the frame, too: it is read along with its job."""
SLOTS = 64
"""Of one front end; calls beyond them send their bodies in frames. Only pages that a body has lain in take memory."""
NOWHERE = -1
"""The place of a body that is in no slot."""


class SlotError(ValueError):
    """There is no such slot, or it is too small for what is said to be there."""


class Lender:
    """The front end's side."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: as `make` returned it."""
        self._memory = memoryview(mmap.mmap(descriptor, SLOTS * SLOT_BYTES))
        self._free = list(reversed(range(SLOTS)))
        """The one used last is the next: its pages are there, and in the caches."""

    @property
    def free(self) -> int:
        """How many slots hold no body."""
        return len(self._free)

    def lend(self, body: Sequence[bytes | memoryview]) -> int:
        """Put a body into a slot; its number, NOWHERE if it is too small or too large, or none is free."""
        size = sum(map(len, body))
        if not SMALL_BYTES <= size <= SLOT_BYTES or not self._free:
            return NOWHERE
        place = self._free.pop()
        begin = place * SLOT_BYTES
        for piece in body:
            end = begin + len(piece)
            self._memory[begin:end] = piece
            begin = end
        return place

    def take_back(self, place: int) -> None:
        """Nobody reads it any more."""
        self._free.append(place)


class Slots:
    """A worker's side."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: as `make` returned it."""
        self._memory = memoryview(mmap.mmap(descriptor, SLOTS * SLOT_BYTES, prot=mmap.PROT_READ))

    def body(self, place: int, size: int) -> memoryview:
        """A body where it lies: to be read before its job is answered. Raises SlotError."""
        if not (0 <= place < SLOTS and 0 <= size <= SLOT_BYTES):
            raise SlotError(f"{size} bytes in slot {place}; there are {SLOTS} of {SLOT_BYTES} bytes")
        begin = place * SLOT_BYTES
        return self._memory[begin : begin + size]


def make() -> int:
    """A descriptor of fresh shared memory for one front end's slots; it ends with the last process that has it."""
    descriptor = os.memfd_create("dlserve-bodies")
    os.ftruncate(descriptor, SLOTS * SLOT_BYTES)
    return descriptor
