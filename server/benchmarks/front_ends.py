"""What several front ends give: `make bench` runs this too. Ratios measured in one run, medians over rounds.

A simulated model of zero cost and a raw body of 60 KB; the load is that of two wrk processes with four connections each, on
servers with one front end and with several, in turns. What limits the rate is then the front end, and where there are cores
for more than one of them, several are faster. Two front ends, two workers and two load generators want six cores; how many
there are is printed, since with fewer than four no gain can be seen, only what sharing costs.
"""

import argparse
import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from dlclient.serving_book import Book, now, ratios, write
from dlclient.serving_result import Measured, Ratio, Round
from dlserve import hardware
from driving import START_S, Server, check_tools, dlserve, end_all_when_told, load, write_script
from serving import BODY_BYTES, ZERO, rate

CLIENTS = 2
CONNECTIONS = 4
"""Of each client process."""
ENOUGH_CORES = 4
GAIN, NO_LOSS = 1.7, 0.9
"""What is asked for with two front ends: on so many cores, and on fewer."""


def ask(server: Server, seconds: int, script: Path) -> Round:
    """All client processes together: their requests per second, and the middle of their medians."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        loads = [pool.submit(load, server, "/predict/zero", CONNECTIONS, seconds, script) for _ in range(CLIENTS)]
        rounds = [one.result() for one in loads]
    halves = [one.p50_s for one in rounds if one.p50_s is not None]
    return Round(p50_s=statistics.median(halves), rate_per_s=sum(one.rate_per_s for one in rounds))


def compare(fronts: int, rounds: int, seconds: int, folder: Path, book: Book) -> None:
    """The rates, and the ratio."""
    script = write_script(folder, "raw", os.urandom(BODY_BYTES), {"Content-Type": "image/jpeg"})
    found: dict[str, list[Round]] = {"1 front end": [], f"{fronts} front ends": []}
    with (
        dlserve(folder / "one.log") as one,
        dlserve(folder / "several.log", "--front-ends", str(fronts)) as several,
    ):
        servers = dict(zip(found, (one, several), strict=True))
        for server in servers.values():
            httpx.put(f"{server.url}/services/zero", json=ZERO, timeout=START_S).raise_for_status()
            ask(server, 1, script)
        for number in range(rounds):
            turns = list(servers.items())
            for name, server in turns if number % 2 else reversed(turns):  # whoever is first may find a cooler machine
                found[name].append(ask(server, seconds, script))
            print(f"  front ends: round {number + 1} of {rounds} done", file=sys.stderr)
    clients = CLIENTS * CONNECTIONS
    for name, measured in found.items():
        book.measured.append(
            Measured(
                part="front ends",
                target=name,
                clients=clients,
                body=f"{BODY_BYTES // 1000} KB, raw",
                rounds=tuple(measured),
            )
        )
    enough = hardware.cores() >= ENOUGH_CORES
    first, second = found
    values = ratios(book, "front ends", (second, clients), (first, clients), rate)
    text = f"requests/s, {second} / one, on {hardware.cores()} cores"
    book.ratios.append(Ratio(text=text, values=values, at_least=GAIN if enough else NO_LOSS))
    if not enough:
        print(
            f"{hardware.cores()} cores are too few to judge the gain, which needs {ENOUGH_CORES}: this says what sharing costs"
        )


def main() -> int:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3, help="of each measurement")
    options.add_argument("--front-ends", type=int, default=2)
    options.add_argument("--results", type=Path, default=Path("results/front-ends"))
    given = options.parse_args()
    if missing := check_tools():
        print(f"front_ends.py: {missing}", file=sys.stderr)
        return 1
    end_all_when_told()
    began, book = now(), Book()
    with tempfile.TemporaryDirectory() as folder:
        compare(given.front_ends, given.rounds, given.seconds, Path(folder), book)
    write(given.results, "What several front ends give", began, given.seconds, book)
    return 0


if __name__ == "__main__":
    sys.exit(main())
