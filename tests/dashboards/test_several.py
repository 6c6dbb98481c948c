"""dlreport with several results: a report of each, and a page that leads to them."""

from pathlib import Path

import pytest
from dlclient.results import Reason
from dlreport.cli import main
from dlreport.errors import NotAResultError
from dlreport.several import write_reports

from tests.dashboards.conftest import StreamResult, change_run, drawn
from tests.dashboards.made_benches import failed_point, two_networks
from tests.dashboards.test_stream_report import Page


def small(**more: object) -> StreamResult:
    """A short run."""
    return StreamResult({"warm": drawn("warm", 5, ("a",), {"a": 0.01})}, ("a",), {}, **more)  # type: ignore[arg-type]


def test_each_gets_its_report_and_the_page_leads_to_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = (Reason("errors", "3 requests failed", "look"),)
    folders = [small().write(tmp_path / "x/run one"), small(reasons=reasons).write(tmp_path / "y/run one")]
    assert main([*map(str, folders), "-o", str(tmp_path / "pages")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'pages/report.html'}\n"
    page = Page(tmp_path / "pages/report.html")
    links = [one for one in page.references if not one.startswith("data:")]
    assert set(links) == {"run%20one/report.html", "run%20one-2/report.html"}
    assert "Valid run." in Page(tmp_path / "pages/run one/report.html").text
    assert "Invalid run" in Page(tmp_path / "pages/run one-2/report.html").text
    assert page.text.count("Invalid: do not quote its figures.") == 1
    assert not (folders[0] / "report.html").exists()


def test_a_bench_among_them_is_told_by_its_title_and_its_failures(tmp_path: Path) -> None:
    made = two_networks(1)
    made.points = [*made.points[:-1], failed_point(made.points[-1][0].setting)]
    bench = made.write(tmp_path / "bench")
    written: list[Path] = []

    def write(folder: Path, into: Path | None) -> Path:
        written.append(folder)
        assert into is not None
        return into / "report.html"

    page = Page(
        write_reports([bench, small().write(tmp_path / "run")], tmp_path / "out", {"bench": write, "stream": write})
    )
    assert "A quick suite: 4 of 4 points, 1 failed" in page.text
    assert written == [bench, tmp_path / "run"]


def test_several_without_a_folder_for_the_page_is_a_wrong_command_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(small().write(tmp_path / "a")), str(small().write(tmp_path / "b"))])
    assert ended.value.code == 2


def test_nothing_is_written_where_one_of_them_is_no_result(tmp_path: Path) -> None:
    good, old = small().write(tmp_path / "a"), small().write(tmp_path / "b")
    change_run(old, schema="dlserve-stream/1")
    with pytest.raises(NotAResultError, match="use the version of dlserve that wrote it"):
        write_reports([good, old], tmp_path / "out", {"stream": lambda folder, _: folder})
    assert not (tmp_path / "out").exists()
