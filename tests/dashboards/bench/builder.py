"""Bench result folders made up for tests: every figure in them follows from the few that are written down here.

`python -m tests.dashboards.bench.builder DIR` writes the large one, with all that a bench can hold, to be looked at.
"""

import math
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from dlclient.bench_folder import BenchFolder
from dlclient.bench_result import (
    BENCH_SCHEMA,
    Accuracy,
    Bench,
    Failure,
    FailureKind,
    Load,
    MaxBatch,
    Point,
    Setting,
    Utilization,
    Warming,
)
from dlclient.results import Environment, Gpu, Latency, Reason
from dlclient.statistics import PERCENTILE_FLOORS

NETWORKS: dict[str, tuple[float, float, float]] = {
    "mobilenet_v1": (0.57, 4.23, 0.708),
    "mobilenet_v1_depthwise": (0.55, 4.23, 0.708),
    "resnet50_caffe": (3.86, 25.56, 0.753),
    "resnet101_caffe": (7.57, 44.55, 0.764),
    "resnet152_caffe": (11.28, 60.19, 0.770),
    "googlenet_caffe": (1.58, 6.99, 0.679),
    "densenet121_caffe": (3.06, 7.98, 0.749),
    "densenet201_caffe": (4.77, 20.01, 0.773),
    "squeezenet1_0_caffe": (0.85, 1.24, 0.595),
    "squeezenet1_1": (0.35, 1.23, 0.595),
    "vgg16": (15.47, 138.34, 0.705),
    "vgg19": (19.63, 143.65, 0.713),
    "shufflenet_v1": (0.12, 1.81, 0.655),
}
"""Name -> (10^9 multiply-adds, 10^6 parameters, top-1): the thirteen of DeepDetect's report."""

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
GPU_BYTES = 16_000_000_000
ENVIRONMENT = Environment(
    host="bench-1", system="Debian GNU/Linux 12", kernel="6.1.0", cpu_model="Example CPU 8000", cpu_cores=8, cpu_cores_physical=4,
    cpu_governor="performance", memory_bytes=32_000_000_000, container_memory_bytes=None, container_cpus=None,
    gpus=(Gpu("Example GPU 16 GB", GPU_BYTES),), gpu_driver="999.1", python="3.11.7", versions={"torch": "2.9.0", "dlserve": "0.1.0"},
    commit="0123456789abcdef", modified=False,
)  # fmt: skip


@dataclass
class BenchResult:
    """A bench to be: `changes` are of its run.json; `finished` false leaves it as a bench that is still running."""

    points: Sequence[Point]
    finished: bool = True
    changes: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """The folder, as dlbench leaves it."""
        planned = len(self.points) + (0 if self.finished else 3)
        bench = Bench(
            schema=BENCH_SCHEMA, kind="bench", program="dlbench", name="made-up", title="A bench made up for tests",
            started="2026-11-23T01:00:00+00:00", finished=None, points=planned, command=("dlbench", "run", "made-up"),
            environment=ENVIRONMENT,
        )  # fmt: skip
        bench = msgspec.structs.replace(bench, **self.changes)
        with BenchFolder(folder, bench, resume=False) as written:
            for point in self.points:
                written.append(point)
            if self.finished:
                written.finish()
        return folder


def latency(mean_s: float, iterations: int, *, scatter: float = 0.08) -> Latency:
    """Of so many samples scattered around the mean: percentiles only where there are enough of them."""

    def percentile(fraction: float, factor: float) -> float | None:
        return mean_s * factor if iterations >= PERCENTILE_FLOORS[fraction] else None

    half = 1.96 * scatter / math.sqrt(iterations)
    intervals = {"mean": (mean_s * (1 - half), mean_s * (1 + half))}
    return Latency(
        mean=mean_s,
        p50=percentile(0.5, 0.98),
        p90=percentile(0.9, 1 + 1.2 * scatter),
        p99=percentile(0.99, 1 + 2.6 * scatter),
        largest=mean_s * (1 + 4 * scatter),
        intervals=intervals,
    )


