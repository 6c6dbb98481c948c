"""What it costs to be measured by dlbench: `make bench`. Everything is compared within one run, in turns, medians over rounds.

1. Latency mode beside a bare loop over the same engine call: what the clock, the checks of each answer and the record of it add
   to an iteration. On an engine that costs nothing, and on a real network.
2. Throughput mode on OpenVINO, with as many requests as it calls optimal, beside OpenVINO's own benchmark_app on the same model.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import msgspec
from dlclient.bench.inproc import InProcess
from dlclient.bench.job import EVENT, Budget, Ended, Job
from dlclient.bench.timing import Limits, measure
from dlclient.bench_result import Setting
from dlmodels.engines import create_engine
from dlmodels.engines.base import Batch as Pictures
from dlmodels.engines.base import Model

COMMANDS = Path(sys.executable).parent
MOST_ADDED_S = 50e-6
LEAST_RATIO = 0.95
LATENCY_MODEL = "squeezenet1_1"
_BATCHES = 4


def bare_loop(run: Callable[[Pictures], object], batches: Sequence[Pictures], iterations: int) -> list[float]:
    """Seconds from the beginning of each iteration to that of the next, of the engine's call alone."""
    times = [perf_counter()]
    for number in range(iterations):
        run(batches[number % len(batches)])
        times.append(perf_counter())
    return [after - before for before, after in pairwise(times)]


def added(setting: Setting, repository: Path, rounds: int, iterations: int) -> tuple[float, float]:
    """Medians over all iterations, of the bare loop and of latency mode: seconds from one beginning to the next."""
    subject = InProcess(Job(setting=setting, repository=str(repository)))
    subject.start()
    subject.open()
    subject.infer(subject.inputs(1, 1)[0])
    batches = subject.inputs(1, _BATCHES)  # with their answers: each is checked as in a measurement
    model = _model(subject, setting)
    data: list[Pictures] = [batch.data for batch in batches]  # type: ignore[misc]
    bare: list[float] = []
    ours: list[float] = []
    for _ in range(rounds):
        bare += bare_loop(model.run, data, iterations)
        timed = measure(subject.infer, batches, 1, Limits(iterations, 0.0, 1e9))
        ours += [after - before for before, after in pairwise([sample.began_s for sample in timed.samples])]
    subject.close()
    return statistics.median(bare), statistics.median(ours)


def _model(subject: InProcess, setting: Setting) -> Model:
    """The same model once more, without dlbench around it."""
    engine = create_engine(subject.spec.engine, setting.device, setting.threads or 1)
    engine.start()
    model = engine.prepare(subject.spec)
    model.load()
    return model


def by_dlbench(setting: Setting, repository: Path, seconds: float) -> tuple[float, dict[str, object]]:
    """Images per second in a point's own process, and what the engine used. Raises RuntimeError where it failed."""
    budget = Budget(max_s=seconds, warm_up_max_s=seconds)
    job = Job(setting=setting, budget=budget, repository=str(repository))
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "dlclient.bench.child", "--events-fd", str(writer)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(writer,)) as process:  # noqa: S603  our own program
        os.close(writer)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(job))
        process.stdin.close()
        with os.fdopen(reader, "rb") as told:
            last = [EVENT.decode(line) for line in told][-1]
    match last:
        case Ended(point) if point.images_per_s is not None:
            return point.images_per_s, dict(point.read_back)
        case _:
            raise RuntimeError(f"dlbench failed: {last}")


def by_benchmark_app(graph: Path, seconds: float) -> float:
    """Images per second by OpenVINO's own tool, at its defaults but for fp32, as dlserve computes. Raises RuntimeError."""
    command = [str(COMMANDS / "benchmark_app"), "-m", str(graph), "-d", "CPU", "-hint", "throughput"]
    command += ["-shape", "[1,3,224,224]", "-infer_precision", "f32", "-t", str(max(round(seconds), 1))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  OpenVINO's own program
    found = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    if found is None:
        raise RuntimeError(f"benchmark_app told no throughput:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return float(found[1])


def compare_latency_mode(repository: Path, model: str, rounds: int) -> bool:
    """Print what latency mode adds; whether it is little enough."""
    good = True
    cases = (
        (Setting(model="nothing", engine="simulated", threads=1), 500),
        (Setting(model=model, engine="openvino", threads=1), 5),
    )
    print(f"latency mode beside a bare loop ({rounds} rounds in turns, medians of an iteration)")
    for setting, iterations in cases:
        bare_s, ours_s = added(setting, repository, rounds, iterations)
        good = good and ours_s - bare_s < MOST_ADDED_S
        print(
            f"  {setting.model} on {setting.engine}: bare {bare_s * 1e6:.1f} us, in dlbench {ours_s * 1e6:.1f} us:"
            f" {(ours_s - bare_s) * 1e6:+.1f} us, ratio {ours_s / bare_s:.3f}"
        )
    print(f"  {'good' if good else 'BAD'}: less than {MOST_ADDED_S * 1e6:.0f} us are allowed")
    return good


def compare_throughput(repository: Path, model: str, rounds: int, seconds: float) -> bool:
    """Print the ratio of dlbench's throughput to benchmark_app's; whether it is high enough."""
    graph = repository / f"{model}-openvino" / "model.xml"
    setting = Setting(
        model=model,
        engine="openvino",
        question="throughput",
        in_flight=0,
        options={"hint": "throughput", "streams": 0, "batch": 1, "pinning": True},  # as benchmark_app has them
    )
    print(
        f"throughput mode: {model} on openvino beside benchmark_app ({rounds} rounds of {seconds:g} s each, in turns)"
    )
    ratios = []
    for number in range(rounds):
        theirs = by_benchmark_app(graph, seconds)
        ours, used = by_dlbench(setting, repository, seconds)
        again = by_benchmark_app(graph, seconds)
        ratios.append(2 * ours / (theirs + again))
        print(
            f"  round {number + 1}: benchmark_app {theirs:.1f} and {again:.1f} images/s, dlbench {ours:.1f} between"
            f" ({used['in_flight']} in flight, {used['streams']} streams, {used['threads']} threads): ratio {ratios[-1]:.3f}",
            flush=True,
        )
    ratio = statistics.median(ratios)
    good = ratio >= LEAST_RATIO
    print(f"  {'good' if good else 'BAD'}: median ratio {ratio:.3f}, at least {LEAST_RATIO} is asked for")
    return good


def build(model: str, repository: Path) -> None:
    """The network for OpenVINO, unless it is there."""
    if not (repository / f"{model}-openvino").exists():
        for command in (["build", model], ["convert", model, "--to", "openvino"]):
            line = [str(COMMANDS / "dlmodels"), *command, "--repository", str(repository)]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  our own command


def main() -> int:
    """Run both comparisons; the exit status is 1 where one is bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each throughput")
    parser.add_argument("--repository", type=Path, help="of model folders; what is missing is built there")
    parser.add_argument("--model", default="resnet50", help="of the throughput (default: resnet50)")
    parser.add_argument("--only", choices=("latency", "throughput"))
    options = parser.parse_args()
    holder = nullcontext(str(options.repository)) if options.repository else tempfile.TemporaryDirectory()
    with holder as folder:
        repository = Path(folder)
        for model in {LATENCY_MODEL, options.model}:
            build(model, repository)
        good = True
        if options.only != "throughput":
            good = compare_latency_mode(repository, LATENCY_MODEL, 10 * options.rounds)
        if options.only != "latency":
            good = compare_throughput(repository, options.model, options.rounds, options.seconds) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
