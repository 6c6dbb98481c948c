"""The ways of a tensor file's bytes to a GPU, on a fake one."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from dlmodels.engines import torch_upload
from dlmodels.engines.safetensors_file import TensorFile, read_tensor_file
from dlmodels.engines.torch_upload import Staging, UploadedFile
from dlmodels.errors import LoadError, OutOfMemoryError
from numpy.typing import NDArray

from .fake_gpu import FAILURE, PAGE, FakeGpu, LateCopier

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


def upload(file: TensorFile, gpu: FakeGpu, cast_to: torch.dtype | None = None) -> UploadedFile:
    """In three groups, the last tensors of the file first."""
    order = list(reversed(range(len(file.tensors))))
    return UploadedFile(file, gpu, cast_to, [order[:4], order[4:5], order[5:]])


def check(source: UploadedFile, storage: torch.UntypedStorage, file: TensorFile, tensors: Tensors, cast: bool) -> None:
    for place, begin in zip(file.tensors, source.places, strict=True):
        wanted = torch.from_numpy(tensors[place.name]).reshape(-1)
        if cast and place.dtype == "F32":
            wanted = wanted.to(torch.bfloat16)
        found = torch.empty(0, dtype=wanted.dtype).set_(storage, begin // wanted.element_size(), wanted.shape, (1,))
        assert torch.equal(found, wanted)
        assert begin % 128 == 0


@pytest.mark.parametrize("cast_to", [None, torch.bfloat16])
@pytest.mark.parametrize("staging_bytes", [256, 1024, 1 << 20])
def test_the_tensors_get_there_whatever_the_buffers_size(
    file: TensorFile, tensors: Tensors, staging_bytes: int, cast_to: torch.dtype | None
) -> None:
    gpu = FakeGpu(staging_bytes=staging_bytes)
    source = upload(file, gpu, cast_to)
    for _ in range(2):
        storage = source.load()
        assert len(source.marks) == 3
        gpu.late.finish(source.marks[-1])
        check(source, storage, file, tensors, cast_to is not None)
    assert storage.nbytes() == source.bytes


@pytest.mark.parametrize("cast_to", [None, torch.bfloat16])
def test_from_the_host_tier_too_and_without_the_file(
    file: TensorFile, tensors: Tensors, cast_to: torch.dtype | None
) -> None:
    gpu = FakeGpu(host_bytes=20 * PAGE)
    assert gpu.host is not None
    blocks = [gpu.host.arena.allocate(PAGE) for _ in range(20)]
    for block in blocks[::2]:  # every second page is somebody else's
        gpu.host.arena.free(block)
    source = upload(file, gpu, cast_to)
    assert not source.staged
    source.stage()
    source.stage()
    assert source.staged
    file.path.unlink()
    storage = source.load()
    gpu.late.finish(source.marks[-1])
    check(source, storage, file, tensors, cast_to is not None)
    source.unstage()
    source.unstage()
    assert not source.staged
    assert gpu.host.arena.free_bytes == 10 * PAGE
    with pytest.raises(LoadError, match="put the file back"):
        source.load()


def test_pages_are_given_back_only_when_nothing_is_copied_from_them(file: TensorFile, tensors: Tensors) -> None:
    gpu = FakeGpu(host_bytes=20 * PAGE)
    source = upload(file, gpu)
    source.stage()
    storage = source.load()
    assert gpu.late.done == 0
    source.unstage()
    assert gpu.late.done == gpu.late.asked
    check(source, storage, file, tensors, cast=False)


def test_copies_wait_for_what_was_computed_before_and_come_group_by_group(file: TensorFile) -> None:
    gpu = FakeGpu(host_bytes=20 * PAGE)
    source = upload(file, gpu)
    source.stage()
    source.load()
    assert gpu.late.log == ["begin"]
    assert [gpu.late.reached(mark) for mark in source.marks] == [False] * 3
    gpu.late.finish(source.marks[0])
    assert [gpu.late.reached(mark) for mark in source.marks] == [True, False, False]


@pytest.mark.parametrize("staged", [False, True])
def test_a_copy_that_fails_leaves_nothing_under_way_and_the_next_load_works(
    file: TensorFile, tensors: Tensors, staged: bool
) -> None:
    gpu = FakeGpu(host_bytes=20 * PAGE, staging_bytes=1024)
    source = upload(file, gpu)
    if staged:
        source.stage()
    gpu.late.fails_at = 2
    with pytest.raises(RuntimeError, match=FAILURE):
        source.load()
    assert gpu.late.done == gpu.late.asked == 2
    gpu.late.fails_at = None
    storage = source.load()
    gpu.late.finish(source.marks[-1])
    check(source, storage, file, tensors, cast=False)


def test_a_conversion_that_the_gpu_has_no_room_for_is_out_of_memory(file: TensorFile) -> None:
    gpu = FakeGpu()
    gpu.late.fails_at = 1
    gpu.late.failure = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(OutOfMemoryError, match="unload another model"):
        upload(file, gpu, torch.bfloat16).load()
    assert gpu.late.done == gpu.late.asked == 1


def test_little_is_converted_at_once(file: TensorFile, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(host_bytes=20 * PAGE)
    source = upload(file, gpu, torch.bfloat16)
    source.stage()
    monkeypatch.setattr(torch_upload, "STAGING_BYTES", 1024)
    storage = source.load()
    gpu.late.finish(source.marks[-1])
    check(source, storage, file, tensors, cast=True)
    assert gpu.late.largest == 1024


def test_a_file_that_ends_while_it_is_staged_takes_no_pages(file: TensorFile, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(host_bytes=20 * PAGE)
    assert gpu.host is not None
    source = upload(file, gpu)
    file.path.write_bytes(file.path.read_bytes()[:-200])
    with pytest.raises(LoadError, match="has changed"):
        source.stage()
    monkeypatch.setattr(TensorFile, "check_unchanged", lambda _: None)
    with pytest.raises(LoadError, match="ended while it was read"):
        source.stage()
    with pytest.raises(LoadError, match="ended while it was read"):
        source.load()
    assert gpu.host.arena.free_bytes == 20 * PAGE
    assert not source.staged


def test_a_host_tier_that_is_full_or_missing_is_told(file: TensorFile) -> None:
    with pytest.raises(OutOfMemoryError, match="unstage another model"):
        upload(file, FakeGpu(host_bytes=PAGE)).stage()
    with pytest.raises(OutOfMemoryError, match="there is no host tier"):
        upload(file, FakeGpu()).stage()


def test_staging_buffers_take_turns_and_are_not_filled_before_they_were_fetched() -> None:
    copier = LateCopier()
    staging = Staging(copier, [torch.empty(16, dtype=torch.uint8) for _ in range(2)])
    target = torch.empty(4, 16, dtype=torch.uint8)
    addresses = []
    for turn in range(4):
        with staging.buffer() as buffer:
            assert copier.done >= turn - 1
            buffer.fill_(turn)
            copier.copy(target[turn], buffer)
            addresses.append(buffer.data_ptr())
    copier.finish(copier.mark())
    assert target[:, 0].tolist() == [0, 1, 2, 3]
    assert addresses[0] == addresses[2] != addresses[1] == addresses[3]
    assert all(a != b for a, b in itertools.pairwise(addresses))
