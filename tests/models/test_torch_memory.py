"""The ways of a tensor file's bytes to where torch computes."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from dlmodels.engines.safetensors_file import TensorFile, read_tensor_file
from dlmodels.engines.torch_memory import CopiedFile, MappedFile, Source, Staging, is_out_of_memory
from dlmodels.errors import LoadError
from numpy.typing import NDArray

CPU = torch.device("cpu")


@pytest.fixture
def tensors() -> dict[str, NDArray[np.generic]]:
    random = np.random.default_rng(0)
    sizes = (1, 3, 64, 100, 1000, 7, 0, 5000, 1)
    floats = {f"f{i}": random.random(size, dtype=np.float32) for i, size in enumerate(sizes)}
    return {**floats, "count": np.array(3, np.int64), "half": np.ones(5, np.float16)}


@pytest.fixture
def file(tmp_path: Path, tensors: dict[str, NDArray[np.generic]]) -> TensorFile:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return read_tensor_file(path)


def contents(source: Source, file: TensorFile) -> dict[str, bytes]:
    """What the storage holds for each tensor."""
    storage = bytes(torch.empty(0, dtype=torch.uint8).set_(source.load()).numpy())
    found = {}
    for place, offset in zip(file.tensors, source.offsets, strict=True):
        size = place.end - place.begin
        items = int(np.prod(place.shape))
        begin = offset * (size // items) if items else 0
        found[place.name] = storage[begin : begin + size]
    return found


@pytest.mark.parametrize("staging_bytes", [256, 300, 1024, 4096, 1 << 20])
def test_a_copied_file_has_the_same_tensors_whatever_the_buffers_size(
    file: TensorFile, tensors: dict[str, NDArray[np.generic]], staging_bytes: int
) -> None:
    source = CopiedFile(file, CPU, Staging(CPU, staging_bytes))
    for _ in range(2):
        assert contents(source, file) == {name: value.tobytes() for name, value in tensors.items()}


def test_a_mapped_file_has_the_same_tensors(file: TensorFile, tensors: dict[str, NDArray[np.generic]]) -> None:
    source = MappedFile(file)
    assert source.bytes == file.path.stat().st_size
    assert contents(source, file) == {name: value.tobytes() for name, value in tensors.items()}


def test_copied_tensors_are_aligned_for_kernels(file: TensorFile) -> None:
    source = CopiedFile(file, CPU, Staging(CPU, 4096))
    for place, offset in zip(file.tensors, source.offsets, strict=True):
        items = int(np.prod(place.shape))
        if items:
            assert offset * ((place.end - place.begin) // items) % 256 == 0


def test_many_small_tensors_go_in_as_many_reads_as_the_system_needs(tmp_path: Path) -> None:
    tensors = {f"t{i:04}": np.array([i], np.float32) for i in range(3000)}
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(tensors, path)
    file = read_tensor_file(path)
    found = contents(CopiedFile(file, CPU, Staging(CPU, 1 << 22)), file)
    assert found == {name: value.tobytes() for name, value in tensors.items()}


@pytest.mark.parametrize("kind", ["mapped", "copied"])
def test_a_file_that_is_gone_or_has_changed_does_not_load(file: TensorFile, kind: str) -> None:
    source: Source = MappedFile(file) if kind == "mapped" else CopiedFile(file, CPU, Staging(CPU, 4096))
    content = file.path.read_bytes()
    file.path.write_bytes(content[:-1])
    with pytest.raises(LoadError, match="has changed"):
        source.load()
    file.path.unlink()
    with pytest.raises(LoadError, match="put the file back"):
        source.load()


def test_a_write_to_a_mapped_tensor_does_not_reach_the_file(file: TensorFile) -> None:
    before = file.path.read_bytes()
    torch.empty(0, dtype=torch.uint8).set_(MappedFile(file).load()).fill_(1)
    assert file.path.read_bytes() == before


def test_a_full_machine_is_told_from_other_failures() -> None:
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 52, dtype=torch.uint8)
    assert is_out_of_memory(full.value)
    with pytest.raises(RuntimeError) as other:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(other.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


def test_staging_buffers_take_turns() -> None:
    staging = Staging(CPU, 16)
    addresses = []
    for _ in range(4):
        with staging.buffer() as buffer:
            addresses.append(buffer.data_ptr())
    assert addresses[0] == addresses[2] != addresses[1] == addresses[3]
    assert all(a != b for a, b in itertools.pairwise(addresses))
