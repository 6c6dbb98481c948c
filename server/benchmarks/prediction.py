"""How well the front end foretells what a call will take in its worker: `make bench` runs this too.

Real networks on torch, two workers with a thread each. One client and eight in a closed loop (wrk's), Poisson arrivals at 60 %
of what eight clients got in the same round, and eight clients and Poisson arrivals of all networks in turn by chance. The error of
a call is |predicted - actual| / actual of its time from the worker's receiving it to its reply; it is read from the server's
own histogram, so that nothing is added to a call: whether half of the calls are within 10 % is exact there, for that is a bound
of a bucket, and other figures are interpolated between the two bounds that are nearest.

The load shares the cores with the workers and the front end. wrk costs them little, this process (for the Poisson arrivals) some
more, and where there are only two cores each image that is sent or decoded interrupts a forward that runs: it takes longer than
anybody can foretell. What the machine itself does to a forward, beside: two processes that decode and run the same network in a
loop with no server and no load, each call foretold by those before it, as the server learns.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path

import httpx
from dlclient import samples
from dlclient.serving_book import Book, now, write
from dlclient.serving_result import Ratio
from dlclient.statistics import PERCENTILE_FLOORS
from dlserve.forward_times import ForwardTimes
from driving import START_S, Server, build, check_tools, dlserve, end_all_when_told, load, write_script
from overload import Call, Client
from prometheus_client.parser import text_string_to_metric_families
from serving import JPEG, NETWORKS, loop_times

GOAL = 0.10
SHARE = 0.6
"""Of the rate of eight clients: that of the Poisson arrivals."""
WARM_S = 4
METRIC = "dlserve_prediction_error_ratio"
WORKERS = 2
ALL = "all"


@dataclass(frozen=True, slots=True)
class Errors:
    """A histogram of a service's calls, or what was added to one."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    """Cumulative."""

    def since(self, before: "Errors") -> "Errors":
        """What has come after `before`."""
        return Errors(self.bounds, tuple(one - other for one, other in zip(self.counts, before.counts, strict=True)))

    def plus(self, other: "Errors") -> "Errors":
        """Both."""
        return Errors(self.bounds, tuple(one + more for one, more in zip(self.counts, other.counts, strict=True)))

    @property
    def calls(self) -> float:
        """How many there are."""
        return self.counts[-1]

    def quantile(self, share: float) -> float:
        """The error that this share of the calls keeps within, interpolated in its bucket; beyond the last bound that is told."""
        wanted = share * self.calls
        place = bisect_left(self.counts, wanted)
        low, below = (self.bounds[place - 1], self.counts[place - 1]) if place else (0.0, 0.0)
        high = self.bounds[place]
        if high == float("inf"):
            return low
        return low + (high - low) * (wanted - below) / (self.counts[place] - below)


def errors(server: Server, names: Sequence[str]) -> dict[str, Errors]:
    """What the server has counted so far, by service."""
    answer = httpx.get(f"{server.url}/metrics", params={"name[]": f"{METRIC}_bucket"}, timeout=START_S)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for family in text_string_to_metric_families(answer.raise_for_status().text):
        for sample in family.samples:
            if sample.name == f"{METRIC}_bucket" and sample.labels["service"] in found:
                found[sample.labels["service"]].append((float(sample.labels["le"]), sample.value))
    return {name: Errors(*map(tuple, zip(*sorted(rows), strict=True))) for name, rows in found.items() if rows}


