"""The ways of a tensor file's bytes to where torch computes on a CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from dlmodels.engines.parallel_read import ParallelReader
from dlmodels.engines.safetensors_file import ITEM_BYTES, TensorFile, read_tensor_file
from dlmodels.engines.torch_memory import ConvertedFile, MappedFile, ReadFile, Source, is_out_of_memory, room_for
from dlmodels.errors import LoadError, OutOfMemoryError
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.generic]]


@pytest.fixture
def tensors() -> Tensors:
    random = np.random.default_rng(0)
    sizes = (1, 3, 64, 100, 1000, 7, 0, 5000, 1)
    floats = {f"f{i}": random.random(size, dtype=np.float32) for i, size in enumerate(sizes)}
    return {**floats, "count": np.array(3, np.int64), "half": np.ones(5, np.float16)}


@pytest.fixture
def file(tmp_path: Path, tensors: Tensors) -> TensorFile:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return read_tensor_file(path)


def mapped(file: TensorFile) -> Source:
    return MappedFile(file)


def read(file: TensorFile) -> Source:
    return ReadFile(file, ParallelReader(2))


def contents(source: Source, file: TensorFile) -> dict[str, bytes]:
    """What the storage holds for each tensor, as many bytes as the file has."""
    storage = bytes(torch.empty(0, dtype=torch.uint8).set_(source.load()).numpy())
    return {
        place.name: storage[begin : begin + place.end - place.begin]
        for place, begin in zip(file.tensors, source.places, strict=True)
    }


@pytest.mark.parametrize("make", [mapped, read])
def test_the_tensors_are_those_of_the_file(
    file: TensorFile, tensors: Tensors, make: Callable[[TensorFile], Source]
) -> None:
    source = make(file)
    for _ in range(2):
        assert contents(source, file) == {name: value.tobytes() for name, value in tensors.items()}
    for place, begin in zip(file.tensors, source.places, strict=True):
        assert begin % ITEM_BYTES[place.dtype] == 0


@pytest.mark.parametrize("make", [mapped, read])
def test_they_may_be_asked_for_in_any_order(
    file: TensorFile, tensors: Tensors, make: Callable[[TensorFile], Source]
) -> None:
    backwards = TensorFile(file.path, file.stamp, file.tensors[::-1])
    source = make(backwards)
    assert min(source.places) >= 0
    assert contents(source, backwards) == {name: value.tobytes() for name, value in tensors.items()}


def test_what_is_read_is_not_mapped(file: TensorFile) -> None:
    storage = ReadFile(file, ParallelReader(2)).load()
    assert str(file.path) not in Path("/proc/self/maps").read_text()
    file.path.write_bytes(bytes(file.stamp.bytes))
    assert torch.empty(0, dtype=torch.uint8).set_(storage).any()


@pytest.mark.parametrize("make", [mapped, read])
def test_floats_are_converted_and_all_else_stays(
    file: TensorFile, tensors: Tensors, make: Callable[[TensorFile], Source]
) -> None:
    source = ConvertedFile(file, torch.bfloat16, make(file))
    storage = source.load()
    for place, begin in zip(file.tensors, source.places, strict=True):
        wanted = torch.from_numpy(tensors[place.name]).reshape(-1)
        if place.dtype == "F32":
            wanted = wanted.to(torch.bfloat16)
        found = torch.empty(0, dtype=wanted.dtype).set_(storage, begin // wanted.element_size(), wanted.shape, (1,))
        assert torch.equal(found, wanted)
    assert storage.nbytes() == source.bytes < file.stamp.bytes


@pytest.mark.parametrize("make", [mapped, read])
def test_a_file_that_is_gone_or_has_changed_does_not_load(
    file: TensorFile, make: Callable[[TensorFile], Source]
) -> None:
    source = make(file)
    content = file.path.read_bytes()
    file.path.write_bytes(content[:-1])
    with pytest.raises(LoadError, match="has changed"):
        source.load()
    file.path.unlink()
    with pytest.raises(LoadError, match="put the file back"):
        source.load()


@pytest.mark.parametrize("make", [mapped, read])
def test_a_write_to_a_tensor_does_not_reach_the_file(file: TensorFile, make: Callable[[TensorFile], Source]) -> None:
    before = file.path.read_bytes()
    torch.empty(0, dtype=torch.uint8).set_(make(file).load()).fill_(1)
    assert file.path.read_bytes() == before


def test_a_full_machine_is_told_from_other_failures() -> None:
    with pytest.raises(OutOfMemoryError, match="unload another model"), room_for(1 << 52, "it", "cpu"):
        torch.empty(1 << 52, dtype=torch.uint8)
    with pytest.raises(RuntimeError) as other, room_for(1, "it", "cpu"):
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(other.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_a_cpu_has_no_host_tier(file: TensorFile) -> None:
    source = MappedFile(file)
    assert not source.staged
    source.unstage()
    with pytest.raises(NotImplementedError):
        source.stage()
