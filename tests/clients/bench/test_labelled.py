"""dlclient.bench.labelled: both layouts, every way to name a class, and what is wrong with a folder in a sentence."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from dlclient.bench.labelled import read_dataset
from dlclient.errors import PointError

LABELS = ("n01440764 tench", "n01443537 goldfish", "n02012849 crane", "n03126707 crane", "")


def put(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def truths(folder: Path, labels: tuple[str, ...] = LABELS, classes: int = 5) -> dict[str, int]:
    return {image.name: image.truth for image in read_dataset(folder, labels, classes).images}


def test_folders_of_classes_may_be_named_by_index_synset_label_or_what_follows_the_synset(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "4/a.png": "",
            "n01443537/b.png": "",
            "n02012849 crane/c.png": "",
            "tench/d.png": "",
            "tench/.hidden": "",
            ".git/x.png": "",
            "0003/e.png": "",
            "notes.txt": "",
        },
    )
    assert truths(tmp_path) == {
        "4/a.png": 4,
        "n01443537/b.png": 1,
        "n02012849 crane/c.png": 2,
        "tench/d.png": 0,
        "0003/e.png": 3,
    }


@pytest.mark.parametrize("name", ["val.txt", "ground_truth.txt"])
def test_a_flat_folder_is_read_by_its_list(tmp_path: Path, name: str) -> None:
    put(
        tmp_path,
        {
            name: "one.png 4\n\n  two.png n02012849 crane\nsub/three.png tench\n",
            "one.png": "",
            "two.png": "",
            "sub/three.png": "",
            "extra.png": "",
        },
    )
    found = read_dataset(tmp_path, LABELS, 5)
    assert {image.name: image.truth for image in found.images} == {"one.png": 4, "two.png": 2, "sub/three.png": 0}
    assert found.unlisted == 1
    assert found.images[0].path == tmp_path / "one.png"


def test_synsets_are_known_by_the_list_beside_the_images_where_labels_have_none(tmp_path: Path) -> None:
    put(tmp_path, {"synset_words.txt": "n01440764 tench, Tinca tinca\nn01443537 goldfish\n", "n01443537/a.png": ""})
    assert truths(tmp_path, ("tench", "goldfish"), 2) == {"n01443537/a.png": 1}
    with pytest.raises(PointError, match="each of the model's 3 classes, and has 2 lines"):
        truths(tmp_path, ("tench", "goldfish", "shark"), 3)


def test_the_same_names_and_classes_are_the_same_dataset_and_a_changed_label_is_another(tmp_path: Path) -> None:
    flat = put(tmp_path / "set", {"val.txt": "a.png 0\nb.png 1\n", "a.png": "", "b.png": ""})
    before = read_dataset(flat, (), 5).name
    assert before.startswith("set sha256:")
    put(flat, {"val.txt": "b.png 1\na.png tench\n"})
    assert read_dataset(flat, LABELS, 5).name == before
    put(flat, {"val.txt": "b.png 1\na.png 2\n"})
    assert read_dataset(flat, LABELS, 5).name != before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"val.txt": "a.png\n"}, r"val.txt, line 1: 'a.png' is no `name label`"),
        ({"val.txt": "a.png 0\n\na.png 1\n"}, r"val.txt, line 3: a.png was listed before"),
        ({"val.txt": "a.png 0\n"}, r"lists 1 images that are not there, such as a.png"),
        ({"val.txt": "", "ground_truth.txt": ""}, r"holds both val.txt and ground_truth.txt"),
        ({"val.txt": "a.png 5\n"}, r"'5' is no index below 5"),
        ({"crane/a.png": ""}, r"'crane' is the label of the classes 2, 3"),
        ({"goldfihs/a.png": ""}, r"'goldfihs' is unknown \(near: 'goldfish'\)"),
        ({"v/a": "", "w/a": "", "x/a": "", "y/a": ""}, r"'x' is unknown; and 1 more\. Give indices"),
        ({"a.png": ""}, r"holds no labelled images: it needs folders of classes"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path, files: Mapping[str, str], message: str) -> None:
    with pytest.raises(PointError, match=message) as caught:
        truths(put(tmp_path, files))
    assert caught.value.kind == "error"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PointError, match="check `dataset`"):
        truths(tmp_path / "absent")
