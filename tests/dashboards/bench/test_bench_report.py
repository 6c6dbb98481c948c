"""The report of a bench: its page, its files, and what they say of a bench that nobody should quote."""

import base64
import hashlib
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from dlclient.bench_result import Point, Setting
from dlclient.results import Reason
from dlreport.bench import write_bench_report
from dlreport.bench.pictures.across import draw_across
from dlreport.bench.pictures.panel import MOST_SERIES, Grid, Series, batch_axis, draw_series
from dlreport.bench.pictures.times import draw_times
from dlreport.bench.report import frame
from dlreport.bench.view import load_bench
from dlreport.cli import main
from dlreport.style import Frame, house_style, sheet

from tests.dashboards.bench import builder
from tests.dashboards.bench.builder import BenchResult, failed, point
from tests.dashboards.conftest import read_rows
from tests.dashboards.test_cli import dlreport
from tests.dashboards.test_stream_report import HOSTILE, Page

PICTURES = {
    "across-1", "busy-1", "busy-time-1", "cost", "devices-1", "gain-1", "largest-1", "loads-1", "memory-time-1", "throughput-1", "times-1",
    "times-2", "tradeoff-1", "tradeoff-2",
}  # fmt: skip


def test_the_parts_are_those_that_the_points_ask_for_in_one_order(small: Path) -> None:
    text = Page(small / "report.html").text
    order = [
        "At most 3,",
        "Time per image by network and batch",
        "One network across devices",
        "Gain from batching",
        "What the networks cost",
        "Throughput",
        "Largest batch that fits",
        "How right the answers are",
        "Accuracy against throughput",
        "How busy the machine was",
        "Loading and the first inference",
        "All points",
        "What failed",
        "What cannot be trusted, or only with care",
        "How it was measured",
        "Definitions",
    ]
    headings = re.findall(r"<h[12]>(.*?)</h[12]>", (small / "report.html").read_text())
    assert "At most" in headings[0]
    assert headings[1:] == order[1:]
    assert "points failed." in text


