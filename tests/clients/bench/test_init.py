"""`dlbench init`: the answers become a suite; bad ones are asked for again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dlclient.bench.cli import main
from dlclient.bench.init import interview
from dlclient.bench.reading import read_suite
from dlclient.bench.suite import Matrix
from dlclient.errors import SuiteError


def test_answers_become_a_suite_and_only_what_matters_is_asked() -> None:
    answers = iter(["resnet18,vgg16", "latency,throughput", "", "cpu", "1,2", "4", ""])
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return next(answers)

    suite = interview("mine", {}, ask, pytest.fail)
    assert suite.name == "mine"
    assert suite.matrix == (
        Matrix(
            models=("resnet18", "vgg16"), questions=("latency", "throughput"), engines=("own",), devices=("cpu",),
            batch_sizes=(1, 2), in_flight=(4,),
        ),
    )  # fmt: skip
    assert len(asked) == 7
    assert "dataset" not in "".join(asked)


def test_a_bad_answer_is_told_and_asked_for_again() -> None:
    answers = iter(["resnet81", "resnet18", "latncy", "load", "toch", "", "gpu", "cpu", ""])
    told: list[str] = []
    suite = interview("mine", {}, lambda _: next(answers), told.append)
    assert [line.strip().partition(":")[0] for line in told] == ["models", "questions", "engines", "devices"]
    assert "Did you mean 'resnet18'?" in told[0]
    assert suite.matrix == (Matrix(models=("resnet18",), questions=("load",), engines=("own",), devices=("cpu",)),)


def test_what_is_given_and_wrong_is_an_error() -> None:
    with pytest.raises(SuiteError, match="there is no model 'resnet81'"):
        interview("mine", {"models": "resnet81"}, None, pytest.fail)
    with pytest.raises(SuiteError, match="the folder nowhere does not exist"):
        interview("mine", {"questions": "accuracy", "dataset": "nowhere"}, None, pytest.fail)


def test_the_command_writes_a_file_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["init", "my.toml", "--no-input", "--models", "vgg16", "--batch-sizes", "1,4", "--devices", "cpu"]
    assert main(command) == 0
    assert "my.toml: 3 points; dlbench run my.toml measures them" in capsys.readouterr().out
    suite, source = read_suite(Path("my.toml"))
    source.check()
    assert (suite.name, suite.matrix[0].models, suite.matrix[0].batch_sizes) == ("my", ("vgg16",), (1, 4))
    assert main(["check", "my.toml"]) == 0
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["init", "my.json"]) == 2
    assert "call it my.toml" in capsys.readouterr().err


def test_without_a_terminal_and_without_options_it_says_how_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(_prompt: str) -> Iterator[str]:
        raise EOFError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", nobody)
    assert main(["init"]) == 2
    assert "--no-input" in capsys.readouterr().err
    assert not Path("bench.toml").exists()
