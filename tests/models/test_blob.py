"""The layout of a model's weights in a device's memory."""

import random

import pytest
from dlmodels.engines.blob import ALIGNMENT, plan_blob, split
from dlmodels.engines.safetensors_file import ITEM_BYTES, TensorPlace


def tensors(draws: random.Random, count: int) -> list[TensorPlace]:
    """Of several types and sizes, with gaps between them."""
    places, position = [], 100
    for number in range(count):
        dtype = draws.choice(["F32", "F32", "I64", "BOOL"])
        size = draws.choice([0, 1, 3, 64, 1000]) * ITEM_BYTES[dtype]
        places.append(TensorPlace(f"t{number}", dtype, (), position, position + size))
        position += size + draws.choice([0, 0, 7])
    return places


@pytest.mark.parametrize("seed", range(10))
def test_every_byte_of_the_file_has_its_place_aligned_and_in_its_group(seed: int) -> None:
    draws = random.Random(seed)
    places = tensors(draws, 30)
    order = draws.sample(range(30), 30)
    groups = [order[:10], order[10:11], order[11:]]
    blob = plan_blob(places, groups)
    file = draws.randbytes(places[-1].end)
    content = bytearray(blob.bytes)
    for piece in blob.within(0, blob.bytes):
        content[piece.begin : piece.begin + piece.bytes] = file[piece.file_begin : piece.file_begin + piece.bytes]
    position = 0
    for group, sections in zip(groups, blob.groups, strict=True):
        for section in sections:
            assert section.begin == position
            position = section.end
        for index in group:
            begin, size = blob.places[index], places[index].end - places[index].begin
            assert begin % ALIGNMENT == 0
            assert content[begin : begin + size] == file[places[index].begin : places[index].end]
            assert any(s.dtype == places[index].dtype and s.begin <= begin and begin + size <= s.end for s in sections)
    assert position == blob.bytes


@pytest.mark.parametrize("step", [256, 300, 5000])
def test_parts_of_a_blob_add_up_to_it(step: int) -> None:
    blob = plan_blob(tensors(random.Random(1), 40), [range(40)])
    whole = [(p.file_begin + i, p.begin + i) for p in blob.pieces for i in range(p.bytes)]
    parts = []
    for begin in range(0, blob.bytes, step):
        for piece in blob.within(begin, begin + step):
            assert begin <= piece.begin
            assert piece.begin + piece.bytes <= begin + step
            parts += [(piece.file_begin + i, piece.begin + i) for i in range(piece.bytes)]
    assert parts == whole


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([], 4, []),
        ([5], 4, [range(1)]),
        ([1, 1, 1, 1], 2, [range(2), range(2, 4)]),
        ([1] * 8, 4, [range(2), range(2, 4), range(4, 6), range(6, 8)]),
        ([100, 1, 1], 3, [range(1), range(1, 2), range(2, 3)]),
        ([10, 10, 10, 10, 300, 40, 10], 5, [range(2), range(2, 4), range(4, 5), range(5, 6), range(6, 7)]),
        ([0, 0], 8, [range(1), range(1, 2)]),
    ],
)
def test_items_are_split_into_groups_of_about_equal_size(sizes: list[int], most: int, expected: list[range]) -> None:
    assert split(sizes, most) == expected


@pytest.mark.parametrize("seed", range(10))
def test_groups_are_never_empty_never_too_many_and_hold_every_item(seed: int) -> None:
    draws = random.Random(seed)
    sizes = [draws.choice([0, 1, 10, 1000]) for _ in range(draws.randrange(1, 40))]
    groups = split(sizes, 6)
    assert len(groups) == min(6, len(sizes))
    assert all(groups)
    assert [index for group in groups for index in group] == list(range(len(sizes)))
