"""How long a rare model's calls take beside a hot one that has the worker to itself: a part of `make bench`.

One worker. A hot model is asked at 95 % of what its largest batches give, a rare one now and then, both in Poisson's manner.
First both models are resident. Then the budget holds one of the two: each rare call has its model loaded in the hot one's
place, which comes back after it, so that the worker is offered more than it can do and the hot model's queue grows for as
long as this is asked. Each call is held against the bound that the batcher states (`dlserve.worker.batcher`), which counts
batches, by what a full batch of the hot model and a lone call of the rare one take here, measured before. The longest of all
rare calls is what is judged: no percentile of so few can be above it.
"""

import argparse
import asyncio
import math
import random
import sys
import tempfile
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from dlclient import local_server
from dlclient.serving_book import Book, now, write
from dlclient.serving_result import Measured, Ratio
from dlserve.worker.batcher import TURNS
from dlserve.worker.eviction import residence_s
from overload import Call, Client, write_model

MAX_BATCH = 8
HOT_S = tuple(0.02 + 0.005 * images for images in range(1, MAX_BATCH + 1))
"""Forward of the hot model by batch size: a full batch gives most images per second."""
RARE_S = 0.01
LOAD_S = 0.2
"""Of either model."""
SIZE_MIB = 100
"""Of either model's weights."""
LOAD = 0.95
HOT_RATE = LOAD * MAX_BATCH / HOT_S[-1]
BURST = 20 * MAX_BATCH
"""Calls at once, to see what full batches take."""
LONE = 11
"""Calls one after the other."""
QUEUE = 1 << 16
"""Calls that may wait: the hot model's must not be refused, they are what the rare one's have to get past."""


@dataclass(frozen=True, slots=True)
class Part:
    """A way to share the worker."""

    name: str
    budget_mib: int
    rare_rate: float
    """Calls per second."""
    reload_s: float
    """What it takes either model to come back after the other; 0: it need not."""


PARTS = (
    Part("both resident", 2 * SIZE_MIB, 2.0, 0.0),
    Part("room for one of them", SIZE_MIB, 0.5, LOAD_S),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a round."""

    hot: list[Call]
    rare: list[Call]
    bound_s: float
    """That a rare call might take."""


def bound_s(batch_s: float, own_s: float, reload_s: float) -> float:
    """What the batcher promises a model's call while one other model waits, whose full batches take `batch_s`.

    `own_s`: of the call alone, warm. `reload_s`: of either model, 0 where both stay.

    The batch that runs when it comes may have begun with a load. Then come `TURNS` batches; or, where that takes longer,
    what is left of the other model's stay on the device and the batch that has begun by then.
    """
    stay_s = residence_s(reload_s) if reload_s else 0.0
    return reload_s + batch_s + max(TURNS * batch_s, stay_s) + reload_s + own_s


async def ask(url: str, part: Part, seconds: float, seed: int) -> Asked:
    """Ask both models, after a look at what each takes alone."""
    hot, rare = Client(url, "hot"), Client(url, "rare")
    own_s = sorted([await _timed(rare.call()) for _ in range(1 + LONE)])[LONE // 2]
    await hot.call()
    for _ in range(2):  # in the first one the server learns how far batches may grow
        burst_s = await _timed(asyncio.gather(*(hot.call() for _ in range(BURST))))
    first, second = (random.Random(f"{name} {seed}") for name in ("hot", "rare"))  # noqa: S311  arrivals, seeded
    asked = (hot.phase(HOT_RATE, seconds, first), rare.phase(part.rare_rate, seconds, second))
    found_hot, found_rare = await asyncio.gather(*asked)
    return Asked(found_hot, found_rare, bound_s(burst_s * MAX_BATCH / BURST, own_s, part.reload_s))


async def _timed(what: Awaitable[object]) -> float:
    """Seconds until it has come."""
    began = perf_counter()
    await what
    return perf_counter() - began


def measure(part: Part, models: Path, rounds: int, seconds: float, book: Book) -> None:
    """A server for each round, and the figures of all."""
    options = ("--max-batch", str(MAX_BATCH), "--cache-mb", str(part.budget_mib), "--queue", str(QUEUE))
    found: list[Asked] = []
    for number in range(rounds):
        with local_server.serving(models, workers=1, options=options, say=_hush, echo=_hush) as url:
            found.append(asyncio.run(ask(url, part, seconds, number)))
        print(f"  {part.name}: round {number + 1} of {rounds} done", file=sys.stderr)
    hot, rare = [call for one in found for call in one.hot], [call for one in found for call in one.rare]
    failed = sum(call.status != 200 for call in hot + rare)
    print(
        f"\nstarvation: {part.name}; hot model {len(hot) / rounds / seconds:.0f} calls/s, {LOAD:.0%} of the worker,"
        f" rare one {len(rare)} calls in {rounds} x {seconds:g} s; failed {failed}"
    )
    print(f"  {'half of the calls within: hot, rare':<58} {_half(hot):>5.0f},{_half(rare):>4.0f} ms")
    print(f"  {'longest call: hot, rare':<58} {_longest(hot):>5.0f},{_longest(rare):>4.0f} ms")
    bounds_ms = sorted(one.bound_s * 1e3 for one in found)
    worst = [max(call.seconds for call in one.rare) / one.bound_s for one in found if one.rare]
    text = f"{part.name}: longest rare call / the bound ({bounds_ms[0]:.0f} to {bounds_ms[-1]:.0f} ms)"
    book.ratios.append(Ratio(text=text, values=(max(worst),) if worst else (), at_most=1))
    if failed:
        book.measured.append(Measured(part="starvation", target=part.name, clients=0, failure=f"{failed} calls failed"))


def _half(calls: Sequence[Call]) -> float:
    """The median, in milliseconds."""
    return sorted(call.seconds for call in calls)[len(calls) // 2] * 1e3 if calls else math.nan


def _longest(calls: Sequence[Call]) -> float:
    """In milliseconds."""
    return max((call.seconds for call in calls), default=math.nan) * 1e3


def _hush(_line: str) -> None:
    """What the server says of itself."""


def main() -> int:
    """Both parts."""
    options = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=20.0, help="of each round")
    options.add_argument("--results", type=Path, default=Path("results/starvation"))
    given = options.parse_args()
    began, book = now(), Book()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        weights = f"load_s = {LOAD_S}\nbytes = {SIZE_MIB << 20}"
        write_model(models, "hot", f"forward_s = {list(HOT_S)}\n{weights}")
        write_model(models, "rare", f"forward_s = {RARE_S}\n{weights}")
        for part in PARTS:
            measure(part, models, given.rounds, given.seconds, book)
    write(given.results, "How long a rare model's calls take beside a hot one", began, given.seconds, book)
    return 0


if __name__ == "__main__":
    sys.exit(main())
