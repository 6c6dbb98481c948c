"""The command line of dd_bench -> Options. DeepDetect's options keep their names, defaults and meaning."""

import argparse
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from dlclient.dd_bench.options import Creation, Images, Input, Network, Options, Task
from dlclient.dd_bench.plan import ladder
from dlclient.errors import ClientError, LocalServerError
from dlclient.local_server import REPOSITORY, preset_networks

_HOST, _PORT = "localhost", 8080
_MOST_BATCH = 256
_SIDE = 224
_EPILOG = """\
Not kept of DeepDetect's dd_bench: an HTTP error ends one row, not the run; figures are divided by the images that were really
sent; each pass takes the next images of the list, and begins anew at its end; --recreate of a TensorRT service writes no engine
files; blank lines of the list are skipped; --auto-kill deletes the services however the run ends.

  dd_bench --sname resnet18 --max-batch-size 32                   a service that is there, sample photographs
  dd_bench --models deepdetect-report --max-batch-size 4          13 networks, a dlserve of its own where none runs
  dd_bench --sname r50 --create /models/r50 --mllib torch --gpu --gpuid 0,1 --concurrency 2 --auto-kill

Exit codes: 0 every batch was measured, 1 some could not be (their rows say why), 2 bad options, 130 interrupted.
"""


def parse(argv: Sequence[str], say: Callable[[str], None]) -> Options:
    """Read and check. `say` is told of what is decided by itself. Exits with 2 at bad options, as argparse does."""
    parser = _parser()
    given = parser.parse_args(argv)
    try:
        return _options(given, tuple(argv), say)
    except ClientError as exc:
        parser.error(str(exc))


class _UsageError(ClientError):
    """An option that cannot be what it is; the message names it and the cure."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dd_bench",
        description="Measure a DeepDetect-style server over a ladder of batch sizes: 1, 2, 4, 8, 16, 32, 48, 64, ...",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for add in (_add_server, _add_service, _add_images, _add_measuring, _add_output):
        add(parser)
    return parser


def _add_server(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--host", help=f"name, or http(s):// URL ({_HOST})")
    group.add_argument("--port", type=int, help=f"({_PORT})")
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
    group.add_argument("--img-width", type=int, metavar="N", help=f"({_SIDE}; with --models the service's own)")
    group.add_argument("--img-height", type=int, metavar="N", help=f"({_SIDE}; with --models the service's own)")
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
    group.add_argument("--max-batch-size", type=int, default=_MOST_BATCH, metavar="N", help=f"({_MOST_BATCH})")
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


def _options(given: argparse.Namespace, argv: tuple[str, ...], say: Callable[[str], None]) -> Options:
    _check_numbers(given)
    name, models = _models(given)
    creation = _creation(given)
    url = _url(given)
    serve = None
    if given.models and given.host is None and creation is None and not _listens(url):
        say(f"nothing listens at {url}: a dlserve of this run's own will")
        serve = given.repository
    images = _images(given)
    side = None if given.models or images.input == "raw" else _SIDE
    results = given.results
    if given.resume and results is None:
        raise _UsageError("--resume goes on with a result: name its folder with --results DIR")
    if given.retry_failed and not given.resume:
        raise _UsageError("--retry-failed is of a run that goes on: add --resume and --results DIR")
    if results is None and given.models:
        results = Path("results") / time.strftime("dd_bench-%Y%m%d-%H%M%S")
    warm_up = given.warm_up
    if warm_up is None:
        warm_up = 6 if given.recreate else 1
    return Options(
        url=url,
        api_key=_api_key(given.api_key_file),
        timeout_s=given.timeout,
        name=name,
        models=models,
        as_table=given.models is not None,
        serve=serve,
        creation=creation,
        network=Network(
            width=given.img_width or side,
            height=given.img_height or side,
            interp=given.image_interp or None,
            gpu_resize=given.gpu_resize,
        ),
        gpu=given.gpu,
        gpuids=_gpuids(given),
        task=Task(
            detection=given.detection,
            segmentation=given.segmentation,
            regression=given.regression,
            search=given.search,
            search_multibox=given.search_multibox,
        ),
        best=given.best,
        test_batch_size=given.test_batch_size,
        images=images,
        batch_sizes=_batch_sizes(given),
        largest_batch=given.max_batch_size,
        passes=given.npasses,
        warm_up=warm_up,
        concurrency=given.concurrency,
        auto_kill=given.auto_kill,
        csv=given.csv_output,
        json=given.json_output,
        results=results,
        resume=given.resume,
        retry_failed=given.retry_failed,
        command=("dd_bench", *argv),
    )


def _check_numbers(given: argparse.Namespace) -> None:
    for option in ("npasses", "max_batch_size", "concurrency"):
        if getattr(given, option) < 1:
            raise _UsageError(f"--{option.replace('_', '-')} {getattr(given, option)}: at least 1 is needed")
    for option in ("warm_up", "test_batch_size"):
        if (getattr(given, option) or 0) < 0:
            raise _UsageError(f"--{option.replace('_', '-')} {getattr(given, option)}: at least 0 is needed")
    if not given.timeout > 0:
        raise _UsageError(f"--timeout {given.timeout:g}: a number of seconds above 0 is needed")


def _models(given: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """The run's name and its models."""
    if given.models is None:
        name = given.sname or Path(given.create or "").name
        if not name:
            raise _UsageError("name a service with --sname, or several with --models A,B,C")
        return name, (name,)
    if given.sname:
        raise _UsageError("--sname names one service and --models several: leave one of them out")
    names = tuple(dict.fromkeys(name.strip() for name in given.models.split(",") if name.strip()))
    if not names:
        raise _UsageError("--models: name at least one service or a preset of `dlmodels list`")
    if len(names) == 1:
        with suppress(LocalServerError):  # then it is a model's name
            return names[0], preset_networks(names[0])
    return "dd_bench", names


