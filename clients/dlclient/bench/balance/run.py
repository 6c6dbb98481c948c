"""A comparison from its options to its result folder."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TextIO

from dlclient.balance_result import BALANCE_SCHEMA, Agreement, Balance, Cell, Figures, Where
from dlclient.bench.balance import figures, real
from dlclient.bench.balance.folder import BalanceFolder
from dlclient.bench.balance.model import Played, play
from dlclient.bench.balance.options import BalanceOptions
from dlclient.bench.balance.plans import make_plan, plan_file, speed
from dlclient.bench.balance.profiles import PROFILES, budget_mb, write_models
from dlclient.bench.progress import BenchProgress
from dlclient.bench_folder import now
from dlclient.environment import environment
from dlclient.errors import LocalServerError, ResultError

_MODELS = "models"
_QUEUE = 1 << 16
"""Calls per worker: none is turned away, so that every policy answers the same requests."""
SPREAD_RUNS = 20
JITTER = 0.01
MOST_LAG_S = 0.001
"""That the p99 of the send lag may have at scale 1."""
_SPARE_SENDERS = 4
"""Times what the model had in flight, and _FEWEST_SENDERS: an idle one costs little."""
_FEWEST_SENDERS = 64


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is asked."""

    options: BalanceOptions
    results: Path
    command: tuple[str, ...]
    resume: bool = False


def run_comparison(comparison: Comparison, stream: TextIO = sys.stderr) -> list[Cell]:
    """Fill every cell that the folder does not hold yet, or that failed there; all of them, in their order.

    Raises ResultError where the folder cannot be used, SuiteError of a mix that is none, or where processes cannot run here.
    """
    wheres = comparison.options.wheres()
    if any(where.source == "real" for where in wheres):
        real.check_checkout()
    with BalanceFolder(comparison.results, _balance(comparison, len(wheres)), resume=comparison.resume) as folder:
        options = comparison.options
        write_models(PROFILES, folder.path / _MODELS, options.scale, options.bandwidth)
        for where in wheres:  # a mix that is none is said at once
            make_plan(folder.path, where.mix, options.requests_of(where), PROFILES, options.seed)
        there = {id_ for id_, cell in folder.done.items() if not cell.failure}
        left = [where for where in wheres if where.id not in there]
        took_s = [folder.done[where.id].seconds for where in wheres if where.id in there]
        progress = BenchProgress(len(wheres), len(wheres) - len(left), stream, took_s)
        try:
            for where in left:
                progress.begin(describe(where))
                started, began = now(), monotonic()
                cell = _Filler(options, folder.path, where).fill(started)
                folder.append(_timed(cell, monotonic() - began))
                progress.end(_line(folder.done[where.id]))
        finally:
            progress.clear()
        folder.finish()
        return [folder.done[where.id] for where in wheres]


def describe(where: Where) -> str:
    """A cell in words."""
    return f"{where.source} {where.workers} workers, {where.residency} resident, {where.mix} at {where.load:g}, {where.policy}"


class _Filler:
    """Fills one cell."""

    def __init__(self, options: BalanceOptions, folder: Path, where: Where) -> None:
        self._options = options
        self._folder = folder
        self._where = where
        requests = options.requests_of(where)
        self._plan_file = plan_file(folder, where.mix, requests)
        self._plan = make_plan(folder, where.mix, requests, PROFILES, options.seed)
        self._settling_s = figures.SETTLING_S * options.scale
        self._speed = speed(self._plan, where.load, where.workers, PROFILES, options.scale)

    def fill(self, started: str) -> Cell:
        """The cell; one that failed says why."""
        try:
            if self._where.source == "model":
                return Cell(
                    id=self._where.id, where=self._where, started=started, seconds=0.0, figures=self._play().figures
                )
            return self._real(started)
        except (LocalServerError, ResultError) as exc:
            return Cell(id=self._where.id, where=self._where, started=started, seconds=0.0, failure=str(exc))

    def _play(self, *, overhead_s: float = 0.0, jitter: float = 0.0, seed: int = 0) -> Played:
        models = ("--models-dir", str(self._folder / _MODELS), "--workers", str(self._where.workers))
        return play(
            (*models, *self._server()),
            [profile.name for profile in PROFILES],
            self._plan,
            self._speed,
            self._settling_s,
            overhead_s=overhead_s,
            jitter=jitter,
            seed=seed,
        )

    def _real(self, started: str) -> Cell:
        where, folder = self._where, self._folder / real.REAL_DIR / self._where.id
        senders = _FEWEST_SENDERS + _SPARE_SENDERS * self._play().most_in_flight
        sending = real.Sending(
            self._plan_file, self._speed, senders, MOST_LAG_S * self._options.scale, self._settling_s
        )

        def streamed(number: int) -> real.Streamed:
            return real.stream(self._server(), where.workers, self._folder / _MODELS, sending, folder / str(number))

        rounds = [streamed(1)]
        overhead_s = rounds[0].overhead_s
        model = self._spread(overhead_s)
        while True:  # for as long as the runs differ too much to tell, whatever they tell
            runs = [one.figures for one in rounds]
            judged = figures.agreement(runs, model)
            if figures.is_sharp(judged) or len(rounds) >= self._options.real_rounds:
                break
            rounds.append(streamed(len(rounds) + 1))
        return Cell(
            id=where.id,
            where=where,
            started=started,
            seconds=0.0,
            figures=figures.middle_run(runs),
            model=figures.spread(model, JITTER, overhead_s),
            agreement=judged,
            reasons=tuple({reason.code: reason for one in rounds for reason in one.reasons}.values()),
        )

    def _spread(self, overhead_s: float) -> list[Figures]:
        """The model with other times, as many side by side as there are cores."""

        def one(number: int) -> Figures:
            return self._play(overhead_s=overhead_s, jitter=JITTER, seed=self._options.seed + number).figures

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(one, range(SPREAD_RUNS)))

    def _server(self) -> tuple[str, ...]:
        """The options of the server, the same in processes and in the model."""
        where = self._where
        return (
            *("--balance", where.policy, "--cache-mb", str(budget_mb(PROFILES, where.residency))),
            *("--queue", str(_QUEUE), "--seed", str(self._options.seed)),
        )


