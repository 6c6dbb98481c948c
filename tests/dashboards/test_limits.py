"""dlreport.stream.limits: a load beside what this machine can move, only where both are known."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dlclient.limits import LIMITS_FILE, Bandwidth, Limits, Machine
from dlreport.errors import NotAResultError
from dlreport.stream import write_report
from dlreport.stream.limits import path_of

from tests.dashboards.conftest import ENVIRONMENT, INFO, StreamResult, record

CACHED, DROPPED, PINNED = 10e9, 2e9, 50e9
NONE = {"bytes_per_s": None, "reason": "no NVIDIA GPU"}


def limits(**more: Any) -> dict[str, Any]:
    return {
        "schema": "dlserve-limits/1",
        "measured": "2026-11-23T01:00:00+00:00",
        "machine": {"host": ENVIRONMENT.host, "cpu_model": "Example CPU 8000", "cpu_cores": 8},
        "size_bytes": 268_435_456,
        "file_cached": {"bytes_per_s": CACHED},
        "file_dropped": {"bytes_per_s": DROPPED},
        "memory_copy": {"bytes_per_s": CACHED},
        "pageable_to_device": NONE,
        "pinned_to_device": NONE,
    } | more


def streamed(folder: Path, kept: dict[str, Any] | None, load_s: float = 0.010, **more: Any) -> Path:
    """One model of 50 MB: warm forwards of 20 ms, cold ones that take `load_s` longer."""
    warm = {"stages": {"load": 0.0, "forward": 0.020}}
    cold = {"stages": {"load": load_s / 2, "forward": 0.020 + load_s / 2}}
    phases = {
        phase: [
            record(phase, index, index * 0.1, 0.05, "a", **(warm if phase == "warm" else cold)) for index in range(20)
        ]
        for phase in ("warm", "host", "disk")
    }
    path = replace(StreamResult(phases, ("a",), {"a": 50_000_000}), **more).write(folder)
    if kept is not None:
        (path / LIMITS_FILE).write_text(json.dumps(kept))
    return path


def info(**own: Any) -> dict[str, object]:
    server: dict[str, object] = INFO["dlserve"]  # type: ignore[assignment]  # the server's own words carry no types
    return INFO | {"dlserve": server | own}


def row(folder: Path, phase: str) -> dict[str, str]:
    write_report(folder)
    with (folder / "tables/limits.csv").open(newline="") as lines:
        return next(row for row in csv.DictReader(lines) if row["phase"] == phase)


def test_a_load_stands_beside_its_limit_and_as_a_fraction_of_it(tmp_path: Path) -> None:
    found = row(streamed(tmp_path, limits()), "cold from disk")
    assert float(found["load_s"]) == pytest.approx(0.010)
    assert float(found["limit_s"]) == pytest.approx(50e6 / CACHED)
    assert float(found["fraction_of_limit"]) == pytest.approx(0.5)
    assert found["path"] == "file read, page cache warm"
    assert "50.0" in (tmp_path / "tables/limits.md").read_text()


def test_a_server_that_drops_the_page_cache_is_held_against_the_disk(tmp_path: Path) -> None:
    found = row(streamed(tmp_path, limits(), 0.050, info=info(drop_page_cache=True)), "cold from disk")
    assert float(found["limit_bytes_per_s"]) == DROPPED
    assert float(found["fraction_of_limit"]) == pytest.approx(0.5)


def test_on_a_gpu_the_slowest_part_of_the_way_sets_the_limit(tmp_path: Path) -> None:
    workers = [{"worker": 0, "device": "cuda:0", "device_name": "Example GPU"}]
    kept = limits(pinned_to_device={"bytes_per_s": PINNED})
    folder = streamed(tmp_path, kept, info=info(workers=workers))
    assert float(row(folder, "cold from host memory")["limit_bytes_per_s"]) == PINNED
    assert float(row(folder, "cold from disk")["limit_bytes_per_s"]) == CACHED


def test_what_was_not_measured_is_missing_with_its_reason_not_zero(tmp_path: Path) -> None:
    found = row(streamed(tmp_path, limits()), "cold from host memory")
    assert (found["limit_s"], found["fraction_of_limit"]) == ("", "")
    assert "pinned memory to GPU was not measured: no NVIDIA GPU" in (tmp_path / "tables/limits.md").read_text()


def test_no_fraction_is_given_where_the_noise_is_larger_than_the_load(tmp_path: Path) -> None:
    found = row(streamed(tmp_path, limits(), 0.0), "cold from disk")
    assert (found["load_s"], found["fraction_of_limit"]) == ("", "")
    assert "not seen" in (tmp_path / "tables/limits.md").read_text()


@pytest.mark.parametrize(
    ("kept", "more", "says"),
    [
        (None, {}, "dlmodels limits --output limits.json"),
        (limits(), {"simulated": True}, "A simulated device answered"),
        (limits(), {}, "Measured on bench-1 (Example CPU 8000, 8 cores)"),
        (
            limits(machine={"host": "other", "cpu_model": "c", "cpu_cores": 1}),
            {},
            "another machine than the one that served",
        ),
    ],
)
def test_the_page_says_where_the_limits_are_from_or_how_to_get_them(
    tmp_path: Path, kept: dict[str, Any] | None, more: dict[str, Any], says: str
) -> None:
    assert says in write_report(streamed(tmp_path, kept, **more)).read_text()
    assert (tmp_path / "tables/limits.md").exists() == (kept is not None and not more)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAResultError, match=r"limits\.json has schema 'x'"):
        write_report(streamed(tmp_path, limits(schema="x")))


def test_a_way_of_which_one_part_is_unknown_has_no_pace() -> None:
    known = Limits(
        schema="",
        measured="",
        machine=Machine(host="", cpu_model="", cpu_cores=1),
        size_bytes=1,
        file_cached=Bandwidth(bytes_per_s=1.0),
        file_dropped=Bandwidth(bytes_per_s=2.0),
        memory_copy=Bandwidth(bytes_per_s=3.0),
        pageable_to_device=Bandwidth(bytes_per_s=None),
        pinned_to_device=Bandwidth(bytes_per_s=None),
    )
    assert path_of("disk", known, on_gpu=True, drops_page_cache=False).slowest is None
    assert path_of("disk", known, on_gpu=False, drops_page_cache=False).slowest == ("file read, page cache warm", 1.0)
