"""The published figures and the package that carries them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from dlreport import published
from dlreport.errors import InstallationError

ROOT = Path(__file__).parents[2]


def test_every_row_is_read() -> None:
    rows = published.load_published()
    assert len(rows) == 470
    assert len({row.ref_id for row in rows}) == 470
    assert {row.comparability for row in rows} <= {"A", "B", "C"}


def test_an_empty_value_is_a_run_that_did_not_happen_not_a_zero() -> None:
    absent = [row for row in published.load_published() if row.value is None]
    assert absent
    assert all("did not run" in row.note for row in absent)


def test_the_stream_figures_are_the_warm_and_the_cold_one_with_their_rates() -> None:
    assert {(row.ref_id, row.value, row.unit) for row in published.stream_figures()} == {
        ("cortex-warm", 3.16, "ms"),
        ("cortex-warm-rate", 300, "1/s"),
        ("cortex-cold", 113.3, "ms"),
        ("cortex-cold-rate", 9, "1/s"),
    }


def test_a_value_read_off_a_chart_says_so() -> None:
    (row,) = (row for row in published.load_published() if row.ref_id == "cortex-gpu-vgg16-b1")
    assert row.remark == "read off a chart (about 10 %)"


def test_an_installation_without_the_files_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(published, "_PLACES", (tmp_path,))
    with pytest.raises(InstallationError, match=r"published\.csv is missing .*install dlserve again"):
        published.load_published()


def test_the_wheel_carries_figures_and_templates_and_reads_them(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import dlreport.page, dlreport.published as published; "
        "dlreport.page.Environment(loader=dlreport.page.PackageLoader('dlreport', 'templates')).get_template('stream.html'); "
        "print(published.__file__, len(published.load_published()))"
    )
    used = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert used.stdout.split() == [str(tmp_path / "site/dlreport/published.py"), "470"]