def point(setting: Setting, mean_s: float, *, iterations: int = 200, **more: Any) -> Point:
    """A good one, whose iterations took `mean_s` at the mean."""
    images = setting.batch_size * iterations
    wall_s = mean_s * iterations / max(1, setting.in_flight) * 1.01
    values: dict[str, Any] = {
        "started": "2026-11-23T01:00:00+00:00",
        "seconds": wall_s + 3,
        "warming": Warming(iterations=9, seconds=9 * mean_s, steady=True),
        "iterations": iterations,
        "images": images,
        "wall_s": wall_s,
        "images_per_s": images / wall_s,
        "latency_s": latency(mean_s, iterations),
        "deviation_s": mean_s * 0.08,
    }
    return Point(id=setting.id, setting=setting, **(values | more))


def failed(setting: Setting, kind: FailureKind = "out-of-memory", *, stage: str = "warm-up", text: str = "") -> Point:
    """One without figures, and why."""
    said = text or f"batch {setting.batch_size} needs more memory than the device has; ask for smaller batches"
    failure = Failure(kind=kind, stage=stage, text=said, log=f"logs/{setting.id}.log")
    return Point(id=setting.id, setting=setting, started="2026-11-23T01:00:00+00:00", seconds=5.0, failure=failure)


def forward_s(model: str, device: str, batch_size: int) -> float:
    """What a forward takes there: work over speed, and a cost of its own that batching shares out."""
    macs = NETWORKS.get(model, (4.0, 25.0, 0.7))[0] * 1e9
    speed, own_s = (3.5e12, 0.004) if device.startswith("cuda") else (6e10, 0.006)
    return own_s + macs * batch_size / speed * (1.25 if "dense" in model else 1.0)


def fits(model: str, device: str) -> int:
    """The largest batch there."""
    macs, parameters, _ = NETWORKS.get(model, (4.0, 25.0, 0.7))
    per_image = 6e6 + 22e6 * macs**0.6 * (2.2 if "dense" in model else 1.0)
    free = (GPU_BYTES if device.startswith("cuda") else 8e9) - 4e6 * parameters
    return int(free * (0.45 if device.startswith("cuda") else 0.9) / per_image)


def used_bytes(model: str, batch_size: int) -> int:
    """Of memory, at that batch."""
    macs, parameters, _ = NETWORKS.get(model, (4.0, 25.0, 0.7))
    return int(5e8 + 4e6 * parameters + batch_size * (6e6 + 22e6 * macs**0.6))


def ladder(
    models: Iterable[str] = tuple(NETWORKS),
    devices: Iterable[str] = ("cpu", "cuda:0"),
    batches: Iterable[int] = BATCHES,
    **more: Any,
) -> list[Point]:
    """DeepDetect's report: networks x devices x batch sizes; what does not fit fails."""
    points = []
    for device in devices:
        for model in models:
            for size in batches:
                setting = Setting(model=model, engine="torch", device=device, batch_size=size)
                weights = int(NETWORKS.get(model, (4, 25.0, 0.7))[1] * 4e6)
                memory = used_bytes(model, size)
                used = Utilization(samples=20, every_s=0.1, process_bytes=memory, gpu_memory_bytes=memory)
                values = {"model_bytes": weights, "utilization": used if device != "cpu" else None} | more
                good = point(setting, forward_s(model, device, size), **values)
                points.append(good if size <= fits(model, device) else failed(setting))
    return points


