"""The report of a search for a rate, from folders whose figures are known beforehand."""

import re
from pathlib import Path

import pytest
from dlclient.results import Objective
from dlclient.search_result import Point
from dlreport.errors import NotAResultError
from dlreport.search import write_search_report
from dlreport.search.answer import stamps
from dlreport.search.view import load_search, read_bound

from tests.dashboards.conftest import SearchFolder, read_rows
from tests.dashboards.test_cli import dlreport
from tests.dashboards.test_stream_report import Page

UNSURE = Objective(text="p90<40ms", outcome="cannot-tell", sure=False, sentence="p90<40ms: too few to tell")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = SearchFolder().write(tmp_path_factory.mktemp("search"))
    write_search_report(folder)
    return folder


def test_the_page_gives_the_answer_first_and_then_what_led_to_it(folder: Path) -> None:
    text = Page(folder / "report.html").text
    order = [
        "Found and confirmed.",
        "97.50 requests/s is the highest rate that meets p90<40ms.",
        "The confirmation",
        "The latency/throughput curve",
        "The runs",
        "How it was measured",
        "Definitions",
    ]
    body = text[text.index(order[0]) :]
    positions = [body.index(part) for part in order]
    assert positions == sorted(positions)
    assert "at about 80 requests/s (the knee)" in body


def test_the_confirmation_has_a_report_of_its_own_that_the_page_links_to(folder: Path) -> None:
    page = Page(folder / "report.html")
    links = [one for one in page.references if not one.startswith("data:")]
    assert links == ["probe-03/report.html"]
    assert "97.5/s poisson" in Page(folder / links[0]).text
    assert not (folder / "probe-01/report.html").exists()


def test_the_curve_is_a_picture_and_a_table(folder: Path) -> None:
    ((alt, _),) = Page(folder / "report.html").pictures
    assert alt == (
        "Latency over the rate offered. 80.00/s: mean 10.0 ms, meets; 90.00/s: mean 15.0 ms, undecided; "
        "102.0/s: mean 30.0 ms, misses; knee at 80.00/s."
    )
    assert {path.name for path in (folder / "pictures").iterdir()} == {"curve.png", "curve.svg"}
    assert [row["meets"] for row in read_rows(folder / "tables/curve.csv")] == [
        "meets",
        "undecided",
        "misses",
        "misses",
    ]
    assert "no answer" in (folder / "tables/curve.md").read_text()


def test_every_run_is_a_row_with_its_figures_and_how_the_objective_stood(folder: Path) -> None:
    rows = read_rows(folder / "tables/probes.csv")
    assert [row["run"] for row in rows] == ["probe-01", "probe-02", "probe-03 (confirmation)"]
    assert [float(row["offered_per_s"]) for row in rows] == [80.0, 102.0, 97.5]
    assert [row["objectives"] for row in rows] == ["met", "missed", "met"]
    assert [row["verdict"] for row in rows] == ["valid", "invalid: unstable-windows", "valid"]
    assert float(rows[0]["mean_s"]) == pytest.approx(0.012)
    assert float(rows[0]["p50_low_s"]) == pytest.approx(0.012)


@pytest.mark.parametrize(
    ("changes", "headline", "answer"),
    [
        (
            {"objectives": (UNSURE,)},
            "Found, but confirmed without 99 % confidence.",
            "97.50 requests/s is the highest rate",
        ),
        (
            {"found": "always-met", "upper_per_s": None},
            "The limit of the search was reached.",
            "p90<40ms is met up to 97.50 requests/s, the limit of the search.",
        ),
        (
            {"found": "never-met", "rate_per_s": None, "upper_per_s": 1.0, "confirmed_in": None, "objectives": ()},
            "Never met.",
            "p90<40ms is missed even at the lowest rate, 1.000 requests/s.",
        ),
        (
            {"found": "not-confirmed", "rate_per_s": None, "confirmed_in": None},
            "Not confirmed: do not quote a rate.",
            "No rate can be named for p90<40ms.",
        ),
        (
            {"found": "gave-up", "rate_per_s": 80.0, "confirmed_in": None, "objectives": ()},
            "Ended early: no confirmed answer.",
            "p90<40ms is met at 80.00 requests/s and missed at 102.0 requests/s; the search ended before it was done.",
        ),
        (
            {"found": "gave-up", "rate_per_s": None, "upper_per_s": None, "confirmed_in": None, "objectives": ()},
            "Ended early: no confirmed answer.",
            "Nothing is known of p90<40ms; the search ended before it was done.",
        ),
        (
            {"found": "invalid", "rate_per_s": None, "confirmed_in": None, "objectives": ()},
            "Invalid: do not quote a rate.",
            "No rate can be named for p90<40ms.",
        ),
    ],
)
def test_no_more_is_claimed_than_was_found(
    tmp_path: Path, changes: dict[str, object], headline: str, answer: str
) -> None:
    text = Page(write_search_report(SearchFolder(changes=changes).write(tmp_path))).text
    assert headline in text
    assert answer in text
    assert "Found and confirmed." not in text


