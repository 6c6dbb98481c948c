"""What is left of a server's useful answers when twice as much is asked as it can do: a part of `make bench`.

Two workers with a simulated model whose batches take as long per image as one, so that the capacity is known; every request
has a deadline. Poisson arrivals at the capacity, then at twice that, then at half: answers in time per second, answers and
refusals beside each other, the time to a refusal, the memory of the server's processes, and how soon after the overload calls
are in time again.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psutil
from dlclient import local_server

FORWARD_S = 0.05
WORKERS = 2
CAPACITY = WORKERS / FORWARD_S
DEADLINE_S = 0.5
BODY = b"x" * 60_000
RECOVERED = 10
"""Calls in a row that are in time: then the overload is over."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: seconds from when it was due; `due` since the phase began."""

    due: float
    status: int
    seconds: float

    @property
    def good(self) -> bool:
        """Answered in time."""
        return self.status == 200 and self.seconds <= DEADLINE_S


class Client:
    """Kept-alive connections, as many as are needed at once, to one model of a server."""

    def __init__(self, url: str, model: str, deadline_s: float | None = None) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = host, int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        limit = "" if deadline_s is None else f"X-Timeout-Ms: {deadline_s * 1e3:g}\r\n"
        self._request = (
            f"POST /predict/{model} HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\n"
            f"{limit}Content-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    async def call(self) -> int:
        """Send a request; its status."""
        connection = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        reader, writer = connection
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        await reader.readexactly(int(length[1]))
        self._idle.append(connection)
        return int(head[9:12])

    async def phase(self, rate: float, seconds: float, draws: random.Random) -> list[Call]:
        """Poisson arrivals for so long, each sent when it is due, whatever became of those before."""
        calls: list[Call] = []
        began = perf_counter()

        async def one(due: float) -> None:
            status = await self.call()
            calls.append(Call(due, status, perf_counter() - began - due))

        due = 0.0
        async with asyncio.TaskGroup() as group:
            while (due := due + draws.expovariate(rate)) < seconds:
                await asyncio.sleep(due - (perf_counter() - began))
                group.create_task(one(due))
        return sorted(calls, key=lambda call: call.due)


def resident_mib(processes: Sequence[psutil.Process]) -> float:
    """Memory of the server, in MiB."""
    return float(sum(process.memory_info().rss for process in processes)) / (1 << 20)


def recovery_s(calls: Sequence[Call]) -> float:
    """Seconds until the first of `RECOVERED` calls in a row that are in time; infinite if there are none."""
    for place in range(len(calls) - RECOVERED + 1):
        if all(call.good for call in calls[place : place + RECOVERED]):
            return calls[place].due
    return float("inf")


def write_model(models: Path, name: str, parameters: str) -> None:
    """A simulated model of these lines of TOML."""
    (models / name).mkdir()
    (models / name / "model.toml").write_text(f'engine = "simulated"\n[parameters]\n{parameters}\n')


def show(name: str, value: str, goal: str, met: bool) -> None:
    """A line of the result."""
    print(f"  {name:<58} {value:>12}   goal {goal}{'' if met else '   MISSED'}")


async def measure(url: str, seconds: float) -> None:
    """All phases and their figures."""
    client, draws = Client(url, "sim", DEADLINE_S), random.Random(0)  # noqa: S311  arrivals, seeded
    processes = psutil.Process().children(recursive=True)
    await client.phase(CAPACITY / 2, 3, draws)  # so that the forward time is known
    at_capacity = await client.phase(CAPACITY, seconds, draws)
    before = resident_mib(processes)
    overloaded = await client.phase(2 * CAPACITY, seconds, draws)
    after = resident_mib(processes)
    later = await client.phase(CAPACITY / 2, 5, draws)

    print(
        f"\noverload: {WORKERS} simulated workers of {1 / FORWARD_S:g} images/s, deadline {DEADLINE_S * 1e3:g} ms, {seconds:g} s each"
    )
    goods = []
    for name, calls in (("capacity", at_capacity), ("2 x capacity", overloaded)):
        counts = {status: sum(call.status == status for call in calls) for status in (200, 429, 504)}
        goods.append(sum(call.good for call in calls) / seconds)
        print(
            f"  at {name:<13} {goods[-1]:6.1f} answers in time/s   late {sum(c.status == 200 and not c.good for c in calls)}"
            f"   refused {counts[429]}   dropped {counts[504]}   other {len(calls) - sum(counts.values())}"
        )
    ratio = goods[1] / goods[0]
    show("answers in time, 2 x capacity / capacity", f"{ratio:.3f} x", "at least 0.95", ratio >= 0.95)
    refusals = sorted(call.seconds for call in overloaded if call.status == 429)
    slowest = refusals[int(0.99 * len(refusals))] if refusals else 0.0
    show("time to a refusal, 99 % of them", f"{slowest * 1e3:.1f} ms", "at most 50 ms", slowest <= 0.05)
    show(
        "memory of the server after the overload / before",
        f"{after / before:.3f} x",
        "at most 1.05",
        after <= 1.05 * before,
    )
    back_s = recovery_s(later)
    show("calls in time again after", f"{back_s:.2f} s", "at most 2 s", back_s <= 2)


def main() -> int:
    """Start a server and load it."""
    options = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=60.0, help="at capacity, and as long at twice that")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), "sim", f"forward_s = [{FORWARD_S}]")
        with local_server.serving(Path(folder), workers=WORKERS, say=lambda _: None, echo=lambda _: None) as url:
            asyncio.run(measure(url, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
