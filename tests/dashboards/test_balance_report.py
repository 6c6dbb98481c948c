"""The report of a comparison of policies, from folders whose figures are known beforehand."""

import math
import shutil
from pathlib import Path

import msgspec
import pytest
from dlclient.balance_result import BALANCE_SCHEMA, CELLS_FILE, Cell
from dlreport.balance import write_balance_report
from dlreport.balance.answer import answer, lead
from dlreport.balance.view import BalanceView, load_balance
from dlreport.errors import NotAResultError

from tests.dashboards.conftest import read_rows
from tests.dashboards.made_balance import SECONDS, balance, cell, comparison, where, write
from tests.dashboards.test_cli import dlreport
from tests.dashboards.test_stream_report import Page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write(tmp_path_factory.mktemp("balance"), comparison())
    write_balance_report(folder)
    return folder


def test_the_page_gives_the_answer_first_and_then_what_led_to_it(folder: Path) -> None:
    text = Page(folder / "report.html").text
    order = [
        "Simulated devices.",
        "In none of 9 scenarios is the p99 of predicted worse",
        "The best other policy has 1.50 x its p99",
        "27 of 27 cells.",
        "Model and processes agree within 10 % in mean, p50 and p99 in 2 of 3 cells.",
        "Which policy serves best",
        "The model against processes",
        "Every cell",
        "How it was made",
        "Definitions",
    ]
    body = text[text.index(order[0]) :]
    positions = [body.index(part) for part in order]
    assert positions == sorted(positions)


def test_the_tables_hold_every_cell_and_say_who_won(folder: Path) -> None:
    rows = read_rows(folder / "tables/cells.csv")
    assert len(rows) == 27
    assert {row["policy"] for row in rows} == set(SECONDS)
    assert all(float(row["p99_low_s"]) <= float(row["p99_s"]) <= float(row["p99_high_s"]) for row in rows)
    assert all(math.isclose(float(row["wait_s"]), 0.9 * float(row["mean_s"]), rel_tol=1e-6) for row in rows)
    contests = read_rows(folder / "tables/contests.csv")
    assert [row["best_policy"] for row in contests] == ["affinity"] * 9
    assert {row["outcome"] for row in contests} == {"better"}


def test_where_model_and_processes_differ_the_table_says_by_how_much_and_what_it_can_come_from(folder: Path) -> None:
    rows = {row["policy"]: row for row in read_rows(folder / "tables/agreement.csv")}
    assert rows["predicted"]["verdict"] == "within 10%"
    assert "more than chance" in rows["random"]["verdict"]
    assert rows["affinity"]["verdict"] == "within 10%; doubtful: send-lag"
    for figure in ("mean", "p50", "p99"):
        low, middle, high = (float(rows["random"][f"{figure}_ratio{end}"]) for end in ("_low", "", "_high"))
        assert low < middle < high
        assert middle == pytest.approx(1.3, rel=0.1)


def test_there_is_a_picture_of_each_residency_and_size_one_of_the_agreement_and_one_over_the_workers(
    folder: Path,
) -> None:
    names = {path.stem for path in (folder / "pictures").glob("*.png")}
    assert names == {"p99-8-all", "p99-8-third", "p99-64-all", "p99-64-third", "agreement", "workers"}
    alts = [alt for alt, _ in Page(folder / "report.html").pictures]
    assert len(alts) == 6
    assert any("all models resident" in alt and "zipf:1.1 at 80%: predicted" in alt for alt in alts)


def test_the_same_result_gives_the_same_report(folder: Path, tmp_path: Path) -> None:
    write_balance_report(folder, tmp_path)
    for path in (*(folder / "pictures").iterdir(), *(folder / "tables").iterdir(), folder / "report.html"):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_a_policy_that_beats_predicted_is_named(tmp_path: Path) -> None:
    cells = [cell(where("predicted"), 0.3), cell(where("random"), 0.1)]
    view = load_balance(write(tmp_path, cells))
    assert answer(view) == "predicted has a worse p99 than random in 1 of 1 scenarios."
    assert "0.33 x" in lead(view)
    write_balance_report(tmp_path)
    assert read_rows(tmp_path / "tables/contests.csv")[0]["outcome"] == "worse"


def test_equals_are_called_no_difference(tmp_path: Path) -> None:
    view = load_balance(write(tmp_path, [cell(where("predicted"), 0.1), cell(where("random"), 0.1)]))
    assert [one.outcome for one in view.contests] == ["no difference"]
    assert answer(view).startswith("In none of 1 scenarios")


def test_without_predicted_nothing_is_claimed() -> None:
    view = BalanceView(balance(), (cell(where("random"), 0.1),))
    assert answer(view).startswith("The policies cannot be compared")
    assert lead(view) == ""


def test_what_has_not_come_to_its_end_and_what_failed_is_said(tmp_path: Path) -> None:
    place = where("random", "real")
    failed = Cell(id=place.id, where=place, started="", seconds=0.0, failure="dlserve did not start; see <its> log")
    page = Page(write_balance_report(write(tmp_path, [cell(where(), 0.1), failed], finished=False)))
    assert "Not finished." in page.text
    assert "dlserve did not start; see <its> log" in page.text
    assert not (tmp_path / "tables/agreement.csv").exists()


def test_dlreport_knows_the_kind_and_what_is_damaged_is_said(folder: Path, tmp_path: Path) -> None:
    done = dlreport(str(folder), "-o", str(tmp_path / "page"))
    assert done.returncode == 0
    assert (tmp_path / "page/report.html").is_file()
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    lines = (broken / CELLS_FILE).read_bytes().splitlines()
    one = msgspec.json.decode(lines[0])
    one["figures"]["wait_s"] = 1e30
    (broken / CELLS_FILE).write_bytes(msgspec.json.encode(one) + b"\n")
    with pytest.raises(NotAResultError, match="which nothing measures"):
        load_balance(broken)
    (broken / "run.json").write_text(f'{{"schema": "{BALANCE_SCHEMA}", "kind": "balance"}}')
    with pytest.raises(NotAResultError, match="no result of dlbench balance"):
        load_balance(broken)
