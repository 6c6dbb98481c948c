"""What it costs to be measured by dlbench: `make bench`. Everything is compared within one run, in turns, medians over rounds.

1. Latency mode beside a bare loop over the same engine call: what the clock, the checks of each answer and the record of it add
   to an iteration. On an engine that costs nothing, and on a real network.
2. Throughput mode on OpenVINO, with as many requests as it calls optimal, beside OpenVINO's own benchmark_app on the same model.

The result folder is drawn by dlreport.
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
from dlclient.serving_book import Book, now, write
from dlclient.serving_result import Measured, Ratio, Round
from dlmodels.engines.base import Batch as Pictures

COMMANDS = Path(sys.executable).parent
MOST_ADDED_US = 50.0
LEAST_RATIO = 0.95
LATENCY_MODEL = "squeezenet1_1"
BODY = "preprocessed images"
_BATCHES = 4


def bare_loop(run: Callable[[Pictures], object], batches: Sequence[Pictures], iterations: int) -> list[float]:
    """Seconds from the beginning of each iteration to that of the next, of the engine's call alone."""
    times = [perf_counter()]
    for number in range(iterations):
        run(batches[number % len(batches)])
        times.append(perf_counter())
    return [after - before for before, after in pairwise(times)]


def side_by_side(
    setting: Setting, repository: Path, rounds: int, turns: int, iterations: int
) -> list[tuple[float, float]]:
    """Of each round, medians over turns: seconds of an iteration of the bare loop, and how much longer one of latency mode took.

    Neighbours in time are compared, so that another program's bursts meet both alike.
    """
    subject = InProcess(Job(setting=setting, repository=str(repository)))
    subject.start()
    subject.open()
    subject.infer(subject.inputs(1, 1)[0])
    batches = subject.inputs(1, _BATCHES)  # with their answers: each is checked as in a measurement
    data: list[Pictures] = [batch.data for batch in batches]  # type: ignore[misc]

    def bare() -> float:
        return statistics.median(bare_loop(subject.model.run, data, iterations))

    def ours() -> float:
        timed = measure(subject.infer, batches, 1, Limits(iterations, 0.0, 1e9))
        return statistics.median(after - before for before, after in pairwise(one.began_s for one in timed.samples))

    found: list[tuple[float, float]] = []
    for _ in range(rounds):
        bare_s: list[float] = []
        more_s: list[float] = []
        for turn in range(turns):
            took_s = {do: do() for do in ((bare, ours) if turn % 2 else (ours, bare))}
            bare_s.append(took_s[bare])
            more_s.append(took_s[ours] - took_s[bare])
        found.append((statistics.median(bare_s), statistics.median(more_s)))
    subject.close()
    return found


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


def compare_latency_mode(repository: Path, model: str, rounds: int, book: Book) -> None:
    """What latency mode adds to an iteration."""
    cases = (
        (Setting(model="nothing", engine="simulated", threads=1), 500, 20),
        (Setting(model=model, engine="openvino", threads=1), 4, 100),
    )
    for setting, iterations, turns in cases:
        part = f"{setting.model} on {setting.engine}, latency mode"
        found = side_by_side(setting, repository, rounds, turns, iterations)
        targets = (("bare loop", [bare_s for bare_s, _ in found]), ("dlbench", [sum(both) for both in found]))
        for target, times in targets:
            one_by_one = tuple(Round(p50_s=time_s, rate_per_s=1 / time_s) for time_s in times)
            book.measured.append(Measured(part=part, target=target, clients=1, body=BODY, rounds=one_by_one))
        more_us = tuple(more_s * 1e6 for _, more_s in found)
        text = f"{part}: added to a bare loop"
        book.ratios.append(Ratio(text=text, unit="us", values=more_us, at_most=MOST_ADDED_US))


def compare_throughput(repository: Path, model: str, rounds: int, seconds: float, book: Book) -> None:
    """dlbench's throughput beside benchmark_app's."""
    graph = repository / f"{model}-openvino" / "model.xml"
    setting = Setting(
        model=model,
        engine="openvino",
        question="throughput",
        in_flight=0,
        options={"hint": "throughput", "streams": 0, "batch": 1, "pinning": True},  # as benchmark_app has them
    )
    part = f"{model} on openvino, throughput mode"
    rates: dict[str, list[float]] = {"benchmark_app": [], "dlbench": []}
    used: dict[str, object] = {}
    for number in range(rounds):
        before = by_benchmark_app(graph, seconds)
        ours, used = by_dlbench(setting, repository, seconds)
        after = by_benchmark_app(graph, seconds)
        rates["benchmark_app"].append((before + after) / 2)
        rates["dlbench"].append(ours)
        print(f"  {part}: round {number + 1} of {rounds} done", file=sys.stderr)
    in_flight = int(str(used["in_flight"]))
    for target, found in rates.items():
        settings = f"{used['streams']} streams, {used['threads']} threads" if target == "dlbench" else "its own"
        in_turn = tuple(Round(rate_per_s=rate) for rate in found)
        book.measured.append(
            Measured(part=part, target=target, clients=in_flight, body=BODY, settings=settings, rounds=in_turn)
        )
    values = tuple(ours / theirs for ours, theirs in zip(rates["dlbench"], rates["benchmark_app"], strict=True))
    book.ratios.append(
        Ratio(text=f"{model} on openvino: images/s / benchmark_app's", values=values, at_least=LEAST_RATIO)
    )


def build(model: str, repository: Path) -> None:
    """The network for OpenVINO, unless it is there."""
    if not (repository / f"{model}-openvino").exists():
        for command in (["build", model], ["convert", model, "--to", "openvino"]):
            line = [str(COMMANDS / "dlmodels"), *command, "--repository", str(repository)]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  our own command


def main() -> int:
    """Run both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each throughput")
    parser.add_argument("--repository", type=Path, help="of model folders; what is missing is built there")
    parser.add_argument("--model", default="resnet50", help="of the throughput (default: resnet50)")
    parser.add_argument("--only", choices=("latency", "throughput"))
    parser.add_argument("--results", type=Path, default=Path("results/overhead"))
    options = parser.parse_args()
    began, book = now(), Book()
    holder = nullcontext(str(options.repository)) if options.repository else tempfile.TemporaryDirectory()
    with holder as folder:
        repository = Path(folder)
        for model in {LATENCY_MODEL, options.model}:
            build(model, repository)
        if options.only != "throughput":
            compare_latency_mode(repository, LATENCY_MODEL, options.rounds, book)
        if options.only != "latency":
            compare_throughput(repository, options.model, options.rounds, options.seconds, book)
    write(options.results, "What it costs to be measured by dlbench", began, options.seconds, book)
    return 0


if __name__ == "__main__":
    sys.exit(main())
