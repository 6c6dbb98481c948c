"""dlmodels.limits: bandwidths that were really measured, or a reason why not."""

import itertools
import json
import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dlmodels import page_cache
from dlmodels.cli import main
from dlmodels.engines.torch_transfer import device_copies
from dlmodels.limits import LEAST_REPETITIONS, MIB, MOST_REPETITIONS, measure, repeat

SIZE = 4 * MIB
OF_THE_FILE = ("file_cached", "memory_copy")


def ticking(step_s: float) -> Iterator[float]:
    return itertools.count(0.0, step_s)


def test_the_median_and_the_spread_are_those_of_the_repetitions() -> None:
    times = iter([0.5, 0.1, 0.2] * 10)
    clock = ticking(0.1)
    found = repeat(lambda: next(times), 1000, clock=lambda: next(clock))
    assert found.repetitions == MOST_REPETITIONS
    assert (found.bytes_per_s, found.lowest, found.highest) == (1000 / 0.2, 1000 / 0.5, 1000 / 0.1)


@pytest.mark.parametrize(("step_s", "repetitions"), [(0.01, MOST_REPETITIONS), (1.5, LEAST_REPETITIONS), (25.0, 1)])
def test_a_slow_machine_is_measured_less_often(step_s: float, repetitions: int) -> None:
    clock = ticking(step_s)
    assert repeat(lambda: 1.0, 1, clock=lambda: next(clock)).repetitions == repetitions


def test_every_bandwidth_is_measured_or_has_a_reason(tmp_path: Path) -> None:
    limits = measure(SIZE, tmp_path)
    for name in OF_THE_FILE:
        found = getattr(limits, name)
        assert found.bytes_per_s is not None, found.reason
        assert 0 < found.lowest <= found.bytes_per_s <= found.highest
        assert LEAST_REPETITIONS <= found.repetitions <= MOST_REPETITIONS
    for name in ("file_dropped", "pageable_to_device", "pinned_to_device"):
        found = getattr(limits, name)
        assert (found.bytes_per_s is None) == bool(found.reason)
    assert (limits.schema, limits.size_bytes, limits.machine.file_dir) == ("dlserve-limits/1", SIZE, str(tmp_path))
    assert list(tmp_path.iterdir()) == [], "the file that was read is gone"


def test_a_file_just_written_is_in_the_page_cache_and_one_in_memory_never_leaves_it() -> None:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(10 * mmap.PAGESIZE))
        file.flush()
        assert page_cache.resident_fraction(file.fileno(), 10 * mmap.PAGESIZE) == 1.0
        page_cache.drop(file.fileno())
        assert page_cache.resident_fraction(file.fileno(), 10 * mmap.PAGESIZE) == 1.0
    assert "keeps 100% of the file in memory" in measure(SIZE, Path("/dev/shm")).file_dropped.reason  # noqa: S108


def test_pages_that_were_never_read_are_not_resident(tmp_path: Path) -> None:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.truncate(8 * mmap.PAGESIZE)
        assert page_cache.resident_fraction(file.fileno(), 8 * mmap.PAGESIZE) == 0.0
        file.write(b"x")
        file.flush()
        assert page_cache.resident_fraction(file.fileno(), 8 * mmap.PAGESIZE) > 0.0


def test_the_command_writes_json_and_prints_it_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["limits", "--size", "2", "--file-dir", str(tmp_path), "--output", str(tmp_path / "limits.json")]
    assert main(command) == 0
    assert "memory copy" in capsys.readouterr().out
    written = json.loads((tmp_path / "limits.json").read_text())
    assert written["file_cached"]["bytes_per_s"] > 0
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size_bytes"] == 2 * MIB


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--file-dir", "nowhere"], "--file-dir nowhere: there is no such folder"),
        (["--output", "nowhere/limits.json"], "there is no folder nowhere; make it first"),
        (["--size", "65536"], "--size is wanted"),
    ],
)
def test_what_cannot_be_measured_is_told_before_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["limits", *arguments]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-1", "much", "65537", "²"])
def test_a_size_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], size: str) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["limits", f"--size={size}"])
    assert raised.value.code == 2
    assert "is no number of MiB between 1 and 65536" in capsys.readouterr().err


@pytest.mark.gpu
def test_pinned_memory_reaches_the_gpu_and_no_slower_than_pageable() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU on this machine")
    size = 64 * MIB
    name, copies = device_copies(0, size)
    assert name
    pageable, pinned = (repeat(copies[kind], size) for kind in ("pageable", "pinned"))
    assert pageable.highest is not None
    assert pinned.highest is not None
    assert pinned.highest > pageable.highest
