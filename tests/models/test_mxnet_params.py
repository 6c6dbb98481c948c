"""Where arrays lie in MXNet's `.params` files."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlmodels.engines.mxnet_params import read_params
from dlmodels.errors import LoadError
from numpy.typing import NDArray

from .mxnet_files import Age, params_file

ARRAYS: dict[str, NDArray[Any]] = {
    "arg:weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "aux:mean": np.arange(3, dtype=np.float64),
    "bare": np.arange(5, dtype=np.int32),
}


@pytest.mark.parametrize("age", ["now", "1.0", "0.9"])
def test_every_array_is_found_where_it_lies_whatever_the_files_age(tmp_path: Path, age: Age) -> None:
    path = tmp_path / "net-0000.params"
    path.write_bytes(params_file(ARRAYS, age))
    content = path.read_bytes()
    places = read_params(path)
    assert list(places) == ["weight", "mean", "bare"]
    for place, array in zip(places.values(), ARRAYS.values(), strict=True):
        assert place.bytes == array.nbytes
        found = np.frombuffer(content, place.dtype, array.size, place.begin).reshape(place.shape)
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)


def test_what_mxnet_itself_writes_is_read(tmp_path: Path) -> None:
    from dlmodels.engines.mxnet_import import import_mxnet  # noqa: PLC0415  the other tests need no mxnet

    mxnet = import_mxnet()
    path = tmp_path / "net-0000.params"
    mxnet.nd.save(str(path), {"arg:a": mxnet.nd.from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3))})
    place = read_params(path)["a"]
    assert (place.dtype, place.shape) == ("float32", (2, 3))
    assert np.array_equal(np.frombuffer(path.read_bytes(), np.float32, 6, place.begin), np.arange(6))


@pytest.mark.parametrize("age", ["now", "1.0", "0.9"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, age: Age) -> None:
    path = tmp_path / "net-0000.params"
    content = params_file(ARRAYS, age)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(LoadError, match=r"copy it again|no \.params file of MXNet|is empty|Copy it again"):
            read_params(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(LoadError, match="arrays end at byte"):
        read_params(path)


def test_damage_in_what_is_not_data_never_ends_in_anything_but_a_load_error(tmp_path: Path) -> None:
    path = tmp_path / "net-0000.params"
    content = params_file(ARRAYS)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << random.integers(8)
        path.write_bytes(damaged)
        try:
            read_params(path)
        except LoadError:
            refused += 1
    assert refused > 100


def test_sparse_arrays_and_foreign_files_are_refused_with_a_cure(tmp_path: Path) -> None:
    path = tmp_path / "net-0000.params"
    sparse = bytearray(params_file(ARRAYS))
    sparse[28:32] = struct.pack("<i", 1)
    for content, expected in (
        (bytes(sparse), "save them as dense ones"),
        (b"PK\x03\x04" + bytes(100), r"net\.export\(\)"),
        (b"\x80\x04\x95" + bytes(100), r"net\.export\(\)"),
    ):
        path.write_bytes(content)
        with pytest.raises(LoadError, match=expected):
            read_params(path)
    with pytest.raises(LoadError, match="put the file back"):
        read_params(tmp_path / "none.params")
