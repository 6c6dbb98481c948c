"""corresp.txt."""

from collections.abc import Callable
from pathlib import Path

import pytest
from dlmodels.errors import RepositoryError
from dlmodels.labels import count_labels, read_labels, write_labels

Write = Callable[[str, bytes | str], Path]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 cat\n1 dog\n2 a bird\n", ("cat", "dog", "a bird")),
        ("2 bird\n0 n01 cat, tabby", ("n01 cat, tabby", "", "bird")),
        ("0 cat\r\n1 dog\r\n\r\n2 bird\r\n", ("cat", "dog", "bird")),
        ("1\n0  spaced\n", (" spaced", "", "")),
        ("", ("", "", "")),
        ("0 Übergröße\n", ("Übergröße", "", "")),
    ],
)
def test_labels_are_split_from_their_index_at_the_first_space(
    write: Write, text: str, expected: tuple[str, ...]
) -> None:
    assert read_labels(write("corresp.txt", text), 3) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 cat\ndog\n", r"line 2: 'dog' does not begin with a class index"),
        ("0 cat\n-1 dog\n", r"line 2: '-1 dog' does not begin"),
        ("0 cat\n\n3 dog\n", r"line 3: there is no class 3 in a model of 3 classes"),
        ("0 cat\n0 dog\n", r"line 2: class 0 has a label already, in line 1"),
        ("99999999999999999999 dog\n", r"line 1: there is no class 999999999999 in"),
    ],
)
def test_bad_lines_are_named(write: Write, text: str, expected: str) -> None:
    with pytest.raises(RepositoryError, match=expected):
        read_labels(write("corresp.txt", text), 3)


def test_a_file_that_is_no_text_or_not_there_is_an_error(write: Write, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="must be a text file in UTF-8"):
        read_labels(write("corresp.txt", b"0 \xff\xfe\n"), 3)
    with pytest.raises(RepositoryError, match="cannot be read"):
        read_labels(tmp_path / "none.txt", 3)


def test_classes_are_counted_by_the_highest_index(write: Write) -> None:
    assert count_labels(write("corresp.txt", "4 e\n0 a\n")) == 5
    with pytest.raises(RepositoryError, match="holds no label"):
        count_labels(write("empty.txt", "\n"))


def test_written_labels_are_read_back(tmp_path: Path) -> None:
    labels = ("cat", "a dog, large", "")
    write_labels(tmp_path / "corresp.txt", labels)
    assert read_labels(tmp_path / "corresp.txt", 3) == labels
