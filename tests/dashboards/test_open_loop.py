"""What the report says of an open loop, of intervals and of objectives, from results whose figures are known beforehand."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
from dlclient.results import Clock, Objective, Reason
from dlreport.stream import write_report

from tests.dashboards.conftest import StreamResult, late, read_rows
from tests.dashboards.test_stream_report import Page

MET = Objective(
    text="p50<50ms", outcome="met", sure=True, sentence="p50<50ms: measured 12 ms; 0 of 90 requests were over"
)
MISSED = Objective(text="p90<5ms", outcome="missed", sure=False, sentence="p90<5ms: measured 12 ms; 90 of 90 were over")
OPEN = Objective(text="p99<50ms", outcome="cannot-tell", sure=False, sentence="p99<50ms: too few to tell")


def scheduled() -> StreamResult:
    """100 requests at 100/s, 2 ms late, served in 10 ms; those due in the last 0.1 s do not count."""
    return StreamResult(
        {"warm": late("warm", 100)},
        ("a",),
        {},
        load="100/s constant",
        offered_per_s=100.0,
        delivered_per_s=98.0,
        objectives=(MET,),
        clock=Clock(warm_up_requests=40, warm_up_s=0.5, steady=True, to_s=0.895, left_out=10),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = scheduled().write(tmp_path_factory.mktemp("open"))
    write_report(folder)
    return folder


def by_time(folder: Path) -> dict[str, dict[str, str]]:
    return {row["time"]: row for row in read_rows(folder / "tables/clocks.csv")}


def test_response_service_and_send_lag_stand_beside_each_other(folder: Path) -> None:
    rows = by_time(folder)
    means_ms = {name: float(row["mean_s"]) * 1e3 for name, row in rows.items()}
    assert means_ms == pytest.approx({"response": 12.0, "service": 10.0, "first byte": 9.0, "send lag": 2.0})
    assert {row["answers"] for row in rows.values()} == {"90"}
    assert float(rows["response"]["p90_s"]) == pytest.approx(0.012)
    assert (rows["response"]["p99_s"], rows["send lag"]["p90_s"]) == ("", "")
    assert "n/a (n=90)" in (folder / "tables/clocks.md").read_text()


def test_intervals_stand_in_every_form_of_the_table(folder: Path) -> None:
    row = by_time(folder)["response"]
    assert float(row["p50_low_s"]) == pytest.approx(0.012)
    assert float(row["p50_high_s"]) == pytest.approx(0.012)
    assert "12.0 [12.0, 12.0]" in " ".join((folder / "tables/clocks.md").read_text().replace("\\", "").split())
    page = Page(folder / "report.html")
    assert "[12.0, 12.0]" in page.text
    (compared,) = [one for one in read_rows(folder / "tables/comparison.csv") if one["model"] == "a"]
    assert float(compared["mean_low_s"]) == pytest.approx(0.012)
    assert float(compared["largest_s"]) == pytest.approx(0.012)


def test_what_is_outside_the_clock_is_in_no_figure_and_no_picture(folder: Path) -> None:
    page = Page(folder / "report.html")
    assert "requests.jsonl holds" not in page.text  # the records of both agree, once those outside are left out
    assert (
        "Not in the figures: warm: 40 requests of a warm-up (0.500 s, until 3 windows agreed), 10 requests due after 0.895 s."
        in page.text
    )
    assert any("Latency over time. warm: 90 answered" in alt for alt, _ in page.pictures)
    (row,) = read_rows(folder / "tables/phases.csv")
    assert (row["requests"], row["warm_up_requests"], row["left_out"]) == ("90", "40", "10")


def test_what_was_offered_stands_beside_what_was_sent(folder: Path) -> None:
    text = Page(folder / "report.html").text
    assert "Open loop, 100/s constant: warm 100 requests/s were due and 98.0 % of them sent." in text
    (row,) = read_rows(folder / "tables/phases.csv")
    assert (row["offered_per_s"], row["delivered_per_s"], row["dropped"]) == ("100.0", "98.0", "0")


def test_an_open_loop_has_a_picture_of_its_times_and_a_closed_one_has_not(folder: Path, tmp_path: Path) -> None:
    alts = [alt for alt, _ in Page(folder / "report.html").pictures]
    assert (
        "What users waited, and what of it the server took. "
        "warm: p50 response 12.0 ms, service 10.0 ms, send lag 2.00 ms." in alts
    )
    closed = replace(scheduled(), load="closed", offered_per_s=None, delivered_per_s=None)
    page = Page(write_report(closed.write(tmp_path)))
    assert not [alt for alt, _ in page.pictures if alt.startswith("What users waited")]
    assert list(by_time(tmp_path)) == ["latency", "first byte", "send lag"]
    assert "Open loop" not in page.text
    with (tmp_path / "tables/phases.csv").open() as lines:
        assert "offered_per_s" not in next(csv.reader(lines))


def test_the_picture_of_times_is_stamped(folder: Path, tmp_path: Path) -> None:
    stamped = replace(scheduled(), simulated=True).write(tmp_path)
    write_report(stamped)
    assert (stamped / "pictures/clocks.png").read_bytes() != (folder / "pictures/clocks.png").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 11, 5000])
def test_any_number_of_answers_can_be_drawn(tmp_path: Path, count: int) -> None:
    result = StreamResult({"warm": late("warm", count, lag_s=0.0)}, ("a",), {}, load="at once")
    assert len(Page(write_report(result.write(tmp_path))).pictures) == 5


@pytest.mark.parametrize(
    ("objectives", "headline"),
    [
        ((MET,), "Objective met."),
        ((MET, OPEN), "Objectives not decided: 1 of 2 need more requests to tell."),
        ((MET, OPEN, MISSED), "Objectives missed: 1 of 3."),
    ],
)
def test_objectives_stand_at_the_top(tmp_path: Path, objectives: tuple[Objective, ...], headline: str) -> None:
    folder = replace(scheduled(), objectives=objectives).write(tmp_path)
    text = Page(write_report(folder)).text
    assert text.index("Valid run.") < text.index(headline) < text.index("Response and service time")
    for objective in objectives:
        assert objective.sentence in text
    assert ("missed (not with 99 % confidence), warm: p90<5ms" in " ".join(text.split())) == (MISSED in objectives)
    rows = read_rows(folder / "tables/objectives.csv")
    assert [row["outcome"] for row in rows] == [objective.outcome for objective in objectives]


def test_objectives_of_an_invalid_run_are_not_praised(tmp_path: Path) -> None:
    reasons = (Reason("errors", "3 requests failed", "see the log"),)
    text = Page(write_report(replace(scheduled(), reasons=reasons).write(tmp_path))).text
    assert "Objective met." not in text
    assert "Objectives: the run is invalid, so do not rely on how they stand." in text


def test_without_objectives_there_is_no_word_of_them(tmp_path: Path) -> None:
    folder = replace(scheduled(), objectives=()).write(tmp_path)
    assert "bjective" not in Page(write_report(folder)).text
    assert not (folder / "tables/objectives.csv").exists()


def test_the_load_is_among_the_facts(folder: Path) -> None:
    source = (folder / "report.html").read_text().partition('class="facts"')[2].partition("Definitions")[0]
    facts = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", source))
    assert facts["load"] == "open loop: 100/s constant"
    assert facts["seed"] == "7"
    assert facts["Locust processes that sent"] == "1"
    assert facts["made cold by"].startswith("the request itself")
    assert facts["not counted, warm"].startswith("40 requests of a warm-up")
