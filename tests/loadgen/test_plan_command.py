"""`dlload plan` draws what the stream would send, and nothing is sent."""

from pathlib import Path

import pytest
from dlclient.results import Seeds, read_plan
from dlclient.samples import sample_names
from dlload.arrivals import read_course
from dlload.cli import main
from dlload.plan import Open, draw
from dlload.replay import read_plan_file

ASKED = ("--services", "a,b,c", "--mix", "zipf:1.1", "--rate", "50", "--requests", "40", "--seed", "7")


def test_the_plan_is_the_one_that_the_stream_draws_from_these_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.jsonl"
    assert main(["plan", *ASKED, "--output", str(path)]) == 0
    load = Open(read_course("50", 20.0), "poisson", 40, None, "50/s poisson")
    same = draw(
        seeds=Seeds.all(7), load=load, services=("a", "b", "c"), mix="zipf:1.1", images=sample_names(), batch_size=1
    )
    assert path.read_bytes() == same.encode()
    assert read_plan_file(path) == same
    assert same.sha256() in capsys.readouterr().out
    assert len(read_plan(tmp_path)[1]) == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mix", "uniform", "--rate", "5"), "--services: name them"),
        (("--services", "a,b", "--mix", "zipf:x", "--rate", "5"), "--mix zipf:x"),
        (("--services", "a", "--rate", "none"), "--rate none"),
    ],
)
def test_a_plan_that_cannot_be_drawn_is_said(
    arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments, "--output", str(tmp_path / "plan.jsonl")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "plan.jsonl").exists()


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *ASKED, "--output", str(tmp_path / "no" / "plan.jsonl")]) == 2
    assert "name a file in a folder that is there" in capsys.readouterr().err
