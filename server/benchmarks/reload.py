"""What a cold reload costs, as ratios measured in one run: `make bench`. Page cache warm, one thread per worker, medians.

1. torch: latency of a request from `disk` less that of a warm one, through the server, beside the time to read the same bytes
   into memory that is there already; and beside the obvious code, torch.jit.load and torch.load, a traced file and a state
   dict into the network, with the first forward less a warm one.
2. onnxruntime and openvino: the stage `load` of a request from disk beside the bare creation of a session on the same file.

Warm, cold, read and obvious code take turns, so that what else the machine does meets all of them alike.
"""

import argparse
import importlib.util
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import httpx
from dlclient import local_server
from dlclient.errors import LocalServerError
from dlclient.samples import sample_images
from dlclient.serving_book import Book, now, write
from dlclient.serving_result import Measured, Ratio, Round
from dlmodels.engines.host import give_back_freed
from dlmodels.limits import read_into
from dlmodels.repository import read_model

START_S = 300
NETWORKS = ("resnet152", "vgg16", "squeezenet1_1")
TARGETS = MappingProxyType({"onnxruntime": "onnx", "openvino": "openvino"})
"""Engine -> what `dlmodels convert` calls its format."""
SKIPPED_ROUNDS = 2
"""The first ones also pay for kernels, threads and the page cache."""


@dataclass(frozen=True)
class Answer:
    """`latency_s` is without the stage `demote`, which sets a cold request up."""

    latency_s: float
    load_s: float


def ask(client: httpx.Client, service: str, image: bytes, temperature: str) -> Answer:
    """One request to worker 0. Raises RuntimeError if it did not find the weights where it should."""
    wish = {} if temperature == "warm" else {"cache": temperature}
    began = perf_counter()
    answer = client.post(
        f"/predict/{service}", params={"worker": 0, **wish}, content=image, headers={"Content-Type": "image/jpeg"}
    )
    waited_s = perf_counter() - began
    head = answer.raise_for_status().json()["head"]
    if head["cache"] != temperature:
        raise RuntimeError(f"{service} was asked for {temperature} and found {head['cache']}")
    return Answer(waited_s - head["timing"]["demote"], head["timing"]["load"])


# Everything below that begins with `child_` runs in a process of its own, beside the server.


def child_loop(prepare: Callable[..., Callable[[], float]], arguments: Sequence[Any], pipe: Connection) -> None:
    """Prepare once, then measure whenever asked; ends when nobody asks any more."""
    measure = prepare(*arguments)
    pipe.send(0.0)
    while pipe.recv():
        pipe.send(measure())


def child_torch(network: str, folder: str, how: str) -> Callable[[], float]:
    """The obvious code: load and first forward, less a warm forward."""
    import torch  # noqa: PLC0415  only in the child
    import torchvision  # noqa: PLC0415

    warnings.filterwarnings("ignore", message=".*deprecated", category=FutureWarning)  # the obvious code is an old one
    torch.set_num_threads(1)
    module = torchvision.models.get_model(network).eval()
    images = torch.zeros(1, 3, 224, 224)
    path = str(Path(folder) / f"{network}.{how}")
    if how == "jit":
        torch.jit.trace(module, images).save(path)  # type: ignore[no-untyped-call]  # torch leaves its own jit without types
    else:
        torch.save(module.state_dict(), path)

    def measure() -> float:
        nonlocal module
        began = perf_counter()
        if how == "jit":
            module = torch.jit.load(path)  # type: ignore[no-untyped-call]  # as above
        else:
            module.load_state_dict(torch.load(path))
        module(images)
        cold = perf_counter()
        for _ in range(2):  # TorchScript optimizes in its first two forwards; the third is warm
            module(images)
        warm = perf_counter()
        module(images)
        return (cold - began) - (perf_counter() - warm)

    def without_gradients() -> float:
        with torch.inference_mode():
            return measure()

    return without_gradients


