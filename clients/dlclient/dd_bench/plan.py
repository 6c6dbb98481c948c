"""What a run of dd_bench measures: the ladder of batch sizes, and a setting for each point. Pure."""

from collections.abc import Iterator

from dlclient.bench_result import Setting
from dlclient.dd_bench.options import Options

_DOUBLED_TO = 32
_STEP = 16


def ladder(largest: int) -> tuple[int, ...]:
    """DeepDetect's: 1, 2, 4, 8, 16, 32, then 16 more each time, up to `largest`."""
    sizes = []
    size = 1
    while size <= largest:
        sizes.append(size)
        size = size * 2 if size < _DOUBLED_TO else size + _STEP
    return tuple(sizes)


def settings(options: Options) -> Iterator[Setting]:
    """One for each model and batch size, in the order in which they are measured."""
    for model in options.models:
        for batch_size in options.batch_sizes:
            yield setting(options, model, batch_size)


def setting(options: Options, model: str, batch_size: int) -> Setting:
    """Of one point: all that would change its figures, but not how often it is measured."""
    creation = options.creation
    in_flight = options.concurrency * len(options.gpuids)
    return Setting(
        model=model,
        engine=creation.mllib if creation else "",
        device=device(options),
        question="latency" if in_flight == 1 else "throughput",
        batch_size=batch_size,
        in_flight=in_flight,
        precision=creation.datatype if creation else "",
        target=options.url,
        input=options.images.input,
        options=_options(options),
    )


def device(options: Options) -> str:
    """As a setting has it: what the server is asked for."""
    if not options.gpu:
        return ""
    return ",".join("cuda" if gpuid < 0 else f"cuda:{gpuid}" for gpuid in options.gpuids)


def _options(options: Options) -> dict[str, str | int | float | bool]:
    """What differs from the defaults, so that a new option does not make old points strange."""
    network, creation, task = options.network, options.creation, options.task
    said: dict[str, str | int | float | bool | None] = {
        "images": options.images.source,
        "width": network.width,
        "height": network.height,
        "interp": network.interp,
        "cuda": network.gpu_resize,
        "best": options.best,
        "test_batch_size": options.test_batch_size,
        "task": task.name,
    }
    if creation:
        said |= {
            "repository": creation.repository,
            "recreate": creation.recreate,
            "nclasses": creation.nclasses,
            "bw": creation.bw,
            "rgb": creation.rgb,
            "scale": creation.scale if creation.scale != 1 else None,
            "histogram_equalization": creation.equalize,
            "dla": creation.dla,
        }
    return {key: value for key, value in said.items() if value is not None and value is not False and value != ""}
