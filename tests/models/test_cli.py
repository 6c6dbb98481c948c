"""The `dlmodels` command, as people run it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dlmodels.repository import read_model
from dlmodels.zoo.catalog import CATALOG
from dlmodels.zoo.presets import PRESETS

PROGRAM = [sys.executable, "-W", "error::FutureWarning", "-m", "dlmodels.cli"]
NAME = "shufflenet_v2_x0_5"


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("arguments", [["--help"], ["list", "--help"], ["show", "--help"], ["build", "--help"]])
def test_help_is_there_for_each_command(arguments: list[str]) -> None:
    ran = run(*arguments)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage: dlmodels")


def test_nothing_but_building_imports_a_framework() -> None:
    code = (
        "import sys; from dlmodels.cli import main; main(['list']); main(['show', 'gluon-resnet18_v1']);"
        "sys.exit(bool({'torch', 'torchvision', 'mxnet', 'onnx'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_list_has_a_line_for_each_network() -> None:
    ran = run("list")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(CATALOG)]] == list(CATALOG)
    assert (
        "resnet18                   11.69 M    1.81 G    47 MB  224x224  69.8 %  torch, onnxruntime, openvino, opencv, tensorrt"
        in lines
    )
    assert max(map(len, lines)) <= 120


def test_list_of_a_preset_has_its_networks_in_order() -> None:
    ran = run("list", "--preset", "stream-2018")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert tuple(line.split()[0] for line in lines[1:9]) == PRESETS["stream-2018"]
    assert lines[10] == "8 networks, 2.0 GB of weights"
    as_json = json.loads(run("list", "--preset", "stream-2018", "--json").stdout)
    assert tuple(network["name"] for network in as_json) == PRESETS["stream-2018"]


@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["build"]])
def test_a_misspelt_preset_is_told_in_one_line(command: list[str], tmp_path: Path) -> None:
    ran = run(*command, "--preset", "stream-2017", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("dlmodels: there is no preset 'stream-2017'. Did you mean stream-2018?")
    assert ran.stderr.count("\n") == 1


def test_list_as_json_has_counts_as_integers() -> None:
    ran = run("list", "--json")
    assert ran.returncode == 0
    networks = {network["name"]: network for network in json.loads(ran.stdout)}
    assert networks.keys() == CATALOG.keys()
    vgg = networks["vgg16"]
    assert (vgg["parameters"], vgg["macs"], vgg["bytes"]) == (138_357_544, 15_470_264_320, 553_430_176)
    assert all(type(vgg[key]) is int for key in ("parameters", "macs", "bytes", "classes"))
    assert (vgg["top1"], vgg["engines"][0], vgg["input"]["width"]) == (71.592, "torch", 224)
    assert networks["nin"]["top1"] is None
    assert networks["gluon-vgg16"]["engine"] == "mxnet"


def test_show_tells_all_and_how_to_build_what_is_not_there(tmp_path: Path) -> None:
    ran = run("show", "inception_v3", "--repository", tmp_path)
    assert ran.returncode == 0
    for expected in (
        "23,834,568",
        "5,713,216,096",
        "299 x 299 RGB",
        "0.5, 0.5, 0.5",
        "weights IMAGENET1K_V1",
        "dlmodels build inception_v3",
    ):
        assert expected in ran.stdout


def test_show_tells_what_was_built(repository: Path) -> None:
    ran = run("show", NAME, "--repository", repository)
    assert ran.returncode == 0
    assert read_model(repository / NAME).files["weights.safetensors"].sha256 in ran.stdout


def test_build_makes_folders_with_progress_and_then_refuses_to_replace_them(tmp_path: Path) -> None:
    ran = run("build", NAME, "squeezenet1_1", NAME, "--seed", "5", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    folder = tmp_path / "models/repository"
    assert sorted(path.name for path in folder.iterdir()) == [NAME, "squeezenet1_1"]
    assert f"{NAME}: drawing 1.4 million random weights, seed 5" in ran.stdout
    assert f"{folder / NAME} is ready" in ran.stdout
    again = run("build", NAME, cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr.startswith("dlmodels: ")
    assert "give --force" in again.stderr
    assert again.stderr.count("\n") == 1


def test_missing_networks_are_built_and_the_others_left_alone(tmp_path: Path) -> None:
    assert run("build", NAME, "--seed", "5", "--repository", tmp_path).returncode == 0
    before = read_model(tmp_path / NAME)
    ran = run("build", NAME, "squeezenet1_1", "--missing", "--repository", tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"{NAME}: is there\n")
    assert read_model(tmp_path / NAME) == before
    assert (tmp_path / "squeezenet1_1/model.toml").exists()


def test_trained_weights_that_nobody_offers_are_told_before_anything_is_done(tmp_path: Path) -> None:
    ran = run("build", NAME, "caffenet", "--pretrained", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(
        "dlmodels: there are no trained weights of caffenet to be fetched: leave out --pretrained"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["show"], ["build", NAME], ["build"]])
def test_a_misspelt_name_is_told_in_one_line_before_anything_is_done(command: list[str], tmp_path: Path) -> None:
    ran = run(*command, "resnet19", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("dlmodels: the zoo has no network 'resnet19'. Did you mean resnet18")
    assert ran.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lst"],
        ["build"],
        ["build", NAME, "--seed", "-1"],
        ["build", NAME, "--force", "--missing"],
        ["list", "--jsn"],
    ],
)
def test_bad_usage_exits_with_2(arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.returncode == 2
    assert "usage: dlmodels" in ran.stderr


def test_a_closed_pipe_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run([*PROGRAM, "list"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_an_interrupted_build_leaves_nothing_behind(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [*PROGRAM, "build", "vgg11", "--repository", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    for line in program.stdout:
        if "drawing" in line:
            program.send_signal(signal.SIGINT)
            break
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert errors == "dlmodels: interrupted; what was unfinished is removed\n"
    assert list(tmp_path.iterdir()) == []