def test_every_picture_is_there_as_png_and_svg_and_says_in_words_what_it_shows(small: Path) -> None:
    files = {path.name for path in (small / "pictures").iterdir()}
    assert files == {f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")}
    page = Page(small / "report.html")
    assert len(page.pictures) == len(PICTURES)
    spoken = {alt.partition(".")[0]: alt for alt, _ in page.pictures}
    assert "vgg16, cpu: batch 1 264 ms" in spoken["One network across devices"]
    assert "batch 8 18.1 ms" not in spoken["One network across devices"]


def test_the_tables_are_there_as_csv_and_markdown(small: Path) -> None:
    names = {path.stem for path in (small / "tables").iterdir()}
    assert {
        "times",
        "gain",
        "cost",
        "largest",
        "accuracy",
        "tradeoff",
        "utilization",
        "loads",
        "points",
        "failures",
        "doubts",
    } == names
    assert {path.suffix for path in (small / "tables").iterdir()} == {".csv", ".md"}
    rows = read_rows(small / "tables/times.csv")
    own = [row for row in rows if row["measured_on"] == "cpu" and row["model"] == "vgg16"]
    assert float(own[0]["batch_8_s"]) == pytest.approx(builder.forward_s("vgg16", "cpu", 8) / 8)
    assert own[0]["batch_128_s"] == ""


def test_an_x_has_its_reason_where_one_points_at_it(small: Path) -> None:
    source = (small / "report.html").read_text()
    assert re.search(r'<abbr title="out of memory in stage warm-up: batch 128 needs more memory[^"]*">x</abbr>', source)


def test_the_page_holds_all_it_needs_and_runs_no_script_but_its_own(tuning: Path) -> None:
    page = Page(tuning / "report.html")
    assert all(reference.startswith("data:") for reference in page.references)
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.source


def test_a_bench_that_has_not_finished_says_so_on_the_page_and_on_its_pictures(tuning: Path) -> None:
    page = Page(tuning / "report.html")
    assert "44 of 47 points are here" in page.text
    assert "--resume" in page.text
    assert frame(load_bench(tuning)).stamps == ("UNFINISHED",)


def test_a_simulated_bench_says_so(tmp_path: Path) -> None:
    made_up = [msgspec.structs.replace(one, simulated=True) for one in builder.loads(("vgg16",))]
    page = Page(write_bench_report(BenchResult(made_up).write(tmp_path)))
    assert "Simulated device." in page.text
    assert read_rows(tmp_path / "tables/points.csv")[0]["outcome"] == "simulated"


@pytest.mark.parametrize(
    "points",
    [
        [],
        [failed(Setting(model="a"), "crash"), failed(Setting(model="a", batch_size=2), "error")],
        [point(Setting(model="a"), 0.01)],
        [point(Setting(model="a", question="utilization"), 0.01)],
        [point(Setting(model="a", batch_size=size), 1e-7 * size) for size in (1, 2)],
        [point(Setting(model="a", target="http://127.0.0.1:9", engine="", device="", input="raw"), 1e4)],
    ],
    ids=["nothing", "only failures", "one point", "watched without a counter", "equal and tiny", "a server"],
)
def test_a_bench_of_little_has_a_page_all_the_same(tmp_path: Path, points: list[Point]) -> None:
    page = Page(write_bench_report(BenchResult(points).write(tmp_path)))
    assert "Definitions" in page.text


def test_equal_results_give_equal_files_and_the_folder_is_only_read(tmp_path: Path) -> None:
    again = BenchResult(builder.loads(("vgg16",)), changes={"reproduces": "dli"})
    first, second = again.write(tmp_path / "first"), again.write(tmp_path / "second")
    one, two = write_bench_report(first, tmp_path / "one"), write_bench_report(second, tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert (tmp_path / "one/pictures/loads-1.png").read_bytes() == (tmp_path / "two/pictures/loads-1.png").read_bytes()
    assert not (first / "report.html").exists()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_as_text(tmp_path: Path, hostile: str) -> None:
    wrong = Reason(hostile, hostile, hostile)
    setting = Setting(model=hostile, engine=hostile, device=hostile, options={hostile: hostile}, question="load")
    points = [
        point(setting, 0.01, reasons=(wrong,), read_back={hostile: hostile}),
        failed(msgspec.structs.replace(setting, model=hostile + "2"), text=hostile),
    ]
    page = Page(write_bench_report(BenchResult(points, changes={"title": hostile, "name": hostile}).write(tmp_path)))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert " ".join(hostile.split()) in " ".join(page.text.split())


def test_no_panel_holds_more_series_than_can_be_told_apart(tmp_path: Path) -> None:
    names = [f"net{number}" for number in range(12)]
    view = load_bench(BenchResult(builder.ladder(names, ("cpu",), (1, 2))).write(tmp_path))
    with house_style():
        (only,) = draw_times(view, Frame("foot"), tmp_path)
        assert draw_across(view, Frame("foot"), tmp_path) == []  # one place, and nothing published of these networks
    assert all(name in only.alt for name in names)
    assert MOST_SERIES < 7


def test_a_figure_that_is_not_to_quote_is_hollow_and_off_the_line() -> None:
    with house_style():
        grid = Grid(1, 1)
        axes = grid.axes(sheet("title", "subtitle", Frame("foot"), grid.plot_height_in), 0, 0)
        batch_axis(axes, (1, 2, 4))
        axes.set_ylim(0, 10)
        draw_series(axes, [Series("a", ((1, 5.0, True), (2, 1.0, False), (4, 4.0, True)), failed=(2,))])
    line, *marks, cross = axes.lines
    assert np.array_equal(line.get_xdata(), [1, 4])
    assert [mark.get_markerfacecolor() == "white" for mark in marks] == [False, True, False]
    assert cross.get_marker() == "x"
    assert axes.get_ylim()[1] > 10


def test_the_command_knows_a_bench_by_its_run_json(tmp_path: Path) -> None:
    folder = BenchResult(builder.loads(("vgg16",))).write(tmp_path / "result")
    done = dlreport(folder, "-o", tmp_path / "report")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'report' / 'report.html'}\n", "")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("run.json", '{"kind": "bench", "schema": "dlserve-bench/9"}', "use the version of dlserve that wrote it"),
        ("run.json", '{"kind": "bench", "schema": "dlserve-bench/1"}', "run the bench again"),
        ("points.jsonl", "{}\n", "points.jsonl:1: .*restore the file or measure again"),
    ],
)
def test_a_result_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, said: str
) -> None:
    folder = BenchResult([]).write(tmp_path)
    (folder / file).write_text(content)
    assert main([str(folder)]) == 1
    assert re.search(said, capsys.readouterr().err)
