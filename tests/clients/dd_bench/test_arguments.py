"""The command line of dd_bench: DeepDetect's options as they were, ours beside them, and errors that name the cure."""

from pathlib import Path

import pytest
from dlclient.dd_bench.arguments import parse
from dlclient.dd_bench.options import Options
from dlclient.dd_bench.plan import ladder, settings

FILE = "list.txt"


def read(*argv: str) -> Options:
    return parse(["--host", "gpu1", *argv], lambda _: None)


def test_every_option_of_deepdetect_is_taken_with_its_meaning() -> None:
    given = (
        "--port 8081 --sname s --img-width 300 --img-height 200 --bw --rgb --scale 0.0039 --histogram-equalization --gpu --gpuid 1 "
        "--remote-bench-data-dir /data --max-batch-size 128 --max-workspace-size 512 --list-bench-files list.txt --npasses 7 "
        "--detection --segmentation --regression --search --search-multibox --create /models/s --nclasses 10 --auto-kill "
        "--csv-output o.csv --json-output o.json --mllib tensorrt --datatype fp16 --recreate --dla --gpu-resize --image-interp area"
    )
    options = read(*given.split())
    creation = options.creation
    assert creation is not None
    assert (options.url, options.models, options.passes) == ("http://gpu1:8081", ("s",), 7)
    assert (creation.repository, creation.mllib, creation.datatype) == ("/models/s", "tensorrt", "fp16")
    assert (creation.nclasses, creation.workspace_mb, creation.scale) == (10, 512, 0.0039)
    assert creation.bw
    assert creation.rgb
    assert creation.equalize
    assert creation.dla
    assert creation.recreate
    network = options.network
    assert (network.width, network.height, network.interp, network.gpu_resize) == (300, 200, "area", True)
    assert (options.gpu, options.gpuids, options.auto_kill) == (True, (1,), True)
    assert options.task.name == "detection+segmentation+regression+search+search_multibox"
    assert (options.images.input, options.images.remote, options.images.names_file) == ("path", "/data", Path(FILE))
    assert (options.csv, options.json, options.largest_batch) == (Path("o.csv"), Path("o.json"), 128)
    assert len(options.batch_sizes) == 12


def test_what_is_not_said_is_as_there() -> None:
    options = parse(["--sname", "s", "--create", "/m", "--remote-bench-data-dir", "/d"], lambda _: None)
    creation = options.creation
    assert creation is not None
    assert (options.url, options.passes, options.gpu, options.gpuids) == ("http://localhost:8080", 5, False, (0,))
    assert (creation.mllib, creation.datatype, creation.nclasses, creation.workspace_mb) == (
        "caffe",
        "fp32",
        1000,
        1024,
    )
    assert repr(creation.scale) == "1", "an integer in JSON, as there"
    assert (options.network.width, options.network.height, options.network.interp) == (224, 224, None)
    assert options.images.names_file == Path("list_bench_files.txt")
    assert (options.largest_batch, options.warm_up, options.concurrency, options.results) == (256, 1, 1, None)


def test_the_ladder_is_deepdetects() -> None:
    assert ladder(128) == (1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
    assert (len(ladder(256)), sum(ladder(256))) == (20, 2191)
    assert ladder(40) == (1, 2, 4, 8, 16, 32)


def test_a_preset_stands_for_its_networks_and_another_word_for_itself() -> None:
    assert len(read("--models", "deepdetect-report").models) == 13
    assert read("--models", "resnet18").models == ("resnet18",)
    assert read("--models", "b,a,b").models == ("b", "a")


def test_points_differ_by_all_that_changes_their_figures_and_by_nothing_else() -> None:
    base = ("--sname", "s", "--batch-sizes", "4")
    other = (
        ("--img-width", "300"), ("--image-interp", "area"), ("--gpu",), ("--concurrency", "2"), ("--input", "raw"),
        ("--best", "1"), ("--create", "/m"), ("--detection",), ("--test-batch-size", "0"), ("--images", "pictures"),
    )  # fmt: skip
    ids = {next(settings(read(*base, *more))).id for more in ((), *other)}
    assert len(ids) == 1 + len(other)
    same = (("--npasses", "9"), ("--warm-up", "3"), ("--csv-output", "o"), ("--auto-kill",))
    assert len({next(settings(read(*base, *more))).id for more in ((), *same)}) == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("", "--sname, or several with --models A,B,C"),
        ("--sname s --models a,b", "leave one of them out"),
        ("--sname s --npasses 0", "--npasses 0: at least 1"),
        ("--sname s --warm-up -1", "--warm-up -1: at least 0"),
        ("--sname s --recreate", "with --create DIR"),
        ("--sname s --gpuid 0,1", "add --gpu"),
        ("--sname s --gpu --gpuid 0,x", "numbers of GPUs, such as 0,1, or all"),
        ("--sname s --input path", "--remote-bench-data-dir where the server"),
        ("--sname s --input url --remote-bench-data-dir /d", "is no http(s):// URL"),
        ("--sname s --input base64 --remote-bench-data-dir /d", "with --images"),
        ("--sname s --list-bench-files f", "--remote-bench-data-dir or --images"),
        ("--sname s --input raw --img-width 3", "--input raw carries no --img-width"),
        ("--sname s --batch-sizes 1,0", "such as 1,2,4"),
        ("--sname s --resume", "with --results DIR"),
        ("--sname s --retry-failed", "add --resume"),
        ("--sname s --api-key-file /nowhere", "name a text file with the key in it"),
        ("--sname s --timeout 0", "above 0"),
    ],
)
def test_bad_options_are_errors_that_name_the_cure(argv: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        read(*argv.split())
    assert said in capsys.readouterr().err
