"""dlclient.limits: what `dlmodels limits` wrote is read back, and what cannot be is told with place and cure."""

import json
import subprocess
from pathlib import Path

import pytest
from dlclient.errors import ResultError
from dlclient.limits import LIMITS_FILE, kept_limits, read_limits
from dlmodels import limits as measured

from tests.conftest import COMMANDS, DEADLINE_S

NONE = {"bytes_per_s": None, "reason": "no NVIDIA GPU"}
GOOD = {
    "schema": "dlserve-limits/1",
    "measured": "2026-11-23T01:00:00+00:00",
    "machine": {"host": "h", "cpu_model": "c", "cpu_cores": 2},
    "size_bytes": 1 << 28,
    "file_cached": {"bytes_per_s": 9e9, "lowest": 8e9, "highest": 1e10, "repetitions": 5},
    "file_dropped": NONE,
    "memory_copy": {"bytes_per_s": 12e9},
    "pageable_to_device": NONE,
    "pinned_to_device": NONE,
}


def test_what_the_command_writes_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / LIMITS_FILE
    command = [str(COMMANDS / "dlmodels"), "limits", "--size", "8", "--file-dir", str(tmp_path), "--output", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    read = kept_limits(tmp_path)
    assert read is not None
    assert (read.schema, read.size_bytes) == (measured.SCHEMA, 8 << 20)
    assert read.file_cached.bytes_per_s is not None
    assert f"{read.file_cached.bytes_per_s / 1e9:.2f} GB/s" in done.stdout
    assert read.machine.file_dir == str(tmp_path)


def test_a_result_without_limits_has_none(tmp_path: Path) -> None:
    assert kept_limits(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "holds no limits of a machine"),
        ("[]", "holds no limits of a machine"),
        ("{}", "has schema ''"),
        (json.dumps(GOOD | {"schema": "dlserve-limits/2"}), "'dlserve-limits/2', this version reads"),
        (json.dumps(GOOD | {"file_cached": {}}), "bytes_per_s"),
        (json.dumps(GOOD | {"file_cached": {"bytes_per_s": 0}}), "file_cached of 0 bytes/s is no bandwidth"),
        (json.dumps(GOOD | {"memory_copy": {"bytes_per_s": -1.0}}), "memory_copy of -1 bytes/s is no bandwidth"),
    ],
)
def test_a_file_that_is_none_is_told_with_the_command_that_makes_one(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / LIMITS_FILE
    path.write_text(content)
    with pytest.raises(ResultError, match=says) as raised:
        read_limits(path)
    assert f"dlmodels limits --output {path}" in str(raised.value)


def test_a_good_file_is_taken_and_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / LIMITS_FILE
    path.write_text(json.dumps(GOOD | {"colour": "blue"}))
    assert read_limits(path).file_dropped.reason == "no NVIDIA GPU"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"cannot read .*No such file.*dlmodels limits --output"):
        read_limits(tmp_path / "nowhere.json")
