"""How busy the machine is while a point is timed: CPU, memory, GPU, energy, and on request what a profiler says afterwards.

The figures are of the timed part alone: running totals are read at its beginning and its end, everything else in between.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from dlmodels.engines.profiling import Profiled, can_profile, profile

from dlclient.bench.energy import Rapl
from dlclient.bench.gpu_probe import PERIOD_S, GpuProbe
from dlclient.bench.job import Entered, Event, Job
from dlclient.bench.sampler import (
    MachineProbe,
    Probe,
    Reading,
    Sampler,
    cpu_fraction,
    gpu_energy_j,
    gpu_readings,
    process_cores,
    series,
)
from dlclient.bench.subject import Subject
from dlclient.bench_result import Point, Utilization
from dlclient.errors import PointError
from dlclient.results import Reason

COST_LIMIT = 0.01
"""Of one core: a sampler that costs more is warned of."""

OTHERS_LIMIT = 0.10
"""Of the machine's processor time: where other programs take more, the figures are warned of."""

_CLOCK_TICKS_S = 0.5
"""Of processor time: the system counts in steps of 10 ms, so of less than this no small part can be told."""
_PROFILED_RUNS = 10
_LOOPBACK = ("127.", "localhost", "::1")

_Timed = TypeVar("_Timed")


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen beside a timed part."""

    utilization: Utilization
    warnings: tuple[Reason, ...]


def measure(
    job: Job,
    subject: Subject,
    tell: Callable[[Event], None],
    timed: Callable[[], _Timed],
    point_of: Callable[[_Timed], Point],
) -> Point:
    """The point of a timed part, with how busy the machine was in it.

    `subject` is open and warm; `timed` is the timed part and nothing else, `point_of` what is computed from it afterwards.
    With `job.profile` a profiler runs after both, on inferences of its own. Raises PointError.
    """
    result, observed = observe(job, timed)
    point = point_of(result)
    found, warnings = observed.utilization, observed.warnings
    if job.profile:
        tell(Entered("profile", (_PROFILED_RUNS + 2) * job.budget.iteration_timeout_s))
        profiled, more = _profiled(job, subject)
        warnings += more
        if profiled is not None:
            found = msgspec.structs.replace(
                found, kernel_busy=profiled.kernel_busy, top_operators=profiled.top_operators
            )
    return msgspec.structs.replace(point, utilization=found, warnings=point.warnings + warnings)


def observe(job: Job, timed: Callable[[], _Timed]) -> tuple[_Timed, Observed]:
    """Run the timed part with a sampler beside it. Raises PointError where this machine cannot tell of the job's device."""
    _check_here(job)
    with ExitStack() as opened:
        gpu = _gpu(job)
        if gpu is not None:
            gpu.open()
            opened.callback(gpu.close)
        rapl = Rapl()
        rapl.start()
        probe = MachineProbe(gpu.read if gpu else None, rapl.joules)
        return sampled(timed, probe, job, gpu, rapl)


def sampled(
    timed: Callable[[], _Timed], probe: Probe, job: Job, gpu: GpuProbe | None, rapl: Rapl
) -> tuple[_Timed, Observed]:
    """The same by these probes, all of them open."""
    if gpu is not None:
        gpu.mark()
    with Sampler(probe, job.every_s) as sampler:
        result = timed()
    sm_activity = gpu.sm_activity() if gpu is not None else None
    found = summarize(sampler.readings, job, sm_activity, rapl.source)
    warnings = _warnings(found, sampler, gpu, rapl)
    if job.setting.target == "inproc":
        warnings += _disturbed(sampler.readings)
    return result, Observed(found, warnings)


def summarize(readings: Sequence[Reading], job: Job, sm_activity: float | None, rapl_source: str) -> Utilization:
    """What the readings of a timed part say together. At a server the processes of this side say nothing of the model's."""
    here = job.setting.target == "inproc"
    kernels = gpu_readings(readings)
    used = [reading.gpu.memory_bytes for reading in readings if reading.gpu and reading.gpu.memory_bytes is not None]
    energies = _energies(readings, rapl_source)
    energy_source, energy_j = next(iter(energies.items()), ("", None))
    return Utilization(
        samples=len(readings),
        every_s=job.every_s,
        cpu=cpu_fraction(readings),
        process_cpu=process_cores(readings) if here else None,
        process_bytes=max(reading.resident_bytes for reading in readings) if here else None,
        gpu=_mean([gpu.kernel for gpu in kernels]),
        gpu_memory=_mean([gpu.memory for gpu in kernels]),
        gpu_memory_bytes=max(used, default=None),
        sm_activity=sm_activity,
        energy_j=energy_j,
        energy_source=energy_source,
        energies_j=energies,
        series=series(readings) if here or used else tuple((*one[:3], None) for one in series(readings)),
    )


