"""dlreport.files: of an earlier report in the same folder nothing is left, and nothing else is touched."""

import hashlib
from pathlib import Path

import pytest
from dlreport.bench import write_bench_report
from dlreport.files import LIST_FILE

from tests.dashboards.bench import builder
from tests.dashboards.bench.builder import BenchResult


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def redrawn(tmp_path: Path) -> tuple[Path, Path]:
    """The result of a bench, and a folder with the report of another one, which has other parts."""
    many = BenchResult(builder.ladder(("vgg16", "vgg19"), ("cpu",), (1, 8))).write(tmp_path / "many")
    few = BenchResult(builder.largest(("vgg16",), ("cpu",))).write(tmp_path / "few")
    write_bench_report(many, tmp_path / "report")
    return few, tmp_path / "report"


def test_what_an_earlier_report_drew_and_this_one_does_not_is_gone(redrawn: tuple[Path, Path], tmp_path: Path) -> None:
    few, report = redrawn
    before = files(report)
    write_bench_report(few, report)
    write_bench_report(few, tmp_path / "fresh")
    assert files(report) == files(tmp_path / "fresh")
    assert {name.partition("/")[0] for name in set(before) - set(files(report))} == {"pictures", "tables"}


def test_a_user_s_files_stay_also_where_they_were_the_report_s_once(redrawn: tuple[Path, Path]) -> None:
    few, report = redrawn
    (report / "pictures/times-1.svg").write_text("<svg>retouched</svg>")
    own = {"pictures/mine.png": b"a picture", "tables/notes.md": b"notes", "notes.txt": b"more"}
    for name, content in own.items():
        (report / name).write_bytes(content)
    write_bench_report(few, report)
    after = files(report)
    assert own.items() <= after.items()
    assert after["pictures/times-1.svg"] == b"<svg>retouched</svg>"
    assert "pictures/times-1.png" not in after


def test_the_list_names_what_was_written_and_can_lead_nowhere_else(redrawn: tuple[Path, Path], tmp_path: Path) -> None:
    few, report = redrawn
    lines = [line.split("  ") for line in (report / LIST_FILE).read_text().splitlines()]
    listed = {name: digest for digest, name in lines}
    found = files(report)
    assert set(listed) == set(found) - {LIST_FILE}
    assert all(hashlib.sha256(found[name]).hexdigest() == digest for name, digest in listed.items())
    (tmp_path / "else.txt").write_bytes(b"else")
    digest = hashlib.sha256(b"else").hexdigest()
    with (report / LIST_FILE).open("a") as file:
        file.writelines(
            f"{digest}  {name}\n" for name in ("../else.txt", "pictures/../../else.txt", str(tmp_path / "else.txt"))
        )
    write_bench_report(few, report)
    assert (tmp_path / "else.txt").read_bytes() == b"else"
