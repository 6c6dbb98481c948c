"""Result folders of comparisons of policies made up for tests: every latency in them is known beforehand."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from dlclient.balance_result import BALANCE_SCHEMA, Balance, Cell, Figures, Profile, Source, Where
from dlclient.bench.balance.figures import Answered, agreement, figures, spread
from dlclient.bench.balance.folder import BalanceFolder
from dlclient.results import Reason

from tests.dashboards.conftest import ENVIRONMENT

PROFILE = Profile(name="net", bytes=100_000_000, forward_s=0.002, forward_64_s=0.04, source="cortex-gpu-net-b1")
SECONDS = {"predicted": 0.1, "random": 0.3, "affinity": 0.15}
"""Median latency of each policy where all is resident; four times that where a third is."""


def where(policy: str = "predicted", source: Source = "model", **more: object) -> Where:
    """A cell's place."""
    values = {"residency": "all", "mix": "zipf:1.1", "load": 0.8, "workers": 8} | more
    return Where(policy=policy, source=source, **values)  # type: ignore[arg-type]


def drawn(median_s: float, seed: int = 1, number: int = 2000, settling_s: float = 0.0) -> Figures:
    """Figures of latencies scattered around a median, 10 a second, of which a tenth was the forward."""
    draw = random.Random(seed)
    answers = [
        Answered(number / 10, (took_s := median_s * draw.lognormvariate(0, 0.2)), took_s / 10, draw.random() < 0.9)
        for number in range(number)
    ]
    return figures(answers, number, 7, settling_s)


def cell(place: Where, median_s: float, *, reasons: Sequence[Reason] = (), model_off: float = 1.0) -> Cell:
    """With the model beside it where it ran in processes; `model_off`: how many times longer that says it takes."""
    own = drawn(median_s)
    values: dict[str, object] = {}
    if place.source == "real":
        modelled = [drawn(median_s * model_off, seed) for seed in (1, 2, 3)]
        values = {"model": spread(modelled, 0.01, 0.002), "agreement": agreement([own], modelled)}
    return Cell(
        id=place.id, where=place, started="2026-11-27T18:00:00+00:00", seconds=1.0, figures=own, reasons=tuple(reasons), **values  # type: ignore[arg-type]
    )  # fmt: skip


def balance(**more: object) -> Balance:
    """run.json."""
    made = Balance(
        schema=BALANCE_SCHEMA, kind="balance", started="2026-11-27T18:00:00+00:00", finished=None, command=("dlbench", "balance"),
        environment=ENVIRONMENT, cells=0, policies=tuple(SECONDS), profiles=(PROFILE,), scale=10.0, bandwidth=1e9, requests=20_000,
        real_requests=6_000, real_rounds=5, settling_s=25.0, seed=3,
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


def write(folder: Path, cells: Sequence[Cell], *, finished: bool = True) -> Path:
    """A result folder of these cells."""
    with BalanceFolder(folder, balance(cells=len(cells)), resume=False) as opened:
        for one in cells:
            opened.append(one)
        if finished:
            opened.finish()
    return folder


def comparison(seconds: Mapping[str, float] = SECONDS) -> list[Cell]:
    """Three policies, everything resident and a third of it, two loads; three of them in processes; 64 workers too."""
    cells = [
        cell(where(policy, residency=residency, load=load, workers=workers), median_s * (4 if residency == "third" else 1) * load)
        for workers in (8, 64)
        for residency in ("all", "third")
        for load in (0.5, 0.8)
        for policy, median_s in seconds.items()
    ]  # fmt: skip
    late = Reason("send-lag", "warm: requests were sent late", "lower the --rate")
    off = {"predicted": 1.0, "random": 1.3, "affinity": 1.05}
    return cells + [
        cell(where(policy, "real"), median_s, model_off=off[policy], reasons=(late,) if policy == "affinity" else ())
        for policy, median_s in seconds.items()
    ]
