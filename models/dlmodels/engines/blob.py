"""How a file's tensors lie in one block of a device's memory: aligned, in groups in the order in which they are used."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from dlmodels.engines.safetensors_file import TensorPlace

ALIGNMENT = 256
"""cudaMalloc's own; a kernel for unaligned tensors can be slower."""
MOST_GROUPS = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """Adjacent bytes of the file that are adjacent in the blob as well."""

    file_begin: int
    begin: int
    """In the blob."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Section:
    """Adjacent tensors of one type within a group, from `begin` to `end` in the blob."""

    dtype: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Blob:
    """The layout of one model's weights."""

    places: tuple[int, ...]
    """Where each tensor of the file begins."""
    bytes: int
    groups: tuple[tuple[Section, ...], ...]
    """The blob from its beginning to its end."""
    pieces: tuple[Piece, ...]
    """By `begin`."""

    def within(self, begin: int, end: int) -> Iterator[Piece]:
        """The pieces, or their parts, that lie between two places of the blob."""
        first = max(0, bisect_right(self.pieces, begin, key=lambda piece: piece.begin) - 1)
        for piece in self.pieces[first:]:
            if piece.begin >= end:
                return
            low, high = max(piece.begin, begin), min(piece.begin + piece.bytes, end)
            if low < high:
                yield Piece(piece.file_begin + low - piece.begin, low, high - low)


def plan_blob(tensors: Sequence[TensorPlace], groups: Sequence[Sequence[int]]) -> Blob:
    """The layout in which each group (indices of `tensors`, each in exactly one group) is one block.

    Within a group the tensors of one type lie together, so that a type can be converted as a whole.
    """
    places = [0] * len(tensors)
    pieces: list[Piece] = []
    laid: list[tuple[Section, ...]] = []
    position = 0
    for group in groups:
        sections: list[Section] = []
        for index in sorted(group, key=lambda index: tensors[index].dtype):
            tensor = tensors[index]
            size = tensor.end - tensor.begin
            places[index] = position
            if size:
                pieces.append(Piece(tensor.begin, position, size))
            end = position + -(-size // ALIGNMENT) * ALIGNMENT
            if sections and sections[-1].dtype == tensor.dtype:
                sections[-1] = Section(tensor.dtype, sections[-1].begin, end)
            else:
                sections.append(Section(tensor.dtype, position, end))
            position = end
        laid.append(tuple(sections))
    return Blob(tuple(places), position, tuple(laid), tuple(pieces))


def split(sizes: Sequence[int], most: int = MOST_GROUPS) -> list[range]:
    """Adjacent items in `most` groups, or as many as there are items: the largest is halved as well as can be, and again.

    One item may be most of a network (VGG16's first dense layer); what comes before and after it is still divided.
    """
    sums = list(accumulate(sizes, initial=0))
    groups = [range(len(sizes))] if sizes else []
    while len(groups) < most:
        halvable = [group for group in groups if len(group) > 1]
        if not halvable:
            break
        largest = max(halvable, key=lambda group: sums[group.stop] - sums[group.start])
        middle = sums[largest.start] + sums[largest.stop]
        cut = min(largest[1:], key=lambda index: abs(2 * sums[index] - middle))
        place = groups.index(largest)
        groups[place : place + 1] = [range(largest.start, cut), range(cut, largest.stop)]
    return groups
