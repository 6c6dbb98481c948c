"""Reads of many pieces of a file."""

import random
from pathlib import Path

import pytest
from dlmodels.engines.parallel_read import ParallelReader
from dlmodels.errors import LoadError

MIB = 1 << 20


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("read") / "file"
    path.write_bytes(random.Random(0).randbytes(20 * MIB))
    return path


@pytest.mark.parametrize("threads", [1, 4])
def test_every_piece_gets_its_bytes_whatever_its_size_and_order(file: Path, threads: int) -> None:
    content = file.read_bytes()
    draws = random.Random(1)
    starts = [draws.randrange(len(content) - 100) for _ in range(2000)]
    wanted = [(start, memoryview(bytearray(draws.randrange(100)))) for start in starts]
    wanted += [(position, memoryview(bytearray(3))) for position in range(0, 9000, 3)]  # adjacent: read at once
    wanted += [(5, memoryview(bytearray(15 * MIB))), (7, memoryview(bytearray(0)))]
    ParallelReader(threads).read(file, wanted)
    for begin, memory in wanted:
        assert memory == content[begin : begin + len(memory)]


@pytest.mark.parametrize("size", [10, 9 * MIB])
def test_a_file_that_ends_too_early_is_an_error(file: Path, size: int) -> None:
    with pytest.raises(LoadError, match="ended while it was read"):
        ParallelReader(4).read(file, [(20 * MIB - 5, memoryview(bytearray(size))), (0, memoryview(bytearray(size)))])


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="put the file back"):
        ParallelReader(4).read(tmp_path / "none", [(0, memoryview(bytearray(1)))])


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="check the disk"):
        ParallelReader(4).read(tmp_path, [(0, memoryview(bytearray(1)))])
