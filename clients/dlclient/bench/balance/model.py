"""A cell in the discrete-event model: `python -m dlserve.simulation` does it, with the server's own options and code."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from dlclient.balance_result import Figures
from dlclient.bench.balance.figures import Answered, figures
from dlclient.errors import LocalServerError
from dlclient.results import Slot


class _Account(msgspec.Struct):
    """What we read of an account of the simulation (dlserve.simulation.account)."""

    answers: tuple[tuple[float, float, float, str, int, int] | None, ...]
    """Latency, load and forward in seconds, temperature, worker, batch size."""
    loads: int


@dataclass(frozen=True, slots=True)
class Played:
    """What the model says of a cell."""

    figures: Figures
    most_in_flight: int


def play(
    options: Sequence[str],
    services: Sequence[str],
    plan: Sequence[Slot],
    speed: float,
    settling_s: float,
    *,
    overhead_s: float = 0.0,
    jitter: float = 0.0,
    seed: int = 0,
) -> Played:
    """Simulate a server with these options under a plan that is sent `speed` times as fast. Raises LocalServerError.

    `services`: in the order in which the stream warms them up. What is due before `settling_s` is not in the figures.
    """
    arrivals = [((slot.due_s or 0.0) / speed, slot.model) for slot in plan]
    task = {
        "options": options,
        "arrivals": arrivals,
        "warm_up": services,
        "overhead_s": overhead_s,
        "jitter": jitter,
        "seed": seed,
    }
    done = subprocess.run(
        [sys.executable, "-m", "dlserve.simulation"], input=msgspec.json.encode(task), capture_output=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise LocalServerError(f"the simulation failed: {said[-1]}")
    account = msgspec.json.decode(done.stdout, type=_Account)
    answers = [
        Answered(due_s, answer[0], answer[2], answer[3] == "warm")
        for (due_s, _), answer in zip(arrivals, account.answers, strict=True)
        if answer is not None
    ]
    return Played(figures(answers, len(arrivals), account.loads, settling_s), most_in_flight(answers))


def most_in_flight(answers: Sequence[Answered]) -> int:
    """How many requests were under way at a time, at most."""
    changes = sorted([(one.due_s, 1) for one in answers] + [(one.due_s + one.latency_s, -1) for one in answers])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
