"""What the machine does while something runs: readings at a steady pace from a thread beside it, and what they say together."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self

import psutil

from dlclient.bench.gpu_probe import PERIOD_S, GpuReading

_LOOK_FOR_CHILDREN_S = 1.0
"""Finding all descendants of a process takes a look at every process of the machine."""


@dataclass(frozen=True, slots=True)
class Reading:
    """At one moment. Processor times are running totals, in seconds."""

    at_s: float
    """On `time.perf_counter`."""
    cpu_busy_s: float
    """Of all cores of the machine, by all processes."""
    cpu_all_s: float
    """The same, idle time included."""
    process_cpu_s: float
    """Of a process and its descendants."""
    resident_bytes: int
    """Of these, now."""
    gpu: GpuReading | None = None
    rapl_j: float | None = None


class Probe(Protocol):
    """Where readings come from."""

    def read(self) -> Reading:
        """Now."""


class MachineProbe:
    """This machine, and this process with all that it started; beside them what `gpu` and `rapl_j` read."""

    def __init__(
        self, gpu: Callable[[], GpuReading] | None = None, rapl_j: Callable[[], float | None] | None = None
    ) -> None:
        self._gpu = gpu
        self._rapl_j = rapl_j
        self._root = psutil.Process()
        self._processes = [self._root]
        self._looked_s = float("-inf")

    def read(self) -> Reading:
        """Now; takes some tens of microseconds on a CPU."""
        at_s = perf_counter()
        if at_s - self._looked_s >= _LOOK_FOR_CHILDREN_S:
            self._processes = [self._root, *self._root.children(recursive=True)]
            self._looked_s = at_s
        cpu_s, resident_bytes = self._of_processes()
        system = psutil.cpu_times()
        # User time has that of guests in it already.
        all_s = sum(system) - getattr(system, "guest", 0.0) - getattr(system, "guest_nice", 0.0)
        return Reading(
            at_s=at_s,
            cpu_busy_s=all_s - system.idle - getattr(system, "iowait", 0.0),
            cpu_all_s=all_s,
            process_cpu_s=cpu_s,
            resident_bytes=resident_bytes,
            gpu=self._gpu() if self._gpu else None,
            rapl_j=self._rapl_j() if self._rapl_j else None,
        )

    def _of_processes(self) -> tuple[float, int]:
        """A descendant that has ended is in its parent's `children_` times."""
        cpu_s, resident_bytes = 0.0, 0
        for process in self._processes:
            try:
                cpu_s += sum(process.cpu_times()[:4])
                resident_bytes += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return cpu_s, resident_bytes


class Sampler:
    """`with Sampler(probe, every_s) as sampler:` reads at the beginning, at the end, and in between from a thread.

    Afterwards `readings` holds them, all within the block, and `cost` the thread's processor time as a fraction of one core.
    A failure of the probe ends the sampling and is raised at the end of the block.
    """

    def __init__(self, probe: Probe, every_s: float) -> None:
        self._probe = probe
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._between: list[Reading] = []
        self._begin_s = 0.0
        self._cpu_s = 0.0
        self._failure: Exception | None = None
        self.readings: tuple[Reading, ...] = ()
        self.cost = 0.0

    def __enter__(self) -> Self:
        self._first = self._probe.read()
        self._begin_s = perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_s = perf_counter()
        self._ended.set()
        self._thread.join()
        if value is not None:
            return
        if self._failure is not None:
            raise self._failure
        last = self._probe.read()
        self.readings = (self._first, *self._between, last)
        self.cost = self._cpu_s / max(end_s - self._begin_s, 1e-9)

    def _run(self) -> None:
        due_s = self._begin_s + self._every_s
        try:
            while not self._ended.wait(max(due_s - perf_counter(), 0.0)):
                reading = self._probe.read()
                if self._ended.is_set():  # the block ended while it was taken
                    break
                self._between.append(reading)
                due_s = max(due_s + self._every_s, perf_counter())
        except Exception as exc:  # noqa: BLE001  carried to the thread that asked for the readings
            self._failure = exc
        self._cpu_s = time.thread_time()


def cpu_fraction(readings: Sequence[Reading]) -> float | None:
    """Of all cores, between the first reading and the last; None where the system's clock did not tick meanwhile."""
    first, last = readings[0], readings[-1]
    all_s = last.cpu_all_s - first.cpu_all_s
    return (last.cpu_busy_s - first.cpu_busy_s) / all_s if all_s > 0 else None


def process_cores(readings: Sequence[Reading]) -> float | None:
    """Cores that the processes kept busy between the first reading and the last."""
    first, last = readings[0], readings[-1]
    seconds = last.at_s - first.at_s
    return (last.process_cpu_s - first.process_cpu_s) / seconds if seconds > 0 else None


def gpu_readings(readings: Sequence[Reading]) -> list[GpuReading]:
    """Those whose utilization is of the time since the first reading alone: NVML tells of the past PERIOD_S."""
    begin_s = readings[0].at_s
    return [reading.gpu for reading in readings if reading.gpu is not None and reading.at_s - begin_s >= PERIOD_S]


def gpu_energy_j(readings: Sequence[Reading]) -> tuple[float, str] | None:
    """Joules between the first reading and the last, and how they were found; None: this device does not tell.

    By the device's own counter, else as the integral of its power (trapezoids between readings).
    """
    found = [(reading.at_s, reading.gpu) for reading in readings if reading.gpu is not None]
    if len(found) < 2:
        return None
    first_j, last_j = found[0][1].energy_j, found[-1][1].energy_j
    if first_j is not None and last_j is not None:
        return last_j - first_j, "NVML energy counter"
    power = [(at_s, gpu.power_w) for at_s, gpu in found if gpu.power_w is not None]
    if len(power) < 2:
        return None
    joules = sum(
        (before_w + after_w) / 2 * (after_s - before_s) for (before_s, before_w), (after_s, after_w) in pairwise(power)
    )
    return joules, "NVML power, integrated"


def series(readings: Sequence[Reading]) -> tuple[tuple[float, float | None, float | None, int | None], ...]:
    """Over time: seconds since the first reading, CPU since the reading before, GPU, and bytes on the device (or resident)."""
    begin_s = readings[0].at_s
    return tuple(
        (
            round(after.at_s - begin_s, 4),
            _rounded(cpu_fraction((before, after))),
            None if after.gpu is None else after.gpu.kernel,
            after.resident_bytes if after.gpu is None else after.gpu.memory_bytes,
        )
        for before, after in pairwise(readings)
    )


def _rounded(fraction: float | None) -> float | None:
    return None if fraction is None else round(fraction, 4)