def _energies(readings: Sequence[Reading], rapl_source: str) -> dict[str, float]:
    """Joules by counter; that of the device that computes comes first."""
    found: dict[str, float] = {}
    if (gpu := gpu_energy_j(readings)) is not None:
        found[gpu[1]] = gpu[0]
    first_j, last_j = readings[0].rapl_j, readings[-1].rapl_j
    if first_j is not None and last_j is not None:
        found[rapl_source] = last_j - first_j
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) / len(told) if told else None


def _gpu(job: Job) -> GpuProbe | None:
    """Of the job's device; None on a CPU, and at a server that was not told which device to take."""
    kind, _, index = job.setting.device.partition(":")
    return GpuProbe(int(index or 0)) if kind == "cuda" else None


def _check_here(job: Job) -> None:
    if job.setting.target == "inproc":
        return
    host = urlsplit(job.setting.target).hostname or ""
    if not host.startswith(_LOOPBACK):
        raise PointError(
            f"{host} is another machine, and how busy it is cannot be seen from here: run dlbench on it,"
            " or look at what its server's own metrics say",
            kind="unsupported",
        )


def _warnings(found: Utilization, sampler: Sampler, gpu: GpuProbe | None, rapl: Rapl) -> tuple[Reason, ...]:
    warnings = []
    if sampler.cost > COST_LIMIT and found.samples > 2:  # else it read nothing beside the timed part
        warnings.append(
            Reason(
                "sampler-cost",
                f"reading every {found.every_s:g} s cost {sampler.cost:.1%} of a core beside the timed part",
                "give a longer every_s",
            )
        )
    if gpu is not None and found.gpu is None:
        warnings.append(
            Reason(
                "no-gpu-utilization",
                f"NVML told no utilization of the timed part alone: it is of the past {PERIOD_S:g} s, or this device has none",
                f"measure for longer than {2 * PERIOD_S:g} s (min_s)",
            )
        )
    if rapl.unreadable:
        warnings.append(
            Reason(
                "no-rapl",
                f"the processors' energy was not counted: {rapl.unreadable}",
                "run as root, or let root make the counters readable: chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj",
            )
        )
    return tuple(warnings)


def _disturbed(readings: Sequence[Reading]) -> tuple[Reason, ...]:
    """A warning where others than the point's processes had much of the machine, or the hypervisor had it."""
    first, last = readings[0], readings[-1]
    others_s = (last.cpu_busy_s - first.cpu_busy_s) - (last.process_cpu_s - first.process_cpu_s)
    all_s, seconds = last.cpu_all_s - first.cpu_all_s, last.at_s - first.at_s
    if all_s <= _CLOCK_TICKS_S or others_s / all_s <= OTHERS_LIMIT:
        return ()
    return (
        Reason(
            "busy-machine",
            f"other programs (or other machines of this host) took {others_s / seconds:.2f} cores, {others_s / all_s:.0%} of"
            " this machine, while the point was timed",
            "leave the machine alone, and measure again",
        ),
    )


def _profiled(job: Job, subject: Subject) -> tuple[Profiled | None, tuple[Reason, ...]]:
    engine = job.setting.engine
    if job.setting.target != "inproc" or not can_profile(engine):
        where = f"the engine {engine!r}" if job.setting.target == "inproc" else "a server's process"
        return None, (Reason("no-profile", f"there is no profiler for {where}", "profile the engine torch in process"),)
    batches = subject.inputs(job.setting.batch_size, 2)

    def infer() -> None:
        for number in range(_PROFILED_RUNS):
            subject.infer(batches[number % len(batches)])

    return profile(engine, infer, job.setting.device), ()
