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
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import psutil
from dlclient import local_server
from dlclient.serving_book import Book, now, write
from dlclient.serving_result import Measured, Ratio, Round

FORWARD_S = 0.05
WORKERS = 2
CAPACITY = WORKERS / FORWARD_S
DEADLINE_S = 0.5
BODY = b"x" * 60_000
LATER_S = 5.0
"""After the overload. Who has not recovered by then has missed the goal of 2 s."""
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

    def __init__(self, url: str, model: str, deadline_s: float | None = None, body: bytes = BODY) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = host, int(port)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        limit = "" if deadline_s is None else f"X-Timeout-Ms: {deadline_s * 1e3:g}\r\n"
        self._request = (
            f"POST /predict/{model} HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\n"
            f"{limit}Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

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


def memory_bytes(processes: Sequence[psutil.Process]) -> int:
    """Of the server, what its processes share counted once (Linux's proportional set size)."""
    return sum(process.memory_full_info().pss for process in processes)


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


async def measure(url: str, seconds: float, book: Book) -> None:
    """All phases and their figures."""
    client, draws = Client(url, "sim", DEADLINE_S), random.Random(0)  # noqa: S311  arrivals, seeded
    processes = psutil.Process().children(recursive=True)
    await client.phase(CAPACITY / 2, 3, draws)  # so that the forward time is known
    at_capacity = await client.phase(CAPACITY, seconds, draws)
    before = memory_bytes(processes)
    overloaded = await client.phase(2 * CAPACITY, seconds, draws)
    after = memory_bytes(processes)
    later = await client.phase(CAPACITY / 2, LATER_S, draws)

    print(
        f"\noverload: {WORKERS} simulated workers of {1 / FORWARD_S:g} images/s, deadline {DEADLINE_S * 1e3:g} ms, {seconds:g} s each"
    )
    for name, calls in (("at capacity", at_capacity), ("at 2 x capacity", overloaded)):
        book.measured.append(in_time(name, calls, seconds))
        counts = {status: sum(call.status == status for call in calls) for status in (200, 429, 504)}
        print(
            f"  {name:<16} late {sum(c.status == 200 and not c.good for c in calls)}   refused {counts[429]}"
            f"   dropped {counts[504]}   other {len(calls) - sum(counts.values())}"
        )
    useful, useful_overloaded = (one.rounds[0].rate_per_s for one in book.measured)
    refusals_ms = sorted(call.seconds * 1e3 for call in overloaded if call.status == 429)
    slowest_ms = (refusals_ms[int(0.99 * len(refusals_ms))],) if refusals_ms else ()
    back_s = min(recovery_s(later), LATER_S)  # infinity is no JSON
    book.ratios += [
        Ratio(text="answers in time, 2 x capacity / capacity", values=(useful_overloaded / useful,), at_least=0.95),
        Ratio(text="time to a refusal, 99 % of them", unit="ms", values=slowest_ms, at_most=50),
        Ratio(text="memory of the server after the overload / before", values=(after / before,), at_most=1.05),
        Ratio(text="calls in time again after", unit="s", values=(back_s,), at_most=2),
    ]


def in_time(phase: str, calls: Sequence[Call], seconds: float) -> Measured:
    """The answers in time of a phase."""
    good = [call.seconds for call in calls if call.good]
    half_s = statistics.median(good) if good else None
    rounds = (Round(p50_s=half_s, rate_per_s=len(good) / seconds),)
    body = f"{len(BODY) // 1000} KB, raw"
    return Measured(part="overload", target=f"dlserve, {phase}", clients=0, body=body, rounds=rounds)


def main() -> int:
    """Start a server and load it."""
    options = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=60.0, help="at capacity, and as long at twice that")
    options.add_argument("--results", type=Path, default=Path("results/overload"))
    given = options.parse_args()
    began, book = now(), Book()
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), "sim", f"forward_s = [{FORWARD_S}]")
        with local_server.serving(Path(folder), workers=WORKERS, say=lambda _: None, echo=lambda _: None) as url:
            asyncio.run(measure(url, given.seconds, book))
    write(given.results, "What an overload leaves of a server", began, given.seconds, book)
    return 0


if __name__ == "__main__":
    sys.exit(main())
