"""What items stand for, and which of them are refused."""

import base64
import os
from pathlib import Path

import pytest
from dlserve.messages import Item, ItemKind
from dlserve.worker.failures import InputError
from dlserve.worker.inputs import InputReader


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with files, class folders and links; beside it a secret."""
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "root-not").mkdir()
    (tmp_path / "root-not" / "x.jpg").write_bytes(b"neighbour")
    root = tmp_path / "root"
    for name in ("flat/b.jpg", "flat/a.jpg", "flat/.hidden", "classes/dog/2.jpg", "classes/cat/1.jpg", "classes/0.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    (root / "single").mkdir()
    (root / "single" / "only.jpg").write_bytes(b"only")
    (root / "empty").mkdir()
    (root / "deep/one/two").mkdir(parents=True)
    (root / "deep/one/two/x.jpg").write_bytes(b"x")
    (root / "link-out").symlink_to(tmp_path / "secret.jpg")
    (root / "link-in").symlink_to(root / "flat" / "a.jpg")
    (root / "folder-out").symlink_to(tmp_path / "root-not")
    (root / "loop").symlink_to(root / "loop")
    (root / "traitor").mkdir()
    (root / "traitor" / "x.jpg").symlink_to(tmp_path / "secret.jpg")
    os.mkfifo(root / "pipe")
    return root


def read(reader: InputReader, kind: ItemKind, *payloads: bytes) -> list[tuple[str, bytes]]:
    """Each image's uri and bytes, of a call with these items."""
    uris = [payload.decode("utf-8", "replace") if kind == "path" else str(n) for n, payload in enumerate(payloads)]
    items = [Item(kind, len(payload), uri) for payload, uri in zip(payloads, uris, strict=True)]
    found = reader.sources(items, memoryview(b"".join(payloads)))
    return [(source.uri, bytes(reader.read(source))) for source in found.images]


def reader_of(*roots: Path, max_images: int = 100, max_file_bytes: int = 1000) -> InputReader:
    """A reader with small limits."""
    return InputReader([str(root) for root in roots], max_images, max_file_bytes)


def test_bytes_are_handed_on_without_a_copy() -> None:
    body = bytearray(b"onetwo")
    found = reader_of().sources([Item("bytes", 3, "0"), Item("bytes", 3, "1")], memoryview(body))
    body[3:] = b"TWO"
    assert [bytes(reader_of().read(source)) for source in found.images] == [b"one", b"TWO"]
    assert not found.expanded


def test_base64_is_undone() -> None:
    payloads = [b"", b"a", b"ab", b"abc", bytes(range(256))]
    assert [data for _, data in read(reader_of(), "base64", *map(base64.b64encode, payloads))] == payloads


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"YWI", id="no padding"),
        pytest.param(b"YWI=YWI=", id="more after the padding"),
        pytest.param(b"Y-_=", id="url-safe alphabet"),
        pytest.param(b"YW\nI=", id="line end"),
        pytest.param(b"data:image/png;base64,YWI=", id="data uri"),
        pytest.param(b" YWI=", id="blank"),
        pytest.param("YWé=".encode(), id="not ascii"),
        pytest.param(b"=", id="only padding"),
        pytest.param(b"Y", id="one character"),
    ],
)
def test_what_is_not_strictly_base64_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(InputError, match=r"1: not base64 .*standard alphabet with padding"):
        read(reader_of(), "base64", b"YWI=", text)


def test_files_and_links_below_a_root_are_read(root: Path) -> None:
    paths = [str(root / "flat/a.jpg"), str(root / "link-in"), str(root / "flat/../flat/b.jpg")]
    found = read(reader_of(root), "path", *[path.encode() for path in paths])
    assert found == list(zip(paths, [b"flat/a.jpg", b"flat/a.jpg", b"flat/b.jpg"], strict=True))


def test_a_directory_is_its_files_sorted_and_hidden_ones_left_out(root: Path) -> None:
    assert read(reader_of(root), "path", f"{root}/flat".encode()) == [
        (f"{root}/flat/a.jpg", b"flat/a.jpg"),
        (f"{root}/flat/b.jpg", b"flat/b.jpg"),
    ]


def test_class_folders_count_one_level_deep(root: Path) -> None:
    uris = [uri for uri, _ in read(reader_of(root), "path", f"{root}/classes/".encode())]
    assert uris == [f"{root}/classes/{name}" for name in ("0.jpg", "cat/1.jpg", "dog/2.jpg")]


