"""The page cache and real files; on a file system that lives in memory nothing can leave it, and that is an error."""

import os
import threading
from pathlib import Path

import pytest
from dlmodels import page_cache
from dlmodels.errors import LoadError
from dlmodels.spec import FileFacts, ModelSpec
from dlserve.worker.files import ModelFiles, PageCacheError, forget

SIZE = 1 << 20


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """A model of two files that are in the page cache."""
    for name in ("net.xml", "net.bin"):
        (tmp_path / name).write_bytes(os.urandom(SIZE))
    facts = {name: FileFacts("", SIZE) for name in ("net.xml", "net.bin")}
    return ModelSpec("net", "test", folder=str(tmp_path), graph="net.xml", weights="net.bin", files=facts)


def held(spec: ModelSpec) -> list[float]:
    """Shares of its files that are in the page cache."""
    shares = []
    for name in (spec.graph, spec.weights):
        with Path(spec.folder, name).open("rb") as file:
            shares.append(page_cache.resident_fraction(file.fileno(), SIZE))
    return shares


def test_a_start_from_disk_finds_no_file_of_the_model_in_the_page_cache(spec: ModelSpec) -> None:
    assert held(spec) == [1.0, 1.0]
    with ModelFiles(drop=True).dropped(spec):
        assert held(spec) == [0.0, 0.0]


def test_without_the_option_nothing_is_dropped(spec: ModelSpec) -> None:
    with ModelFiles(drop=False).dropped(spec):
        assert held(spec) == [1.0, 1.0]


def test_a_file_that_something_maps_stays_and_that_is_said() -> None:
    descriptor = os.memfd_create("in memory")  # as all files of a tmpfs
    try:
        os.write(descriptor, os.urandom(SIZE))
        with pytest.raises(PageCacheError, match=r"keeps 100\.0% of the weights.*without --drop-page-cache"):
            forget(descriptor, "the weights")
    finally:
        os.close(descriptor)


def test_while_one_worker_starts_cold_no_other_reads_the_model(spec: ModelSpec) -> None:
    ours, theirs = ModelFiles(drop=True), ModelFiles(drop=True)
    order: list[str] = []
    waiting = threading.Event()

    def read() -> None:
        waiting.set()
        with theirs.reading(spec):
            order.append("theirs")

    thread = threading.Thread(target=read)
    with ours.dropped(spec):
        thread.start()
        assert waiting.wait(30)
        with ours.reading(spec):  # its own load is what it is for
            order.append("ours")
        assert held(spec) == [0.0, 0.0]
    thread.join(30)
    assert order == ["ours", "theirs"]


def test_a_file_that_is_gone_is_a_load_error(spec: ModelSpec) -> None:
    Path(spec.folder, spec.weights).unlink()
    with pytest.raises(LoadError, match="put the file back"), ModelFiles(drop=True).dropped(spec):
        pass


def test_a_model_without_files_needs_nothing_dropped() -> None:
    with (
        ModelFiles(drop=True).dropped(ModelSpec("sim", "simulated")),
        ModelFiles(drop=True).reading(ModelSpec("s", "s")),
    ):
        pass
