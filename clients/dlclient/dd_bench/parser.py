"""The options of dd_bench as argparse has them. DeepDetect's keep their names, defaults and meaning."""

import argparse
from pathlib import Path

from dlclient.local_server import REPOSITORY

HOST, PORT = "localhost", 8080
MOST_BATCH = 256
SIDE = 224
_EPILOG = """\
Not kept of DeepDetect's dd_bench: an HTTP error ends one row, not the run; figures are divided by the images that were really
sent; each pass takes the next images of the list, and begins anew at its end; --recreate of a TensorRT service writes no engine
files; blank lines of the list are skipped; --auto-kill deletes the services however the run ends.

  dd_bench --sname resnet18 --max-batch-size 32                   a service that is there, sample photographs
  dd_bench --models deepdetect-report --max-batch-size 4          13 networks, a dlserve of its own where none runs
  dd_bench --sname r50 --create /models/r50 --mllib torch --gpu --gpuid 0,1 --concurrency 2 --auto-kill

Exit codes: 0 every batch was measured, 1 some could not be (their rows say why), 2 bad options, 130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """That reads them, and says what each is."""
    options = argparse.ArgumentParser(
        prog="dd_bench",
        description="Measure a DeepDetect-style server over a ladder of batch sizes: 1, 2, 4, 8, 16, 32, 48, 64, ...",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for add in (_add_server, _add_service, _add_network, _add_images, _add_measuring, _add_output):
        add(options)
    return options


def _add_server(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--host", help=f"name, or http(s):// URL ({HOST})")
    group.add_argument("--port", type=int, help=f"({PORT})")
    group.add_argument("--api-key-file", type=Path, metavar="FILE", help="file with the key that the server wants")
    group.add_argument("--timeout", type=float, default=2000.0, metavar="S", help="seconds that a call may take (2000)")
    group.add_argument(
        "--repository",
        type=Path,
        default=REPOSITORY,
        metavar="DIR",
        help=f"with --models and no server: where models are built and served from ({REPOSITORY})",
    )


def _add_service(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("service")
    group.add_argument("--sname", metavar="NAME", help="service; default: the last folder of --create")
    group.add_argument(
        "--models",
        metavar="A,B,C|PRESET",
        help="several services, or a preset of `dlmodels list`: a table of all at the end. Without --host, where nothing listens at "
        "--port: builds them and starts a dlserve there",
    )
    group.add_argument(
        "--create",
        metavar="DIR",
        help="create the service from this folder on the server; with --models: each from its own folder in it",
    )
    group.add_argument("--recreate", action="store_true", help="create and delete it for each batch size")
    group.add_argument("--auto-kill", action="store_true", help="delete it at the end")
    group.add_argument("--mllib", help="engine that it is created for (caffe)")
    group.add_argument("--datatype", default="fp32", help="precision that it is created with (fp32)")
    group.add_argument("--nclasses", type=int, default=1000, help="(1000)")
    group.add_argument("--max-workspace-size", type=int, default=1024, metavar="MB", help="of TensorRT (1024)")
    group.add_argument("--dla", action="store_true", help="use the deep-learning accelerator 0")
    group.add_argument("--gpu", action="store_true", help="run on a GPU")
    group.add_argument(
        "--gpuid",
        action="append",
        metavar="N[,N...]",
        help="which (0; -1 or all: as the server likes). Several: calls go to all of them at a time, "
        "each with a service of its own where --create makes it",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument("--img-width", type=int, metavar="N", help=f"({SIDE}; with --models the service's own)")
    group.add_argument("--img-height", type=int, metavar="N", help=f"({SIDE}; with --models the service's own)")
    group.add_argument("--bw", action="store_true", help="grey images")
    group.add_argument("--rgb", action="store_true", help="channels in the order RGB; default BGR")
    group.add_argument("--scale", type=float, default=1, help="factor on each pixel (1)")
    group.add_argument(
        "--histogram-equalization", "--eqhist", dest="eqhist", action="store_true", help="equalize the histogram"
    )
    group.add_argument("--gpu-resize", action="store_true", help="resize on the GPU")
    group.add_argument("--image-interp", metavar="NAME", help="how images are resized: cubic, linear, nearest, ...")
    for name in ("detection", "segmentation", "regression", "search"):
        group.add_argument(f"--{name}", action="store_true", help=f"the service does {name}")
    group.add_argument("--search-multibox", action="store_true", help="with --detection: search in the boxes")
    group.add_argument("--best", type=int, metavar="N", help="classes in an answer (the server's default)")
    group.add_argument(
        "--test-batch-size",
        type=int,
        metavar="N",
        help="images that DeepDetect's torch runs at once, 0 the whole batch (nothing is said, and it takes one by one)",
    )


def _add_images(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images")
    group.add_argument(
        "--remote-bench-data-dir",
        metavar="DIR",
        help="folder of the images on the server, or a URL; without it the sample photographs are sent",
    )
    group.add_argument(
        "--list-bench-files", type=Path, metavar="FILE", help="their names, one a line (list_bench_files.txt)"
    )
    group.add_argument("--images", type=Path, metavar="DIR", help="folder of images on this machine, to be sent")
    group.add_argument(
        "--input",
        choices=("base64", "path", "raw", "url"),
        help="how: path and url name them below --remote-bench-data-dir; base64 sends them in JSON, raw as they are (dlserve, "
        "one a call). Default: path or url with --remote-bench-data-dir, else base64",
    )


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("measuring")
    group.add_argument("--max-batch-size", type=int, default=MOST_BATCH, metavar="N", help=f"({MOST_BATCH})")
    group.add_argument("--batch-sizes", metavar="N,N,...", help="these instead of the ladder")
    group.add_argument(
        "--npasses",
        type=int,
        default=5,
        metavar="N",
        help="timed calls a batch size and connection (5; a median needs 12, p90 64, p99 662)",
    )
    group.add_argument("--warm-up", type=int, metavar="N", help="calls before them (1, with --recreate 6)")
    group.add_argument("--concurrency", type=int, default=1, metavar="N", help="calls at a time, on each GPU (1)")


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--csv-output", type=Path, metavar="FILE", help="a row a batch size; rewritten after each")
    group.add_argument("--json-output", type=Path, metavar="FILE", help="the same as JSON")
    group.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder for everything, raw samples too, as dlreport reads it (with --models results/dd_bench-TIME, else none)",
    )
    group.add_argument("--resume", action="store_true", help="go on with what is in --results")
    group.add_argument("--retry-failed", action="store_true", help="with --resume: also measure again what failed")