def child_onnxruntime(path: str) -> Callable[[], float]:
    """A bare session, in memory that the one before gave back to the system, as a cache's must: else its pages are there already."""
    import onnxruntime  # noqa: PLC0415  only in the child

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1

    def measure() -> float:
        began = perf_counter()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        took_s = perf_counter() - began
        del session
        give_back_freed()
        return took_s

    return measure


def child_openvino(path: str) -> Callable[[], float]:
    """A bare compiled model."""
    import openvino  # noqa: PLC0415  only in the child

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}

    def measure() -> float:
        began = perf_counter()
        core.compile_model(path, "CPU", settings)
        return perf_counter() - began

    return measure


class Child:
    """Measures on request in a process of its own."""

    def __init__(self, prepare: Callable[..., Callable[[], float]], *arguments: Any) -> None:
        context = get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=child_loop, args=(prepare, arguments, other), daemon=True)
        self._process.start()
        other.close()
        self._take()

    def measure(self) -> float:
        """Seconds."""
        self._pipe.send(True)
        return self._take()

    def _take(self) -> float:
        if not self._pipe.poll(START_S):
            raise RuntimeError("a measurement beside the server takes too long")
        return float(self._pipe.recv())

    def close(self) -> None:
        """End it."""
        self._pipe.send(False)
        self._process.join(START_S)


class FileRead:
    """Reads a file into the same memory again and again."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._buffer = mmap.mmap(-1, path.stat().st_size)
        self.measure()

    def measure(self) -> float:
        """Seconds."""
        return read_into(self._descriptor, self._buffer)

    def close(self) -> None:
        """Give file and memory back."""
        os.close(self._descriptor)
        self._buffer.close()


def measure_network(
    client: httpx.Client, service: str, image: bytes, rounds: int, beside: Mapping[str, Child | FileRead]
) -> dict[str, tuple[float, ...]]:
    """Seconds of warm, disk, the disk request's load, and all that is measured beside, in turns; of the rounds that count."""
    times: dict[str, list[float]] = {name: [] for name in ("warm", "disk", "load", *beside)}
    for _ in range(rounds + SKIPPED_ROUNDS):
        ask(client, service, image, "warm" if times["warm"] else "disk")  # wakes the worker up
        times["warm"].append(ask(client, service, image, "warm").latency_s)
        cold = ask(client, service, image, "disk")
        times["disk"].append(cold.latency_s)
        times["load"].append(cold.load_s)
        for name, one in beside.items():
            times[name].append(one.measure())
    for one in beside.values():
        one.close()
    return {name: tuple(samples[SKIPPED_ROUNDS:]) for name, samples in times.items()}


def booked(book: Book, part: str, body: str, times: Mapping[str, Sequence[float]]) -> None:
    """Write down what each thing took, round by round."""
    for name, samples in times.items():
        rounds = tuple(Round(p50_s=seconds, rate_per_s=1 / seconds) for seconds in samples if seconds)
        failure = "" if rounds else "it took no time"
        book.measured.append(Measured(part=part, target=name, clients=1, body=body, rounds=rounds, failure=failure))


def torch_part(client: httpx.Client, repository: Path, network: str, image: bytes, rounds: int, book: Book) -> None:
    """Part 1, for one network."""
    spec = read_model(repository / network)
    with tempfile.TemporaryDirectory() as folder:
        beside: dict[str, Child | FileRead] = {
            "read": FileRead(Path(spec.folder) / spec.weights),
            "jit.load": Child(child_torch, network, folder, "jit"),
            "torch.load": Child(child_torch, network, folder, "state"),
        }
        times = measure_network(client, network, image, rounds, beside)
    booked(book, f"{network}, torch", f"{spec.weights_bytes / 1e6:.1f} MB of weights", times)
    extra = [cold - warm for cold, warm in zip(times["disk"], times["warm"], strict=True)]
    read_s = statistics.median(times["read"])
    goal_s, goal = (0.5 * read_s, "0.5 x read") if network == "vgg16" else (1.2 * read_s + 0.005, "1.2 x read + 5 ms")
    over_read = tuple(more / one for more, one in zip(extra, times["read"], strict=True))
    first, _, last = statistics.quantiles(extra, n=4)
    noisy = last - first > goal_s
    book.ratios += [
        Ratio(text=f"{network}, torch: (disk - warm) / reading its file", values=over_read),
        Ratio(
            text=f"{network}, torch: disk - warm, goal {goal}{', too noisy to tell' if noisy else ''}",
            unit="ms",
            values=tuple(more * 1e3 for more in extra),
            at_most=None if noisy else round(goal_s * 1e3, 2),
        ),
    ]


