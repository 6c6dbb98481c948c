"""Sweeps over threads, batch size and affinity: binding a process to CPUs, and the best point of what was measured."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dlclient.bench_result import Point, Setting
from dlclient.errors import PointError
from dlclient.results import Interval

_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
_TASKS = Path("/proc/self/task")


def parse_cpus(affinity: str) -> frozenset[int]:
    """CPUs as the system numbers them, from "0-3,6". Raises PointError where it is no such list."""
    cpus: set[int] = set()
    for part in affinity.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise PointError(
                f"affinity {affinity!r} is no list of CPUs ({part.strip()!r}): write numbers and ranges, as 0-3,6",
                kind="unsupported",
            )
        cpus.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return frozenset(cpus)


def format_cpus(cpus: Iterable[int]) -> str:
    """The inverse of parse_cpus, as short as it can be."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def bound_to() -> str:
    """The CPUs that this thread, and every thread that it starts, may run on: "0-3,6"."""
    return format_cpus(os.sched_getaffinity(0))


def bind(affinity: str) -> str:
    """Bind this process to these CPUs ("": leave it as it is), before a framework starts its threads and counts its CPUs.

    Returns what it is bound to, read back. Every thread that runs already is bound too: numpy starts some when it is
    imported. Raises PointError for CPUs that this machine has not, or that this process may not use.
    """
    if not affinity:
        return bound_to()
    wanted = parse_cpus(affinity)
    allowed = os.sched_getaffinity(0)
    if absent := wanted - allowed:
        raise PointError(
            f"affinity {affinity!r}: there is no CPU {format_cpus(absent)} for this process, which may use"
            f" {format_cpus(allowed)}: name some of those",
            kind="unsupported",
        )
    for task in _TASKS.iterdir():
        try:
            os.sched_setaffinity(int(task.name), wanted)
        except ProcessLookupError:  # it ended meanwhile
            continue
    if (found := os.sched_getaffinity(0)) != wanted:
        raise PointError(
            f"affinity {affinity!r} was set, but the system reads back {format_cpus(found)}: ask for that, or for none",
            kind="unsupported",
        )
    return format_cpus(found)


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest point of a sweep."""

    point: Point
    interval: Interval | None
    """95 %, of its images per second; None: too few samples to tell."""
    level: tuple[Point, ...]
    """Others, fastest first, whose intervals overlap its own: they may be as fast."""
    next: Point | None
    """The second fastest."""
    sure: bool | None
    """Whether it is faster than the next, as far as both intervals tell; None: one of both has none, or there is no next."""

    @property
    def sentence(self) -> str:
        """The finding, for a person."""
        fastest = f"{_name(self.point.setting)}: {_rate(self.point, self.interval)}"
        if self.next is None:
            return f"{fastest}, the only point with a figure"
        after = f"{_name(self.next.setting)} ({_rate(self.next, rate_interval(self.next))})"
        if self.sure is None:
            return f"{fastest}; whether that is faster than {after} cannot be told: measure longer for intervals"
        if self.sure:
            return f"{fastest}; the next, {after}, is slower"
        return f"{fastest}; {len(self.level)} more cannot be told apart from it, the next is {after}"


def best(points: Iterable[Point]) -> Best | None:
    """The point with the most images per second among those of one sweep; None where none has a figure to trust.

    Points that failed, or that have reasons not to be trusted, are left out. Of equal ones the first wins.
    """
    ranked = sorted(
        (point for point in points if point.images_per_s is not None and not point.failure and not point.reasons),
        key=lambda point: -(point.images_per_s or 0.0),
    )
    if not ranked:
        return None
    first, *others = ranked
    own = rate_interval(first)
    following = others[0] if others else None
    overlaps = None if following is None else _overlap(own, rate_interval(following))
    return Best(
        point=first,
        interval=own,
        level=tuple(other for other in others if _overlap(own, rate_interval(other))),
        next=following,
        sure=None if overlaps is None else not overlaps,
    )


def sweeps(points: Iterable[Point]) -> list[list[Point]]:
    """Points that differ in nothing but threads, batch size, affinity and how many are in flight, together; in their order."""
    found: dict[str, list[Point]] = {}
    for point in points:
        fixed = msgspec.structs.replace(point.setting, threads=None, batch_size=1, affinity="", in_flight=1)
        found.setdefault(fixed.id, []).append(point)
    return list(found.values())


def findings(points: Iterable[Point]) -> list[str]:
    """The fastest of each sweep that has several points, a line each."""
    lines = []
    for sweep in sweeps(points):
        found = best(sweep) if len(sweep) > 1 else None
        if found is not None:
            one = found.point.setting
            what = " ".join(filter(None, (one.model, one.engine, one.device, one.precision, one.question)))
            lines.append(f"fastest of {len(sweep)}, {what}: {found.sentence}")
    return lines


def rate_interval(point: Point) -> Interval | None:
    """95 % interval of a point's images per second; None where it has none of its mean latency.

    With a fixed number in flight the rate is inverse to the mean latency (Little 1961), so the interval is the
    latency's, turned over.
    """
    latency = point.latency_s
    if point.images_per_s is None or latency is None or latency.mean is None:
        return None
    found = (latency.intervals or {}).get("mean")
    if found is None or found[0] <= 0:
        return None
    low_s, high_s = found
    return point.images_per_s * latency.mean / high_s, point.images_per_s * latency.mean / low_s


def _overlap(one: Interval | None, other: Interval | None) -> bool | None:
    if one is None or other is None:
        return None
    return one[0] <= other[1] and other[0] <= one[1]


def _name(setting: Setting) -> str:
    threads = "own choice of threads" if setting.threads is None else f"threads {setting.threads}"
    parts: Sequence[str] = (
        f"batch {setting.batch_size}",
        threads,
        f"CPUs {setting.affinity}" if setting.affinity else "",
        f"{setting.in_flight} in flight" if setting.in_flight > 1 else "",
    )
    return ", ".join(part for part in parts if part)


def _rate(point: Point, interval: Interval | None) -> str:
    width = "" if interval is None else f" [{interval[0]:.4g}, {interval[1]:.4g}]"
    return f"{point.images_per_s:.4g}{width} images/s"
