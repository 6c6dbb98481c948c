"""The command line of dd_bench -> Options. DeepDetect's options keep their names, defaults and meaning."""

import argparse
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from dlclient.api_key import read_api_key
from dlclient.dd_bench.options import Creation, Images, Input, Network, Options, Task
from dlclient.dd_bench.parser import HOST, PORT, SIDE, parser
from dlclient.dd_bench.plan import ladder
from dlclient.errors import ApiKeyError, ClientError, LocalServerError
from dlclient.local_server import preset_networks


def parse(argv: Sequence[str], say: Callable[[str], None]) -> Options:
    """Read and check. `say` is told of what is decided by itself. Exits with 2 at bad options, as argparse does."""
    reader = parser()
    given = reader.parse_args(argv)
    try:
        return _options(given, tuple(argv), say)
    except ClientError as exc:
        reader.error(str(exc))


class _UsageError(ClientError):
    """An option that cannot be what it is; the message names it and the cure."""


def _options(given: argparse.Namespace, argv: tuple[str, ...], say: Callable[[str], None]) -> Options:
    _check_numbers(given)
    name, models = _models(given)
    images = _images(given)
    creation = _creation(given)
    url = _url(given)
    return Options(
        url=url,
        api_key=_api_key(given.api_key_file),
        timeout_s=given.timeout,
        name=name,
        models=models,
        as_table=given.models is not None,
        serve=_own_server(given, url, say),
        creation=creation,
        network=_network(given, images),
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
        warm_up=_warm_up(given),
        concurrency=given.concurrency,
        auto_kill=given.auto_kill,
        csv=given.csv_output,
        json=given.json_output,
        results=_results(given),
        resume=given.resume,
        retry_failed=given.retry_failed,
        command=("dd_bench", *argv),
    )


def _own_server(given: argparse.Namespace, url: str, say: Callable[[str], None]) -> Path | None:
    """The repository that it serves; None: a server is there, or named."""
    if not given.models or given.host is not None or given.create is not None or _listens(url):
        return None
    say(f"nothing listens at {url}: a dlserve of this run's own will")
    repository: Path = given.repository
    return repository


def _network(given: argparse.Namespace, images: Images) -> Network:
    side = None if given.models or images.input == "raw" else SIDE
    return Network(
        width=given.img_width or side,
        height=given.img_height or side,
        interp=given.image_interp or None,
        gpu_resize=given.gpu_resize,
    )


def _warm_up(given: argparse.Namespace) -> int:
    """As many untimed calls as DeepDetect's makes, unless said otherwise."""
    if given.warm_up is not None:
        return int(given.warm_up)
    return 6 if given.recreate else 1


def _results(given: argparse.Namespace) -> Path | None:
    if given.retry_failed and not given.resume:
        raise _UsageError("--retry-failed is of a run that goes on: add --resume and --results DIR")
    if given.resume and given.results is None:
        raise _UsageError("--resume goes on with a result: name its folder with --results DIR")
    if given.results is None and given.models:
        return Path("results") / time.strftime("dd_bench-%Y%m%d-%H%M%S")
    results: Path | None = given.results
    return results


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
    host = given.host or HOST
    if "://" in host:
        parts = urlsplit(host)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise _UsageError(f"--host {host}: give a name, or a URL such as http://127.0.0.1:8080")
        return str(host.rstrip("/"))
    return f"http://{host}:{given.port or PORT}"


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or PORT), timeout=2):
            return True
    except OSError:
        return False


def _api_key(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return read_api_key(path)
    except ApiKeyError as exc:
        raise _UsageError(str(exc)) from exc