def test_a_directory_with_one_image_keeps_its_own_uri(root: Path) -> None:
    assert read(reader_of(root), "path", f"{root}/single".encode()) == [(f"{root}/single", b"only")]


def test_expansion_keeps_the_order_of_the_items_and_is_reported(root: Path) -> None:
    reader = reader_of(root)
    paths = [f"{root}/single/only.jpg", f"{root}/flat", f"{root}/classes/0.jpg"]
    items = [Item("path", len(path), path) for path in paths]
    found = reader.sources(items, memoryview("".join(paths).encode()))
    assert found.expanded
    assert [Path(source.uri).name for source in found.images] == ["only.jpg", "a.jpg", "b.jpg", "0.jpg"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        pytest.param("{root}/../secret.jpg", "not below an allowed folder", id="dots out"),
        pytest.param("{root}/../absent.jpg", "not below an allowed folder", id="what lies outside is not told"),
        pytest.param("{root}/../root-not/x.jpg", "not below an allowed folder", id="a root's name is no prefix"),
        pytest.param("{root}/link-out", "not below an allowed folder", id="link to a file outside"),
        pytest.param("{root}/folder-out/x.jpg", "not below an allowed folder", id="file through a linked folder"),
        pytest.param("{root}/folder-out", "not below an allowed folder", id="linked folder"),
        pytest.param("{root}/traitor", "not below an allowed folder", id="folder that holds a link outside"),
        pytest.param("/etc/passwd", "not below an allowed folder", id="system file"),
        pytest.param("/proc/self/root/etc/passwd", "not below an allowed folder", id="through proc"),
        pytest.param("flat/a.jpg", "must be an absolute path", id="relative"),
        pytest.param("{root}/flat/a.jpg\0.png", "must be an absolute path", id="zero byte"),
        pytest.param("", "must be an absolute path", id="nothing"),
        pytest.param("{root}/absent.jpg", "cannot be read: No such file", id="absent"),
        pytest.param("{root}/" + "x" * 300, "cannot be read: File name too long", id="name too long"),
        pytest.param("{root}/loop", "cannot be read: Too many levels", id="link to itself"),
        pytest.param("{root}/pipe", "not a file", id="named pipe"),
        pytest.param("{root}/empty", "an empty directory", id="empty folder"),
        pytest.param("{root}/deep", "one level deep", id="folders too deep"),
    ],
)
def test_a_path_is_refused(root: Path, path: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(reader_of(root), "path", path.format(root=root).encode())


def test_a_path_that_is_no_text_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="UTF-8"):
        read(reader_of(root), "path", str(root).encode() + b"/\xff")


def test_without_a_root_no_path_is_served(root: Path) -> None:
    with pytest.raises(InputError, match="--data-root"):
        read(reader_of(), "path", f"{root}/flat/a.jpg".encode())


def test_a_root_that_is_itself_a_link_is_followed_once(root: Path) -> None:
    link = root.parent / "link-to-root"
    link.symlink_to(root)
    assert read(reader_of(link), "path", f"{link}/flat/a.jpg".encode()) == [(f"{link}/flat/a.jpg", b"flat/a.jpg")]


def test_a_file_above_the_limit_is_refused_with_both_sizes(root: Path) -> None:
    (root / "large.jpg").write_bytes(bytes(1001))
    with pytest.raises(InputError, match=r"1001 bytes, at most 1000 .*--max-body-mb"):
        read(reader_of(root), "path", f"{root}/large.jpg".encode())


@pytest.mark.parametrize("files", [7, 40])
def test_a_directory_with_too_many_images_is_refused(root: Path, files: int) -> None:
    (root / "many").mkdir()
    for number in range(files):
        (root / "many" / f"{number}.jpg").touch()
    with pytest.raises(InputError, match="more than 6 images"):
        read(reader_of(root, max_images=6), "path", f"{root}/many".encode())


def test_a_file_name_that_is_no_text_gets_a_printable_uri(root: Path) -> None:
    folder = root / "names"
    folder.mkdir()
    for name in (b"\xff.jpg", b"a.jpg"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)
    found = read(reader_of(root), "path", f"{folder}".encode())
    assert found == [(f"{folder}/a.jpg", b"a.jpg"), (f"{folder}/�.jpg", b"\xff.jpg")]


def test_a_long_uri_is_cut_in_messages() -> None:
    with pytest.raises(InputError) as caught:
        reader_of().read(reader_of().sources([Item("base64", 1, "u" * 5000)], memoryview(b"Y")).images[0])
    assert len(str(caught.value)) < 500
