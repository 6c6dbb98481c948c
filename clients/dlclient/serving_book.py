"""What the benchmarks write down: rounds and ratios, the result folder that dlreport draws, and the same for the terminal."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from dlclient.environment import environment
from dlclient.serving_result import SERVING_SCHEMA, Measured, Ratio, Round, Serving, Stage


@dataclass
class Book:
    """What a run has found so far."""

    measured: list[Measured] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)

    def rounds(self, part: str, target: str, clients: int) -> tuple[Round, ...]:
        """Of one target; none where it failed."""
        found = (one for one in self.measured if (one.part, one.target, one.clients) == (part, target, clients))
        return next(found).rounds


def ratios(
    book: Book, part: str, ours: tuple[str, int], theirs: tuple[str, int], of: Callable[[Round], float]
) -> tuple[float, ...]:
    """Round by round; none where one of them failed."""
    pairs = zip(book.rounds(part, *ours), book.rounds(part, *theirs), strict=False)
    return tuple(of(one) / of(other) for one, other in pairs)


def write(folder: Path, title: str, started: str, seconds: float, book: Book) -> None:
    """run.json of what a program has found, and what it says."""
    result = Serving(
        schema=SERVING_SCHEMA,
        kind="serving",
        title=title,
        started=started,
        seconds=seconds,
        command=tuple(sys.argv),
        environment=environment(),
        measured=tuple(book.measured),
        ratios=tuple(book.ratios),
        stages=tuple(book.stages),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    show(result)
    print(f"\nresult: {folder}   (dlreport {folder})")


def show(result: Serving) -> None:
    """The result for people who do not open the report."""
    part_width = max((len(one.part) for one in result.measured), default=0)
    target_width = max((len(one.target) for one in result.measured), default=0)
    text_width = max((len(one.text) for one in result.ratios), default=0)
    for one in result.measured:
        clients = f"{one.clients:>3} client{'s' * (one.clients != 1)}" if one.clients else "open loop"
        what = f"{one.part:<{part_width}}  {one.target:<{target_width}}  {clients:<11}"
        if one.failure:
            print(f"  {what}  failed: {one.failure}")
            continue
        middle = statistics.median(each.rate_per_s for each in one.rounds)
        times = [each.p50_s for each in one.rounds if each.p50_s is not None]
        p50 = f"p50 {statistics.median(times) * 1e3:8.3f} ms" if times else ""
        used = {part: statistics.median(each.cpu_s[part] for each in one.rounds) for part in one.rounds[0].cpu_s}
        shown = "  ".join(f"{part} {value * 1e6:.0f}" for part, value in used.items())
        print(f"  {what}  {p50}  {middle:9.1f} /s{f'  CPU us: {shown}' if shown else ''}")
    for stage in result.stages:
        print(f"  {stage.target}: {stage.stage:<24} {stage.seconds * 1e6:7.1f} us")
    for ratio in result.ratios:
        if (found := ratio.median) is not None:
            spread = f"  ({min(ratio.values):.2f} to {max(ratio.values):.2f})" if len(ratio.values) > 1 else ""
            verdict = f"  goal {ratio.goal}: {'met' if ratio.met else 'NOT met'}" if ratio.goal else ""
            print(f"  {ratio.text:<{text_width}} {found:6.2f} {ratio.unit}{spread}{verdict}")


def now() -> str:
    """ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