@dataclass(frozen=True)
class Bench:
    """A server that runs, what is asked of it, and what was found: histograms by network and load, one per round."""

    server: Server
    image: bytes
    scripts: Mapping[str, Path]
    """wrk's, by network, and that of all."""
    seconds: int
    draws: random.Random
    found: dict[tuple[str, str], list[Errors]] = field(default_factory=dict)

    def closed(self, name: str, clients: int) -> float:
        """Requests per second of so many clients."""
        return load(self.server, f"/predict/{name}", clients, self.seconds, self.scripts[name]).rate_per_s

    def poisson(self, names: Sequence[str], rate: float) -> float:
        """Arrivals at that rate, as many for each network; what it was. Raises RuntimeError if any answer was an error."""

        async def arrive() -> list[list[Call]]:
            clients = [Client(self.server.url, name, body=self.image) for name in names]
            each = rate / len(names)
            return await asyncio.gather(*(client.phase(each, self.seconds, self.draws) for client in clients))

        statuses = [call.status for calls in asyncio.run(arrive()) for call in calls]
        if bad := set(statuses) - {200}:
            raise RuntimeError(f"{self.server.url} answered with {bad}")
        return len(statuses) / self.seconds

    def during(self, names: Sequence[str], load_name: str, do: Callable[[], float]) -> float:
        """Keep the errors of a load's calls; what `do` returns."""
        before = errors(self.server, names)
        value = do()
        for name, after in errors(self.server, names).items():
            self.found.setdefault((name, load_name), []).append(after.since(before[name]))
        return value

    def round(self, names: Sequence[str]) -> None:
        """Every network by itself, then all of them together."""
        for name in names:
            self.during((name,), "1 client", partial(self.closed, name, 1))
            rate = self.during((name,), "8 clients", partial(self.closed, name, 8))
            self.during((name,), "Poisson", partial(self.poisson, (name,), SHARE * rate))
        if len(names) > 1:
            rate = self.during(names, "8 clients, mixed", partial(self.closed, ALL, 8))
            self.during(names, "Poisson, mixed", partial(self.poisson, names, SHARE * rate))

    def bounds(self) -> str:
        """Where the buckets end that the server counts in, in percent."""
        return ", ".join(f"{100 * bound:g}" for bound in next(iter(self.found.values()))[0].bounds[:-1])

    def ratios(self) -> tuple[Ratio, ...]:
        """For each network and load the median of each round in percent, and the p90 of all rounds together."""
        told = []
        for (name, load_name), rounds in self.found.items():
            medians = tuple(100 * one.quantile(0.5) for one in rounds if one.calls)
            told.append(Ratio(text=f"{name}, {load_name}: median error", unit="%", values=medians, at_most=100 * GOAL))
            together = reduce(Errors.plus, rounds)
            if together.calls >= PERCENTILE_FLOORS[0.9]:
                text = f"{name}, {load_name}: p90, all rounds"
                told.append(Ratio(text=text, unit="%", values=(100 * together.quantile(0.9),)))
        return tuple(told)


def floor(name: str, repository: Path, image: bytes, rounds: int, seconds: int) -> Ratio:
    """By how much a call differs from the mean of those before it where there is no server: per round the median, in percent."""
    medians = []
    for _ in range(rounds):
        off = []
        for times, _ in loop_times(WORKERS, repository / name, image, seconds):
            learned = ForwardTimes()
            for taken in times:
                if learned.known:
                    off.append(abs(learned.seconds(1) / taken - 1))
                learned.learn(1, taken)
        medians.append(100 * statistics.median(off))
    return Ratio(text=f"{name}, no server, two loops: median error", unit="%", values=tuple(medians))


def main() -> int:
    """Start a server, load it, and tell."""
    options = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3, help="of each measurement, whole ones")
    options.add_argument("--networks", default=",".join(NETWORKS))
    options.add_argument("--results", type=Path, default=Path("results/prediction"))
    given = options.parse_args()
    end_all_when_told()
    if problem := check_tools():
        print(f"make bench: {problem}", file=sys.stderr)
        return 1
    began, names = now(), tuple(given.networks.split(","))
    image = samples.sample_images((500,))["astronaut-500.jpg"]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        repository = build(folder, names)
        scripts = {name: write_script(folder, name, image, JPEG) for name in names}
        scripts[ALL] = write_script(folder, ALL, image, JPEG, [f"/predict/{name}" for name in names])
        with dlserve(folder / "dlserve.log", "--models-dir", str(repository), "--preload", "all") as server:
            bench = Bench(server, image, scripts, given.seconds, random.Random(0))  # noqa: S311  arrivals, seeded
            for name in names:
                load(server, f"/predict/{name}", 8, WARM_S, scripts[name])
            for number in range(given.rounds):
                bench.round(names)
                print(f"  prediction: round {number + 1} of {given.rounds} done", file=sys.stderr)
        floors = [floor(name, repository, image, given.rounds, given.seconds) for name in names]
    book = Book(ratios=[*bench.ratios(), *floors])
    write(given.results, "How well the time of a call is foretold", began, given.seconds, book)
    print(f"errors are interpolated within buckets that end at {bench.bounds()} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