def engine_part(
    client: httpx.Client, repository: Path, engine: str, network: str, image: bytes, rounds: int, book: Book
) -> None:
    """Part 2, for one engine and network."""
    prepare = {"onnxruntime": child_onnxruntime, "openvino": child_openvino}[engine]
    service = f"{network}-{TARGETS[engine]}"
    spec = read_model(repository / service)
    path = Path(spec.folder) / (spec.graph or spec.weights)
    times = measure_network(client, service, image, rounds, {"bare": Child(prepare, str(path))})
    booked(book, f"{network}, {engine}", f"{spec.weights_bytes / 1e6:.1f} MB of weights", times)
    values = tuple(load / bare for load, bare in zip(times["load"], times["bare"], strict=True))
    book.ratios.append(Ratio(text=f"{network}, {engine}: load / a bare session", values=values, at_most=1.0))


def convert(repository: Path, engine: str, network: str) -> str:
    """Make the folder that the engine reads; "" or why that is not possible."""
    if importlib.util.find_spec(engine) is None:
        return "is not installed (make install)"
    if (repository / f"{network}-{TARGETS[engine]}" / "model.toml").exists():
        return ""
    print(f"  converting {network} for {engine}", file=sys.stderr, flush=True)
    command = [str(local_server.COMMANDS / "dlmodels"), "convert", network, "--to", TARGETS[engine]]
    command += ["--repository", str(repository), "--tolerance", "0.01"]  # random weights; it is only about time here
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)  # noqa: S603  our own command
    if done.returncode == 0:
        return ""
    return f"cannot run it: {(done.stderr.strip().splitlines() or ['dlmodels convert failed'])[-1]}"


def main() -> int:
    """Run both parts."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--reload-rounds", "--rounds", dest="rounds", type=int, default=15, metavar="N")
    options.add_argument("--networks", default=",".join(NETWORKS), metavar="A,B")
    options.add_argument("--repository", type=Path, default=local_server.REPOSITORY, metavar="DIR")
    options.add_argument("--results", type=Path, default=Path("results/reload"), metavar="DIR")
    given = options.parse_args()
    if given.rounds < 2:
        options.error("--rounds: at least 2 are needed")
    networks = tuple(given.networks.split(","))

    def quiet(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    image = sample_images((500,))["astronaut-500.jpg"]
    began, book = now(), Book()
    try:
        local_server.build(networks, given.repository, quiet)
        reasons = {
            engine: {network: convert(given.repository, engine, network) for network in networks} for engine in TARGETS
        }
        with (
            local_server.serving(given.repository, workers=2, say=quiet, echo=lambda _: None) as url,
            httpx.Client(base_url=url, timeout=START_S, trust_env=False) as client,
        ):
            for network in networks:
                torch_part(client, given.repository, network, image, given.rounds, book)
                quiet(f"reload: {network} on torch done")
                for engine, why_not in reasons.items():
                    if why := why_not[network]:
                        part, failure = f"{network}, {engine}", f"left out: {engine} {why}"
                        book.measured.append(Measured(part=part, target="load", clients=1, failure=failure))
                        continue
                    engine_part(client, given.repository, engine, network, image, given.rounds, book)
                    quiet(f"reload: {network} on {engine} done")
    except LocalServerError as exc:
        print(f"make bench: {exc}", file=sys.stderr)
        return 1
    write(given.results, "What a cold reload costs", began, 0.0, book)
    return 0


if __name__ == "__main__":
    sys.exit(main())
