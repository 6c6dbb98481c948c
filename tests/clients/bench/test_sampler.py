"""dlclient.bench.sampler: only what is inside the block counts, and sums and means are right by hand-made readings."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from time import monotonic

import pytest
from dlclient.bench.gpu_probe import GpuReading
from dlclient.bench.sampler import (
    MachineProbe,
    Reading,
    Sampler,
    cpu_fraction,
    gpu_energy_j,
    gpu_readings,
    process_cores,
    series,
)


def gpu(kernel: float | None = 0.0, power_w: float | None = None, energy_j: float | None = None) -> GpuReading:
    return GpuReading(kernel=kernel, memory=0.0, memory_bytes=7, power_w=power_w, energy_j=energy_j)


def reading(at_s: float, busy_s: float = 0.0, process_s: float = 0.0, gpu: GpuReading | None = None) -> Reading:
    """Of a machine of 4 cores that began at 0."""
    return Reading(
        at_s=at_s,
        cpu_busy_s=busy_s,
        cpu_all_s=4 * at_s,
        process_cpu_s=process_s,
        resident_bytes=100,
        gpu=gpu,
    )


class Counted:
    """A probe that lets a test wait until it was asked often enough."""

    def __init__(self, fails_at: int | None = None) -> None:
        self._machine = MachineProbe()
        self._fails_at = fails_at
        self._asked = 0
        self._changed = threading.Condition()

    def read(self) -> Reading:
        """Of this machine."""
        with self._changed:
            self._asked += 1
            self._changed.notify_all()
            if self._asked == self._fails_at:
                raise RuntimeError("the counter is gone")
        return self._machine.read()

    def wait_for(self, times: int) -> None:
        """Until it was asked so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._asked >= times, timeout=60)


def test_readings_begin_and_end_with_the_block_and_are_taken_in_between() -> None:
    probe = Counted()
    with Sampler(probe, 0.001) as sampler:
        probe.wait_for(6)
    times = [one.at_s for one in sampler.readings]
    assert len(times) >= 6
    assert times == sorted(times)
    assert sampler.cost > 0


def test_a_block_shorter_than_the_pace_has_its_beginning_and_its_end() -> None:
    with Sampler(MachineProbe(), 3600.0) as sampler:
        pass
    assert len(sampler.readings) == 2


def test_a_probe_that_fails_is_heard_of_at_the_end_and_no_figure_is_left() -> None:
    probe = Counted(fails_at=3)
    sampler = Sampler(probe, 0.001)
    with pytest.raises(RuntimeError, match="the counter is gone"), sampler:
        probe.wait_for(3)
    assert sampler.readings == ()


def test_what_fails_in_the_block_is_what_is_raised() -> None:
    with pytest.raises(ValueError, match="of the block"), Sampler(MachineProbe(), 3600.0):
        raise ValueError("of the block")
    assert not any(thread.name == "sampler" for thread in threading.enumerate())


def test_the_process_and_what_it_started_are_seen() -> None:
    probe = MachineProbe()
    alone = probe.read()
    code = "kept = bytearray(64 << 20); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        both = MachineProbe().read()
        child.communicate(b"\n")
    after = probe.read()
    assert both.resident_bytes - alone.resident_bytes > 64 << 20
    assert after.process_cpu_s >= alone.process_cpu_s
    assert after.process_cpu_s <= (os.cpu_count() or 1) * monotonic(), "processor time, not the time of day"
    assert after.cpu_all_s > after.cpu_busy_s > 0


def test_cpu_is_of_running_totals_and_not_a_mean_of_samples() -> None:
    uneven = [reading(10.0, 5.0, 1.0), reading(10.1, 5.4, 1.1), reading(12.0, 7.0, 3.0)]
    assert cpu_fraction(uneven) == pytest.approx(2.0 / 8.0)
    assert process_cores(uneven) == pytest.approx(1.0)
    assert cpu_fraction([reading(1.0), reading(1.0)]) is None


def test_the_gpus_utilization_of_the_time_before_the_block_does_not_count() -> None:
    readings = [reading(at, gpu=gpu(kernel)) for at, kernel in ((5.0, 0.1), (5.9, 0.2), (6.0, 0.8), (7.0, 0.9))]
    assert [one.kernel for one in gpu_readings(readings)] == [0.8, 0.9]
    assert gpu_readings(readings[:2]) == []


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        (
            [reading(0.0, gpu=gpu(energy_j=100.0)), reading(2.0, gpu=gpu(energy_j=350.0))],
            (250.0, "NVML energy counter"),
        ),
        (
            [
                reading(0.0, gpu=gpu(power_w=100.0)),
                reading(1.0, gpu=gpu(power_w=300.0)),
                reading(3.0, gpu=gpu(power_w=100.0)),
            ],
            (600.0, "NVML power, integrated"),
        ),
        ([reading(0.0, gpu=gpu(power_w=100.0)), reading(1.0, gpu=gpu())], None),
        ([reading(0.0), reading(1.0)], None),
    ],
)
def test_a_gpus_energy_is_its_counters_or_the_integral_of_its_power(
    readings: Sequence[Reading], found: tuple[float, str] | None
) -> None:
    assert gpu_energy_j(readings) == found


def test_over_time_each_row_is_of_the_time_since_the_one_before() -> None:
    on_cpu = [reading(10.0, 0.0), reading(11.0, 1.0), reading(12.0, 4.0)]
    assert series(on_cpu) == ((1.0, 0.25, None, 100), (2.0, 0.75, None, 100))
    on_gpu = [reading(10.0, gpu=gpu(0.5)), reading(11.0, gpu=gpu(0.75))]
    assert series(on_gpu) == ((1.0, 0.0, 0.75, 7),)
