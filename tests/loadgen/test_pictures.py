"""dlload.pictures: which images there are, and what they hold."""

from pathlib import Path

import pytest
from dlclient.errors import ClientError
from dlload import pictures
from dlload.errors import ImagesError
from dlload.pictures import digest, open_album


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_a_folder_gives_its_images_in_order_with_those_of_its_subfolders(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "a.PNG", "cats/c.jpeg", "notes.txt", "cats/.hidden", "z.webp")
    album = open_album(str(tmp_path))
    assert album.names == ("a.PNG", "b.jpg", "cats/c.jpeg", "z.webp")
    assert album.source == str(tmp_path)


def test_only_the_images_of_the_plan_are_read(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    album = open_album(str(tmp_path))
    (tmp_path / "b.jpg").unlink()
    assert album.read(["c.jpg", "a.jpg", "c.jpg"]) == {"a.jpg": b"a.jpg", "c.jpg": b"c.jpg"}


@pytest.mark.parametrize(("names", "says"), [([], "no image in it"), (["a.txt"], r"no image in it; \.bmp, \.jpeg")])
def test_a_folder_without_images_says_what_is_looked_for(tmp_path: Path, names: list[str], says: str) -> None:
    make(tmp_path, *names)
    with pytest.raises(ImagesError, match=says):
        open_album(str(tmp_path))


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match="no such folder"):
        open_album(str(tmp_path / "nowhere"))


def test_an_empty_file_is_told_before_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ImagesError, match=r"a\.jpg is empty"):
        open_album(str(tmp_path)).read(["a.jpg"])


def test_a_vanished_file_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    album = open_album(str(tmp_path))
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(ImagesError, match=r"cannot read .*a\.jpg"):
        album.read(["a.jpg"])


def test_the_sample_is_the_photographs_by_name() -> None:
    album = open_album("sample")
    assert len(album.names) == 48
    assert list(album.read(["coffee-320.jpg", "astronaut-500.jpg"])) == ["astronaut-500.jpg", "coffee-320.jpg"]


def test_equal_digests_mean_the_same_pictures() -> None:
    pictures = {"a": b"1", "b": b"23"}
    assert digest(pictures) == digest(dict(pictures))
    others = [{"a": b"12", "b": b"3"}, {"b": b"23", "a": b"1"}, {"c": b"1", "b": b"23"}, {"a": b"1"}]
    assert digest(pictures) not in [digest(other) for other in others]


@pytest.mark.parametrize("source", ["x" * 5000, "~nobody-of-that-name/pictures"])
def test_a_name_that_can_be_no_folder_is_told(source: str) -> None:
    with pytest.raises(ImagesError, match="name a folder with images in it"):
        open_album(source)


@pytest.mark.parametrize("failure", [ClientError("no scikit-image"), OSError(5, "Input/output error")])
def test_sample_photographs_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail() -> dict[str, bytes]:
        raise failure

    monkeypatch.setattr(pictures, "sample_images", fail)
    with pytest.raises(ImagesError, match=r"--images sample: .*or name a folder of images"):
        open_album("sample").read(["x"])