def _timed(cell: Cell, seconds: float) -> Cell:
    return Cell(**{name: getattr(cell, name) for name in Cell.__struct_fields__} | {"seconds": seconds})


def _balance(comparison: Comparison, cells: int) -> Balance:
    options = comparison.options
    return Balance(
        schema=BALANCE_SCHEMA,
        kind="balance",
        started=now(),
        finished=None,
        command=comparison.command,
        environment=environment(),
        cells=cells,
        policies=options.policies,
        profiles=PROFILES,
        scale=options.scale,
        bandwidth=options.bandwidth,
        requests=options.requests,
        real_requests=options.real_requests,
        real_rounds=options.real_rounds,
        settling_s=figures.SETTLING_S * options.scale,
        seed=options.seed,
    )


def _line(cell: Cell) -> str:
    """What came of a cell, for a line of progress."""
    if cell.figures is None:
        return f"failed: {cell.failure} ({cell.seconds:.1f} s)"
    parts = [figures_line(cell.figures)]
    if cell.agreement is not None:
        parts.append(f"model / real: {_ratios(cell.agreement)}")
    return f"{'; '.join(parts)}{_doubts(cell)} ({cell.seconds:.1f} s)"


def figures_line(found: Figures) -> str:
    """Mean, p99 and hit rate; and whether there is a steady state that they are of."""
    mean_s, p99_s = found.latency_s.mean or 0.0, found.latency_s.p99
    tail = "n/a" if p99_s is None else f"{p99_s * 1e3:.0f} ms"
    grows = f", {_grows(found)}" if found.growth else ""
    return f"mean {mean_s * 1e3:.0f} ms, p99 {tail}, {found.hit_rate:.0%} warm{grows}"


def _grows(found: Figures) -> str:
    return f"growing {found.growth:.1f} x" if found.growth else ""


def _ratios(judged: Agreement) -> str:
    return ", ".join(
        f"{name} {middle:.2f} [{low:.2f}, {high:.2f}]" for name, (low, middle, high) in judged.ratios.items()
    ) + (f" of {judged.rounds} runs" if judged.rounds > 1 else "")


def balance_table(cells: Sequence[Cell]) -> str:
    """A row for each cell; and how well model and processes agree."""
    heads = ("source", "workers", "resident", "mix", "load", "policy", "mean ms", "p50 ms", "p99 ms", "wait ms", "warm", "loads", "queue")  # fmt: skip
    rows = [heads, *(_row(cell) for cell in cells)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(heads))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if any(cell.figures and cell.figures.growth for cell in cells):
        lines += ["", "growing: there is no steady state, the figures are of so many requests and no others"]
    judged = [(cell, cell.agreement) for cell in cells if cell.agreement is not None]
    if judged:
        agree = sum(own.within for _, own in judged)
        agreed = f"model and processes agree within {figures.TOLERANCE:.0%} in {agree} of {len(judged)} cells"
        off = f"[{figures.CONFIDENCE:.0%} interval, from runs of the model with times {JITTER:.0%} off and from those in processes]"
        lines += ["", f"{agreed}; model / real {off}:"]
    lines += [f"  {describe(cell.where)}: {_ratios(own)}: {own.text}{_doubts(cell)}" for cell, own in judged]
    lines += [f"  {describe(cell.where)}: failed: {cell.failure}" for cell in cells if cell.figures is None]
    return "\n".join(lines) + "\n"


def _doubts(cell: Cell) -> str:
    return f"; doubtful: {', '.join(reason.code for reason in cell.reasons)}" if cell.reasons else ""


def _row(cell: Cell) -> tuple[str, ...]:
    where, found = cell.where, cell.figures
    name = (where.source, str(where.workers), where.residency, where.mix, f"{where.load:g}", where.policy)
    if found is None:
        return (*name, "failed", "", "", "", "", "", "")
    times = (found.latency_s.mean, found.latency_s.p50, found.latency_s.p99, found.wait_s)
    return (
        *name,
        *("n/a" if time is None else f"{time * 1e3:.0f}" for time in times),
        f"{found.hit_rate:.0%}",
        "" if found.loads is None else str(found.loads),
        _grows(found),
    )