def busy(
    models: Iterable[str] = ("squeezenet1_1", "resnet50_caffe", "vgg16"),
    batches: Iterable[int] = (1, 5, 10, 15, 20),
    device: str = "cuda:0",
) -> list[Point]:
    """The low-batch study: how busy, over batch size and over time."""
    draw = random.Random(3)
    points = []
    for model in models:
        for size in batches:
            mean_s = forward_s(model, device, size)
            share = min(0.98, 1 - 0.004 / mean_s * 0.8)
            memory = used_bytes(model, size)
            on_gpu = device.startswith("cuda")
            series = tuple(
                (
                    0.1 * step,
                    min(1.0, 0.2 + 0.1 * draw.random()) if on_gpu else min(1.0, share + 0.04 * draw.random()),
                    min(1.0, max(0.0, share + 0.08 * (draw.random() - 0.5))) if on_gpu else None,
                    int(memory * (0.7 + 0.3 * min(1.0, step / 8))),
                )
                for step in range(40)
            )
            used = Utilization(
                samples=40, every_s=0.1, cpu=0.25 if on_gpu else share, process_cpu=1.1 if on_gpu else 8 * share, process_bytes=memory,
                gpu=share if on_gpu else None, gpu_memory=share * 0.6 if on_gpu else None,
                gpu_memory_bytes=memory if on_gpu else None, energy_j=310.0, energy_source="NVML" if on_gpu else "RAPL", series=series,
                top_operators=(("convolution", 0.61), ("batch_norm", 0.17)) if on_gpu else (),
            )  # fmt: skip
            setting = Setting(model=model, engine="torch", device=device, question="utilization", batch_size=size)
            points.append(point(setting, mean_s, utilization=used))
    return points


def largest(models: Iterable[str] = tuple(NETWORKS), devices: Iterable[str] = ("cpu", "cuda:0")) -> list[Point]:
    """The largest batch of each; one search ended before anything failed, one found no batch at all."""
    points = []
    for device in devices:
        for number, model in enumerate(models):
            setting = Setting(model=model, engine="torch", device=device, question="max-batch")
            most = fits(model, device)
            tries = tuple((2**power, "" if 2**power <= most else "out-of-memory") for power in range(13))
            found = MaxBatch(
                largest=most,
                smallest_failed=most + 1 if number else None,
                limit_bytes=None if device.startswith("cuda") else 8_000_000_000,
                tries=tries[: next((place for place, one in enumerate(tries) if one[1]), len(tries)) + 1],
            )
            points.append(point(setting, 0.01, iterations=0 + 1, max_batch=found, images_per_s=None, latency_s=None))
    return points


def matrix() -> list[Point]:
    """DLI: networks x engines x precisions x modes, threads by batch for one of them; what an engine cannot do fails."""
    points = []
    engines = {"torch": 1.0, "onnxruntime": 0.72, "openvino": 0.55}
    questions: tuple[Literal["latency", "throughput"], ...] = ("latency", "throughput")
    for model in ("resnet50", "mobilenet_v1"):
        for engine, factor in engines.items():
            for precision in ("fp32", "int8"):
                for question in questions:
                    setting = Setting(
                        model=model, engine=engine, question=question, precision=precision, in_flight=4 if question == "throughput" else 1
                    )  # fmt: skip
                    mean_s = forward_s(model, "cpu", 1) * factor * (0.5 if precision == "int8" else 1.0)
                    if (engine, precision) == ("torch", "int8"):
                        points.append(
                            failed(setting, "unsupported", stage="prepare", text="torch has no int8 here; use openvino")
                        )
                        continue
                    mean_s *= 3.2 if question == "throughput" else 1.0
                    rate = 1 / (mean_s * 0.98)
                    points.append(
                        point(setting, mean_s, compatible={"dli_batch_fps": rate, "dli_latency_s": mean_s * 0.98})
                    )
    return points


def sweep(
    model: str = "resnet50", engine: str = "openvino", threads: Sequence[int] = (1, 2, 4, 8), batches: Sequence[int] = (1, 2, 4, 8, 16)
) -> list[Point]:  # fmt: skip
    """DLI's tuning: threads by batch. The best is 8 threads at batch 4; one fails, the fastest of all is not to quote."""
    points = []
    for number in threads:
        for size in batches:
            setting = Setting(model=model, engine=engine, threads=number, batch_size=size, precision="fp16")
            mean_s = 0.002 + 0.07 * size / number**0.8 * (1.0 + 0.03 * abs(math.log2(size) - 2))
            if (number, size) == (8, 16):
                points.append(
                    failed(setting, "time-out", stage="measure", text="no answer within 120 s; raise the time-out")
                )
            elif (number, size) == (2, 16):
                wrong = Reason("not-steady", "the windows of the warm-up never agreed", "close other programs")
                points.append(point(setting, mean_s / 10, reasons=(wrong,)))
            else:
                points.append(point(setting, mean_s))
    return points