@pytest.mark.parametrize(
    ("found", "stamp"),
    [("invalid", "INVALID"), ("not-confirmed", "NOT CONFIRMED"), ("gave-up", "NOT CONFIRMED"), ("found", "")],
)
def test_a_picture_without_a_confirmed_answer_is_stamped(tmp_path: Path, found: str, stamp: str) -> None:
    other = SearchFolder(changes={"found": found}).write(tmp_path)
    assert stamps(load_search(other)) == ((stamp,) if stamp else ())


def test_a_simulated_device_is_said_and_stamped(folder: Path, tmp_path: Path) -> None:
    other = SearchFolder(simulated=True).write(tmp_path)
    assert "Simulated device." in Page(write_search_report(other)).text
    assert (other / "pictures/curve.png").read_bytes() != (folder / "pictures/curve.png").read_bytes()


def test_runs_that_were_thrown_away_are_said_to_be_gone(tmp_path: Path) -> None:
    folder = SearchFolder(kept=("probe-01",)).write(tmp_path)
    page = Page(write_search_report(folder))
    assert "That run (probe-03) is no longer there." in page.text
    assert page.text.count("its folder is gone") == 2
    assert all(reference.startswith("data:") for reference in page.references)


def test_a_search_that_measured_nothing_has_a_page_all_the_same(tmp_path: Path) -> None:
    nothing = {
        "found": "gave-up", "rate_per_s": None, "upper_per_s": None, "knee_per_s": None, "confirmed_in": None, "objectives": (),
        "curve": (), "runs": (), "probes": 0, "requests": 0,
    }  # fmt: skip
    page = Page(write_search_report(SearchFolder(changes=nothing).write(tmp_path)))
    assert "No rate was measured, so there is no curve." in page.text
    assert page.pictures == []


def test_rates_far_apart_and_answers_by_the_hour_can_be_drawn(tmp_path: Path) -> None:
    curve = tuple(
        Point(rate_per_s=rate, requests=1, delivered_per_s=rate, mean_s=rate, p50_s=None, meets=None)
        for rate in (0.001, 1.0, 9000.0)
    )
    page = Page(write_search_report(SearchFolder(changes={"curve": curve, "knee_per_s": None}).write(tmp_path)))
    assert len(page.pictures) == 1
    assert "No knee is to be seen" in page.text


def test_equal_searches_give_equal_pages(folder: Path, tmp_path: Path) -> None:
    again = SearchFolder().write(tmp_path / "result")
    page = write_search_report(again, tmp_path / "elsewhere")
    assert page.read_bytes() == (folder / "report.html").read_bytes()
    assert (tmp_path / "elsewhere/probe-03/report.html").is_file()
    assert not (again / "report.html").exists()


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    changes = {"slo": (hostile, "$x{{ 7*7 }}"), "sentence": hostile}
    page = Page(write_search_report(SearchFolder(changes=changes).write(tmp_path)))
    assert "script" not in page.tags
    assert hostile in page.text


@pytest.mark.parametrize("name", ["../elsewhere", "..", "/etc", "", "a\\b"])
def test_a_run_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = SearchFolder(changes={"runs": (name,)}).write(tmp_path)
    with pytest.raises(NotAResultError, match="which is no folder of its own"):
        write_search_report(folder)


@pytest.mark.parametrize(("field", "value"), [("knee_per_s", 1e300), ("rate_per_s", 1e19)])
def test_numbers_that_nothing_measures_are_refused(tmp_path: Path, field: str, value: float) -> None:
    with pytest.raises(NotAResultError, match="which nothing measures"):
        write_search_report(SearchFolder(changes={field: value}).write(tmp_path))


@pytest.mark.parametrize(
    ("text", "seconds", "service", "figure"),
    [
        ("p99<50ms", 0.05, False, "p99"),
        ("p99.9 <= 2s", 2.0, False, "p999"),
        ("service:mean<800us", 0.0008, True, "mean"),
        ("response: p50<1.5e1ms", 0.015, False, "p50"),
    ],
)
def test_a_condition_on_a_latency_can_be_drawn(text: str, seconds: float, service: bool, figure: str) -> None:
    bound = read_bound(text)
    assert bound is not None
    assert (bound.service, bound.figure) == (service, figure)
    assert bound.seconds == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["errors<0.1%", "rate>=95%", "ttfb:p99<50ms", "p95<50ms", "p99>5ms", "p99<1.2.3ms"])
def test_other_conditions_have_no_place_on_an_axis_of_latencies(text: str) -> None:
    assert read_bound(text) is None


def test_the_command_knows_a_search_by_its_file(tmp_path: Path) -> None:
    folder = SearchFolder().write(tmp_path)
    done = dlreport(folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder / 'report.html'}\n", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [('{"schema": "dlserve-search/9"}', "use the version of dlserve that wrote it"), ('{"schema"', "search again")],
)
def test_a_search_json_that_cannot_be_read_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "search.json").write_text(content)
    done = dlreport(tmp_path)
    assert done.returncode == 1
    assert re.search(f"search.json .*{said}", done.stderr)
    assert "Traceback" not in done.stderr
