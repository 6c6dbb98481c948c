"""Headers of safetensors files."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from dlmodels.engines.safetensors_file import read_tensor_file
from dlmodels.errors import LoadError
from numpy.typing import NDArray

Write = Callable[[str, bytes | str], Path]


def file_of(header: object, data: bytes, pad: int = 0) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text + b" " * pad).to_bytes(8, "little") + text + b" " * pad + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_tensors_are_where_the_library_put_them(tmp_path: Path) -> None:
    tensors: dict[str, NDArray[np.generic]] = {
        "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.count": np.array(7, np.int64),
        "c": np.zeros((2, 0), np.float32),
        "half": np.ones(3, np.float16),
    }
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    content = path.read_bytes()
    file = read_tensor_file(path)
    assert file.stamp.bytes == len(content)
    assert {place.name: place.shape for place in file.tensors} == {name: value.shape for name, value in tensors.items()}
    for place in file.tensors:
        assert content[place.begin : place.end] == tensors[place.name].tobytes()
    file.check_unchanged()


@pytest.mark.parametrize(("metadata", "expected"), [(None, False), ({"layout": "channels_last"}, True)])
def test_the_layout_of_filters_is_told_in_the_metadata(
    tmp_path: Path, metadata: dict[str, str] | None, expected: bool
) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": np.ones(5, np.float32)}, path, metadata)
    assert read_tensor_file(path).channels_last is expected


def test_a_layout_that_is_not_known_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": np.ones(5, np.float32)}, path, {"layout": "spiral"})
    with pytest.raises(LoadError, match="has the layout 'spiral', which is not known here"):
        read_tensor_file(path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": np.ones(5, np.float32), "b": np.ones(2, np.int64)}, path)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(LoadError, match="no whole safetensors file"):
            read_tensor_file(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no tensor|header"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "its header does not fit into it"),
        (file_of("not json", b""), "its header is not what it should be"),
        (file_of([1], b""), "its header is not what it should be"),
        (file_of({}, b""), "it holds no tensor"),
        (file_of({"__metadata__": {"a": "b"}}, b""), "it holds no tensor"),
        (file_of({"a": {"dtype": "F32"}}, b""), "missing required field"),
        (file_of({"a": entry("F8", [1], 0, 1)}, b"x"), "tensor 'a' has the type F8: convert it to F32"),
        (file_of({"a": entry("U8", [2], 0, 1)}, b"x"), "tensor 'a' of shape (2,) has 1 bytes"),
        (file_of({"a": entry("U8", [-1], 0, 1)}, b"x"), "is not where the one before it ends"),
        (file_of({"a": entry("U8", [1], 1, 2)}, b"xx"), "is not where the one before it ends"),
        (file_of({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 0, 1)}, b"x"), "is not where the one before it"),
        (file_of({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, b"xxx"), "is not where the one before it"),
        (file_of({"a": entry("U8", [1], 0, 1)}, b"xx"), "bytes where its header speaks of"),
        (file_of({"a": entry("U8", [1], 0, 1), "b": entry("F32", [1], 1, 5)}, b"x" * 5), "tensor 'b' is not aligned"),
    ],
)
def test_a_malformed_file_is_refused_with_what_is_wrong(write: Write, content: bytes, expected: str) -> None:
    pattern = expected if "|" in expected else re.escape(expected)
    with pytest.raises(LoadError, match=pattern):
        read_tensor_file(write("w.safetensors", content))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="put the file back"):
        read_tensor_file(tmp_path / "none")


def test_a_file_that_changed_since_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"a": np.ones(5, np.float32)}, path)
    file = read_tensor_file(path)
    safetensors.numpy.save_file({"a": np.ones(6, np.float32)}, path)
    with pytest.raises(LoadError, match="has changed since it was checked"):
        file.check_unchanged()