def _creation(given: argparse.Namespace) -> Creation | None:
    if given.create is None:
        if given.recreate:
            raise _UsageError("--recreate makes a service for each batch size: say from which folder with --create DIR")
        return None
    return Creation(
        repository=given.create,
        mllib=given.mllib or "caffe",
        mllib_given=given.mllib is not None,
        nclasses=given.nclasses,
        datatype=given.datatype,
        workspace_mb=given.max_workspace_size,
        bw=given.bw,
        rgb=given.rgb,
        scale=given.scale,
        equalize=given.eqhist,
        dla=given.dla,
        recreate=given.recreate,
    )


def _gpuids(given: argparse.Namespace) -> tuple[int, ...]:
    words = [word.strip() for part in given.gpuid or ["0"] for word in part.split(",")]
    try:
        numbers = tuple(dict.fromkeys(-1 if word == "all" else int(word) for word in words))
    except ValueError:
        raise _UsageError(f"--gpuid {','.join(words)}: give numbers of GPUs, such as 0,1, or all") from None
    if len(numbers) > 1 and -1 in numbers:
        raise _UsageError(f"--gpuid {','.join(words)}: all stands alone")
    if len(numbers) > 1 and not given.gpu:
        raise _UsageError(f"--gpuid {','.join(words)} means GPUs: add --gpu")
    return numbers


def _images(given: argparse.Namespace) -> Images:
    remote: str = given.remote_bench_data_dir or ""
    by_url = urlsplit(remote).scheme in {"http", "https"}
    kind: Input = given.input or (("url" if by_url else "path") if remote else "base64")
    if kind == "raw":
        _check_raw(given)
    if kind in {"path", "url"}:
        if not remote:
            raise _UsageError(f"--input {kind}: say with --remote-bench-data-dir where the server finds the images")
        if by_url != (kind == "url"):
            raise _UsageError(
                f"--input {kind}: --remote-bench-data-dir {remote} is {'a' if by_url else 'no'} http(s):// URL"
            )
        if given.images:
            raise _UsageError(f"--input {kind} sends names only: leave --images out, or use --input base64")
        names = given.list_bench_files or Path("list_bench_files.txt")
        return Images(input=kind, remote=remote.rstrip("/"), names_file=names)
    if remote:
        raise _UsageError(
            f"--input {kind} sends images of this machine: name their folder with --images, not --remote-bench-data-dir"
        )
    if given.list_bench_files and not given.images:
        raise _UsageError(
            "--list-bench-files names images: say where they are with --remote-bench-data-dir or --images"
        )
    return Images(input=kind, names_file=given.list_bench_files, folder=given.images)


def _check_raw(given: argparse.Namespace) -> None:
    names = ("img_width", "img_height", "image_interp", "gpu_resize", "test_batch_size", "detection", "segmentation")
    for name in (*names, "regression", "search"):
        if getattr(given, name) not in {None, False}:
            raise _UsageError(f"--input raw carries no --{name.replace('_', '-')}: leave it out, or use --input base64")


def _batch_sizes(given: argparse.Namespace) -> tuple[int, ...]:
    if given.batch_sizes is None:
        return ladder(given.max_batch_size)
    try:
        sizes = tuple(sorted({int(word) for word in given.batch_sizes.split(",")}))
    except ValueError:
        sizes = ()
    if not sizes or sizes[0] < 1:
        raise _UsageError(f"--batch-sizes {given.batch_sizes}: give numbers of images, such as 1,2,4")
    return sizes


def _url(given: argparse.Namespace) -> str:
    host = given.host or _HOST
    if "://" in host:
        parts = urlsplit(host)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise _UsageError(f"--host {host}: give a name, or a URL such as http://127.0.0.1:8080")
        return str(host.rstrip("/"))
    return f"http://{host}:{given.port or _PORT}"


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or _PORT), timeout=2):
            return True
    except OSError:
        return False


def _api_key(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise _UsageError(f"--api-key-file {path}: cannot be read: {exc}; name a text file with the key in it") from exc
    if not key.isascii() or not key.isprintable() or not key:
        raise _UsageError(f"--api-key-file {path}: holds no key; put one line of plain characters into it")
    return key
