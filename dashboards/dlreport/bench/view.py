"""A bench as its report sees it: its points, what sets them apart, and the figures that tables and pictures share."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
from dlclient.bench_result import POINTS_FILE, Bench, Point, Question, Setting, read_bench, read_points
from dlclient.errors import ResultError

from dlreport.bench.variant import Variant, variants
from dlreport.errors import NotAResultError

_MOST = 1e18
"""No time, rate or size is larger; what is would only make the drawing fail."""

SPEED: tuple[Question, ...] = ("latency", "throughput")
"""The questions whose points tell how fast a network is."""


@dataclass(frozen=True)
class BenchView:
    """All that a report of one bench is made from."""

    bench: Bench
    points: tuple[Point, ...]

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return self.bench.finished is not None

    @property
    def good(self) -> tuple[Point, ...]:
        """The points that have figures."""
        return tuple(point for point in self.points if point.failure is None)

    @property
    def failed(self) -> tuple[Point, ...]:
        """The points that have none."""
        return tuple(point for point in self.points if point.failure is not None)

    @property
    def doubtful(self) -> tuple[Point, ...]:
        """Those whose figures cannot be trusted."""
        return tuple(point for point in self.good if point.reasons)

    @property
    def simulated(self) -> bool:
        """Whether a simulated device answered at every point that has figures."""
        return all(point.simulated for point in self.good) if self.good else self.bench.simulated

    @property
    def partly_simulated(self) -> bool:
        """Whether it did at some, and a real one at others."""
        return not self.simulated and any(point.simulated for point in self.good)

    def sure(self, point: Point) -> bool:
        """Whether its figures can be taken for what they seem; where all are simulated, page and pictures say so as a whole."""
        return not point.reasons and (self.simulated or not point.simulated)

    @cached_property
    def speed(self) -> tuple[Point, ...]:
        """The points that tell how fast: those that asked it, or, where none did, those that were watched being busy."""
        found = tuple(point for point in self.points if point.setting.question in SPEED)
        return found or self.of("utilization")

    @cached_property
    def speed_variants(self) -> tuple[Variant, ...]:
        """What sets those apart, but for network and batch."""
        return variants(self.speed, self.bench)

    @cached_property
    def memory(self) -> dict[str, int]:
        """Largest memory in use by `same_place`, in bytes, of points that were watched."""
        found = {}
        for point in self.good:
            used = point.utilization and memory_bytes(point)
            if used and (same_place(point.setting) not in found or point.setting.question != "utilization"):
                found[same_place(point.setting)] = used
        return found

    def of(self, question: Question) -> tuple[Point, ...]:
        """The points that asked it."""
        return tuple(point for point in self.points if point.setting.question == question)


def load_bench(folder: Path) -> BenchView:
    """Read run.json and points.jsonl. Raises NotAResultError naming the file and what to do."""
    try:
        bench = read_bench(folder)
        points = read_points(folder) if (folder / POINTS_FILE).exists() else []
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    _check(points, folder / POINTS_FILE)
    return BenchView(bench, tuple(points))


def same_place(setting: Setting) -> str:
    """Equal for points of the same network, batch and place, whatever they ask."""
    return msgspec.structs.replace(setting, question="latency", in_flight=1).id


def memory_bytes(point: Point) -> int | None:
    """The most memory that was in use: the device's on a GPU, the process's own on a CPU. None: nobody looked."""
    used = point.utilization
    if used is None:
        return None
    return used.gpu_memory_bytes if on_gpu(point.setting) else used.process_bytes


def on_gpu(setting: Setting) -> bool:
    """Whether it asks for a GPU."""
    return setting.device.startswith("cuda")


def per_image_s(point: Point) -> float | None:
    """Seconds per image: of a batch after another its mean latency over its size, of several in flight the wall's time.

    None where the point has no such figure.
    """
    if point.failure is not None:
        return None
    if point.setting.question == "throughput":
        return 1 / point.images_per_s if point.images_per_s else None
    mean = point.latency_s.mean if point.latency_s else None
    return mean / point.setting.batch_size if mean else None


def per_image_interval_s(point: Point) -> tuple[float, float] | None:
    """The 95 % confidence interval of that mean; None where there is none."""
    if point.setting.question == "throughput" or point.latency_s is None:
        return None
    found = (point.latency_s.intervals or {}).get("mean")
    size = point.setting.batch_size
    return None if found is None else (found[0] / size, found[1] / size)


def images_per_s(point: Point) -> float | None:
    """Images per second of wall time; None where the point has no such figure."""
    return point.images_per_s or None if point.failure is None else None


def best(points: Iterable[Point], figure: Callable[[Point], float | None] = images_per_s) -> Point | None:
    """The point with the largest figure, of those that can be trusted if there are any; None: none has one."""
    told = [point for point in points if figure(point) is not None]
    sure = [point for point in told if not point.reasons]
    return max(sure or told, key=lambda point: figure(point) or 0.0, default=None)


def models(points: Iterable[Point]) -> tuple[str, ...]:
    """Their networks, in the order in which they came."""
    return tuple(dict.fromkeys(point.setting.model for point in points))


def batch_sizes(points: Iterable[Point]) -> tuple[int, ...]:
    """Their batch sizes, from small to large."""
    return tuple(sorted({point.setting.batch_size for point in points}))


def chunks(items: Sequence[str], size: int) -> list[Sequence[str]]:
    """Runs of at most `size`, as even as can be."""
    number = math.ceil(len(items) / size)
    return [items[len(items) * part // number : len(items) * (part + 1) // number] for part in range(number)]


def _check(points: Sequence[Point], path: Path) -> None:
    """That they hold only numbers that somebody can have measured."""
    for point in points:
        if point.setting.batch_size < 1 or point.setting.in_flight < 0:
            raise NotAResultError(f"{path}: point {point.id} has a batch below 1; restore the file or measure again")
        for number in _numbers(msgspec.to_builtins(point)):
            if not (math.isfinite(number) and abs(number) <= _MOST):
                raise NotAResultError(
                    f"{path}: point {point.id} holds {number:g}, which nothing measures; restore the file or measure again"
                )
        for figure in (point.images_per_s, point.latency_s.mean if point.latency_s else None):
            if figure is not None and figure < 0:
                raise NotAResultError(
                    f"{path}: point {point.id} holds {figure:g}, which is below 0; restore the file or measure again"
                )


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value) if abs(value) < 1e300 else math.inf
