"""What a cold reload costs, as ratios measured in one run: `make bench`. Page cache warm, one thread per worker, medians.

1. torch: latency of a request from `disk` less that of a warm one, through the server, beside the time to read the same bytes
   into memory that is there already; and beside the obvious code, torch.jit.load and torch.load.
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
from dataclasses import dataclass, field
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
from dlmodels.engines.host import give_back_freed
from dlmodels.limits import read_into
from dlmodels.repository import read_model

START_S = 300
NETWORKS = ("resnet152", "vgg16", "squeezenet1_1")
TARGETS = MappingProxyType({"onnxruntime": "onnx", "openvino": "openvino"})
"""Engine -> what `dlmodels convert` calls its format."""
SKIPPED_ROUNDS = 2
"""The first ones also pay for kernels, threads and the page cache."""


@dataclass
class Times:
    """Seconds of one thing, a sample per round."""

    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the rounds that count."""
        return statistics.median(self.samples[SKIPPED_ROUNDS:])

    def quartiles_above(self, other: "Times") -> tuple[float, float, float]:
        """Of the differences, round by round."""
        pairs = zip(self.samples[SKIPPED_ROUNDS:], other.samples[SKIPPED_ROUNDS:], strict=True)
        first, middle, last = statistics.quantiles((one - two for one, two in pairs), n=4)
        return first, middle, last


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
) -> dict[str, Times]:
    """Warm, disk, the disk request's load, and all that is measured beside, in turns."""
    times = {name: Times() for name in ("warm", "disk", "load", *beside)}
    for _ in range(rounds + SKIPPED_ROUNDS):
        ask(client, service, image, "warm" if times["warm"].samples else "disk")  # wakes the worker up
        times["warm"].samples.append(ask(client, service, image, "warm").latency_s)
        cold = ask(client, service, image, "disk")
        times["disk"].samples.append(cold.latency_s)
        times["load"].samples.append(cold.load_s)
        for name, one in beside.items():
            times[name].samples.append(one.measure())
    for one in beside.values():
        one.close()
    return times


def milliseconds(seconds: float) -> str:
    """For a column of nine."""
    return f"{seconds * 1e3:9.2f}"


def torch_part(client: httpx.Client, repository: Path, networks: Sequence[str], image: bytes, rounds: int) -> None:
    """Part 1."""
    print(f"\ntorch, cold minus warm through the server, ms; medians of {rounds} interleaved rounds")
    print(
        f"{'network':<15} {'MB':>6} {'warm':>9} {'cold':>9} {'extra':>9} {'read':>9} {'jit.load':>9} {'torch.load':>10}"
        f"   extra/read  of the goal"
    )
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            spec = read_model(repository / network)
            beside: dict[str, Child | FileRead] = {
                "read": FileRead(Path(spec.folder) / spec.weights),
                "jit.load": Child(child_torch, network, folder, "jit"),
                "torch.load": Child(child_torch, network, folder, "state"),
            }
            times = measure_network(client, network, image, rounds, beside)
            low_s, extra_s, high_s = times["disk"].quartiles_above(times["warm"])
            read_s = times["read"].median
            goal_s = 0.5 * read_s if network == "vgg16" else 1.2 * read_s + 0.005
            verdict = "met" if extra_s <= goal_s else "NOT met"
            if high_s - low_s > goal_s:
                verdict = (
                    f"too noisy to tell: half of the rounds between {low_s * 1e3:.1f} and {high_s * 1e3:.1f} ms extra"
                )
            cells = [times["warm"].median, times["disk"].median, extra_s, read_s]
            cells += [times["jit.load"].median, times["torch.load"].median]
            print(
                f"{network:<15} {spec.weights_bytes / 1e6:6.1f} {' '.join(map(milliseconds, cells))} "
                f" {extra_s / read_s:10.2f} x {extra_s / goal_s:10.2f} x  {verdict}"
            )
    print(
        "goal: extra at most 1.2 x read + 5 ms; vgg16 at most 0.5 x read. read: the weights' file into memory that is there."
    )
    print(
        "jit.load, torch.load: the obvious code, a traced file, and a state dict into the network, with the first forward less a warm one"
    )


def engine_part(
    client: httpx.Client, repository: Path, engine: str, networks: Sequence[str], image: bytes, rounds: int
) -> None:
    """Part 2, for one engine."""
    print(f"\n{engine}, stage load of a request from disk beside the bare creation of a session, ms")
    prepare = {"onnxruntime": child_onnxruntime, "openvino": child_openvino}[engine]
    for network in networks:
        service = f"{network}-{TARGETS[engine]}"
        spec = read_model(repository / service)
        path = Path(spec.folder) / (spec.graph or spec.weights)
        times = measure_network(client, service, image, rounds, {"bare": Child(prepare, str(path))})
        load_s, bare_s = times["load"].median, times["bare"].median
        spread = sorted(
            load / bare
            for load, bare in zip(
                times["load"].samples[SKIPPED_ROUNDS:], times["bare"].samples[SKIPPED_ROUNDS:], strict=True
            )
        )
        print(
            f"{network:<15} warm {milliseconds(times['warm'].median)}  load {milliseconds(load_s)}  bare {milliseconds(bare_s)}"
            f"  load/bare {load_s / bare_s:5.2f} x  ({spread[0]:.2f} to {spread[-1]:.2f})   goal at most 1"
        )


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
    given = options.parse_args()
    if given.rounds < 2:
        options.error("--rounds: at least 2 are needed")
    networks = tuple(given.networks.split(","))

    def quiet(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    image = sample_images((500,))["astronaut-500.jpg"]
    try:
        local_server.build(networks, given.repository, quiet)
        reasons = {
            engine: {network: convert(given.repository, engine, network) for network in networks} for engine in TARGETS
        }
        with (
            local_server.serving(given.repository, workers=2, say=quiet, echo=lambda _: None) as url,
            httpx.Client(base_url=url, timeout=START_S, trust_env=False) as client,
        ):
            torch_part(client, given.repository, networks, image, given.rounds)
            for engine, why_not in reasons.items():
                able = [network for network in networks if not why_not[network]]
                engine_part(client, given.repository, engine, able, image, given.rounds)
                for network in networks:
                    if why_not[network]:
                        print(f"{network:<15} left out: {engine} {why_not[network]}")
    except LocalServerError as exc:
        print(f"make bench: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
