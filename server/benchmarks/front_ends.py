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
from dlserve import hardware
from driving import START_S, Server, check_tools, dlserve, end_all_when_told, load, write_script
from serving import BODY_BYTES, ZERO

CLIENTS = 2
CONNECTIONS = 4
"""Of each client process."""
ENOUGH_CORES = 4
GAIN, NO_LOSS = 1.7, 0.9
"""What is asked for with two front ends: on so many cores, and on fewer."""


def rate(server: Server, seconds: int, script: Path) -> float:
    """Requests per second of all client processes together."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        loads = [pool.submit(load, server, "/predict/zero", CONNECTIONS, seconds, script) for _ in range(CLIENTS)]
        return sum(one.result().rate_per_s for one in loads)


def compare(fronts: int, rounds: int, seconds: int, folder: Path) -> float:
    """Print the rates, and the ratio; the median ratio."""
    script = write_script(folder, "raw", os.urandom(BODY_BYTES), {"Content-Type": "image/jpeg"})
    with (
        dlserve(folder / "one.log") as one,
        dlserve(folder / "several.log", "--front-ends", str(fronts)) as several,
    ):
        for server in (one, several):
            httpx.put(f"{server.url}/services/zero", json=ZERO, timeout=START_S).raise_for_status()
            rate(server, 1, script)
        pairs = []
        for number in range(rounds):
            if number % 2:  # whoever is first may find a cooler machine
                pairs.append((rate(one, seconds, script), rate(several, seconds, script)))
            else:
                second = rate(several, seconds, script)
                pairs.append((rate(one, seconds, script), second))
            print(f"  round {number + 1} of {rounds} done", file=sys.stderr)
    cores = hardware.cores()
    print(
        f"\n{fronts} front ends beside one, {CLIENTS} client processes with {CONNECTIONS} connections each, {cores} cores"
    )
    for name, rates_ in zip(("one", "several"), zip(*pairs, strict=True), strict=True):
        print(f"  {name:<10} {statistics.median(rates_):7.0f} requests/s")
    enough = cores >= ENOUGH_CORES
    ratios = [more / less for less, more in pairs]
    middle = statistics.median(ratios)
    print(
        f"  requests/s, {fronts} front ends / one: {middle:.2f} x ({min(ratios):.2f} to {max(ratios):.2f}),"
        f" goal at least {GAIN if enough else NO_LOSS}: {'met' if middle >= (GAIN if enough else NO_LOSS) else 'NOT met'}"
    )
    if not enough:
        print(
            f"  {cores} cores are too few to judge the gain, which needs {ENOUGH_CORES}: this says what sharing costs"
        )
    return middle


def main() -> int:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3, help="of each measurement")
    options.add_argument("--front-ends", type=int, default=2)
    given = options.parse_args()
    if missing := check_tools():
        print(f"front_ends.py: {missing}", file=sys.stderr)
        return 1
    end_all_when_told()
    with tempfile.TemporaryDirectory() as folder:
        compare(given.front_ends, given.rounds, given.seconds, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