def loads(models: Iterable[str] = tuple(NETWORKS)[:6], device: str = "cpu") -> list[Point]:
    """Load and first inference, cold and again; one model is broken."""
    points = []
    for model in models:
        weights = NETWORKS.get(model, (4, 25.0, 0.7))[1] * 4e6
        warm_s = forward_s(model, device, 1)
        load_s = weights / 1.5e9 + 0.004
        load = Load(
            start_s=2.1, read_s=weights / 4e9, prepare_s=0.12 + weights / 9e9, load_s=load_s, first_run_s=warm_s * 4.5,
            reload_s=tuple(load_s * (0.8 + 0.02 * number) for number in range(5)),
            first_runs_s=tuple(warm_s * (1.3 + 0.01 * number) for number in range(5)), page_cache="warm",
        )  # fmt: skip
        setting = Setting(model=model, engine="torch", device=device, question="load")
        points.append(point(setting, warm_s, load=load, model_bytes=int(weights)))
    broken = Setting(model="broken", engine="torch", device=device, question="load")
    points.append(
        failed(broken, "error", stage="prepare", text="weights.safetensors is cut short; build the model again")
    )
    return points


def rightness(models: Iterable[str] = ("resnet50_caffe", "vgg16"), images: int = 5000) -> list[Point]:
    """Top-1 and top-5 measured, a little below what was published."""
    points = []
    for model in models:
        top1 = NETWORKS[model][2] - 0.012
        half = 1.96 * math.sqrt(top1 * (1 - top1) / images)
        found = Accuracy(
            images=images, top1=top1, top5=top1 + 0.18, top1_interval=(top1 - half, top1 + half),
            top5_interval=(top1 + 0.18 - half * 0.7, top1 + 0.18 + half * 0.7), dataset="imagenet-val 0123abcd",
        )  # fmt: skip
        setting = Setting(model=model, engine="torch", device="cuda:0", question="accuracy", batch_size=32)
        points.append(point(setting, forward_s(model, "cuda:0", 32), accuracy=found))
    return points


def small() -> list[Point]:
    """Something of everything, few enough for a test: 3 networks, 2 devices, a failure, a point that is not to quote."""
    names = ("squeezenet1_1", "resnet50_caffe", "vgg16")
    points = ladder(names, batches=(1, 8, 128))
    wrong = Reason("not-steady", "the windows of the warm-up never agreed", "close other programs")
    points[0] = msgspec.structs.replace(points[0], reasons=(wrong,))
    few = [*busy(names[:2], (1, 5)), *largest(names, ("cuda:0",)), *loads(names[:2]), *rightness(names[1:])]
    return [*points, *few]


def everything() -> list[Point]:
    """All that a bench can hold."""
    return [*ladder(), *busy(), *largest(), *loads(), *rightness()]


def tuning() -> list[Point]:
    """DLI's suite."""
    return [*matrix(), *sweep()]


def main() -> None:
    """Write both folders below a folder that the command line names."""
    target = Path(sys.argv[1])
    BenchResult(everything(), changes={"reproduces": "dd_performances"}).write(target / "everything")
    BenchResult(tuning(), changes={"reproduces": "dli", "name": "dli"}).write(target / "tuning")
    simulated = [msgspec.structs.replace(one, simulated=True) for one in ladder(tuple(NETWORKS)[:3], ("cpu",))]
    BenchResult(simulated, finished=False).write(target / "simulated")


if __name__ == "__main__":
    main()
