"""The options of `dlbench balance`, checked."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlclient.balance_result import Where
from dlclient.errors import SuiteError
from dlclient.local_server import COMMANDS

RESIDENCIES = ("all", "third")
MIXES = ("uniform", "zipf:1.1", "drift:1.1:4")
LOADS = (0.5, 0.8)
REAL = "zipf:1.1@0.8"
MOST_MODEL_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True)
class BalanceOptions:
    """What is compared."""

    policies: tuple[str, ...]
    """() all that the server has."""
    residencies: tuple[str, ...]
    mixes: tuple[str, ...]
    loads: tuple[float, ...]
    workers: tuple[int, ...]
    real: tuple[tuple[str, float], ...] | None
    """Mixes and loads that run in processes too; None: all of them."""
    requests: int
    real_requests: int
    real_rounds: int
    scale: float
    bandwidth: float
    seed: int

    def wheres(self) -> list[Where]:
        """The cells, those of the model first; within a scenario the policies one after the other."""
        model = self._cells("model", self.workers)
        real = [
            one
            for one in self._cells("real", self.workers[:1])
            if self.real is None or (one.mix, one.load) in self.real
        ]
        return model + real

    def requests_of(self, where: Where) -> int:
        """How many requests a cell has."""
        if where.source == "real":
            return self.real_requests
        return min(max(self.requests * where.workers // 8, 1), MOST_MODEL_REQUESTS)

    def _cells(self, source: str, workers: Sequence[int]) -> list[Where]:
        return [
            Where(policy=policy, residency=residency, mix=mix, load=load, workers=count, source=source)  # type: ignore[arg-type]
            for count in workers
            for residency in self.residencies
            for mix in self.mixes
            for load in self.loads
            for policy in self.policies
        ]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of the sub-command."""
    parser.add_argument("--policies", metavar="NAME,...", help="of dlserve --balance (default: all that there are)")
    parser.add_argument(
        "--residency", default=",".join(RESIDENCIES), metavar="NAME,...",
        help="all: each worker's budget holds every model; third: a third of their bytes (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--mixes", default=",".join(MIXES), metavar="MIX,...", help="how often each model is asked, as of the stream's --mix (%(default)s)"
    )  # fmt: skip
    parser.add_argument(
        "--loads", default=",".join(map(str, LOADS)), metavar="X,...",
        help="work offered, over what the workers can do one image at a time (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", default="8", metavar="N,...", help="simulated workers; the first number runs in processes too (%(default)s)"
    )  # fmt: skip
    parser.add_argument(
        "--real", default=REAL, metavar="MIX@LOAD,...|all|none",
        help="what runs in processes, over HTTP, beside the model: about two minutes for each policy and residency (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--requests",
        type=int,
        default=20_000,
        metavar="N",
        help="of a cell of the model, for each 8 workers (%(default)s)",
    )
    parser.add_argument(
        "--real-requests", type=int, default=6_000, metavar="N", help="of a cell in processes (%(default)s)"
    )
    parser.add_argument(
        "--real-rounds", type=int, default=5, metavar="N",
        help="runs of a cell in processes, at most: another as long as those before differ too much to tell a tenth (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--scale", type=float, default=10.0, metavar="X",
        help="all times of the published profiles times this, so that client and server are no bottleneck on few cores (%(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--bandwidth", type=float, default=1e9, metavar="B", help="bytes per second of a load, before the scale (%(default)g)"
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all that is drawn (%(default)s)")
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="the result folder (default: results/dlbench-balance-TIME)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the cells that the result folder lacks, or that failed"
    )


def read_options(given: argparse.Namespace) -> BalanceOptions:
    """Raises SuiteError naming the option and what is valid."""
    there = _policies()
    policies = _names(given.policies) if given.policies else there
    for name, known, option in (
        *((one, there, "--policies") for one in policies),
        *((one, RESIDENCIES, "--residency") for one in _names(given.residency)),
    ):
        if name not in known:
            raise SuiteError(f"{option}: {name!r} is none of {', '.join(known)}")
    mixes, loads = _names(given.mixes), tuple(_number(one, "--loads") for one in _names(given.loads))
    if not (policies and mixes and loads and _names(given.residency)):
        raise SuiteError("give at least one policy, residency, mix and load")
    for option, value in (
        ("--requests", given.requests), ("--real-requests", given.real_requests),
        ("--real-rounds", given.real_rounds), ("--scale", given.scale), ("--bandwidth", given.bandwidth),
    ):  # fmt: skip
        if not 0 < value < 1e15:
            raise SuiteError(f"{option} {value}: a number above 0 is needed")
    if not 0 <= given.seed < 1 << 31:
        raise SuiteError(f"--seed {given.seed}: a whole number from 0 to {(1 << 31) - 1} is needed")
    return BalanceOptions(
        policies=policies,
        residencies=_names(given.residency),
        mixes=mixes,
        loads=loads,
        workers=_workers(given.workers),
        real=_real(given.real, mixes, loads),
        requests=given.requests,
        real_requests=given.real_requests,
        real_rounds=given.real_rounds,
        scale=given.scale,
        bandwidth=given.bandwidth,
        seed=given.seed,
    )


def _policies() -> tuple[str, ...]:
    """Those of the server that is installed. Raises SuiteError."""
    done = subprocess.run(
        [sys.executable, "-m", "dlserve.simulation", "--policies"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )  # fmt: skip
    if done.returncode != 0 or not done.stdout.split():
        raise SuiteError(
            f"the server's simulation did not say which policies there are: install dlserve again ({COMMANDS})"
        )
    return tuple(done.stdout.split())


def _workers(text: str) -> tuple[int, ...]:
    counts = []
    for one in _names(text):
        if not one.isdecimal() or not 1 <= int(one) <= 1024:
            raise SuiteError(f"--workers {one}: whole numbers from 1 to 1024 are needed")
        counts.append(int(one))
    if not counts:
        raise SuiteError("--workers: give at least one number")
    return tuple(counts)


def _real(text: str, mixes: tuple[str, ...], loads: tuple[float, ...]) -> tuple[tuple[str, float], ...] | None:
    if text == "all":
        return None
    if text == "none":
        return ()
    pairs = []
    for one in _names(text):
        mix, at, load = one.rpartition("@")
        if not at:
            raise SuiteError(f"--real {one}: write MIX@LOAD, such as {REAL}; all or none")
        pairs.append((mix, _number(load, "--real")))
    if strange := [pair for pair in pairs if text != REAL and (pair[0] not in mixes or pair[1] not in loads)]:
        raise SuiteError(
            f"--real {strange[0][0]}@{strange[0][1]:g}: not among the --mixes and --loads that are compared"
        )
    return tuple(pairs)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 100:
        raise SuiteError(f"{option} {text}: a number above 0 (0.8 is 80 % of capacity) is needed")
    return number
