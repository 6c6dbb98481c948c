"""`dlbench balance` as people run it: the model, and one cell in real processes over real HTTP."""

import subprocess
from pathlib import Path

import pytest
from dlclient.balance_result import read_balance, read_cells
from dlclient.bench.cli import main
from dlclient.results import read_run

from tests.conftest import COMMANDS

ROOT = Path(__file__).parents[4]
SMALL = (
    *("--policies", "predicted", "--residency", "all", "--mixes", "uniform", "--loads", "0.3", "--workers", "1", "--scale", "1"),
    *("--requests", "2400", "--real-requests", "200", "--real-rounds", "2"),
)  # fmt: skip


def dlbench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run to its end, in the checkout."""
    return subprocess.run(
        [COMMANDS / "dlbench", "balance", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )  # fmt: skip


def test_a_comparison_runs_in_the_model_and_in_processes_and_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "result"
    done = dlbench(*SMALL, "--real", "uniform@0.3", "--results", str(folder))
    assert done.returncode == 0, done.stderr
    balance, (model, real) = read_balance(folder), read_cells(folder)
    assert balance.finished is not None
    assert (model.where.source, real.where.source) == ("model", "real")
    assert model.figures is not None
    assert real.figures is not None
    assert (model.figures.errors, real.figures.errors) == (0, 0)
    assert model.figures.hit_rate == real.figures.hit_rate == 1.0
    assert real.model is not None
    assert real.agreement is not None
    assert real.model.overhead_s > 0
    runs = sorted(one for one in (folder / "real" / real.id).iterdir() if one.is_dir())
    assert [one.name for one in runs] == ["1", "2"][: real.agreement.rounds]
    assert [read_run(one).plan.requests for one in runs] == [200] * len(runs)
    assert "model and processes agree within 10% in" in done.stdout
    drawn = subprocess.run([COMMANDS / "dlreport", folder], capture_output=True, text=True, timeout=120, check=False)
    assert drawn.returncode == 0, drawn.stderr
    assert (folder / "pictures/agreement.png").is_file()
    monkeypatch.chdir(ROOT)
    capsys.readouterr()
    assert main(["balance", *SMALL, "--real", "uniform@0.3", "--results", str(folder), "--resume"]) == 0
    assert capsys.readouterr().err == ""
    assert read_cells(folder) == [model, real]


def test_what_cannot_be_done_is_said_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (("--policies", "best"), "'best' is none of predicted"),
        (("--resume",), "--resume needs the result folder"),
        ((*SMALL, "--real", "none", "--results", str(tmp_path)), "something else than a comparison"),
        ((*SMALL, "--real", "uniform@0.3", "--results", "new"), "run dlbench balance in a checkout"),
        ((*SMALL, "--real", "none", "--mixes", "zipf:x", "--results", "other"), "--mix zipf:x"),
    ):
        assert main(["balance", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_a_cell_that_fails_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    short = main(
        ["balance", *SMALL, "--real", "none", "--loads", "0.3,0.01", "--requests", "240", "--results", str(folder)]
    )
    assert short == 1
    failed, good = read_cells(folder)
    assert "no request that was due after the first 2.5 s" in failed.failure  # of 30 requests
    assert good.figures is not None
