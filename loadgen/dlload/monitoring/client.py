"""What the load generator itself costs and suffers: its CPU, how late its event loop wakes, its context switches, the clock."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import gevent
import psutil
from dlclient.statistics import nearest_rank
from dlclient.timeline import ClientSample, Note, Sample

PROBE_S = 0.01
"""Between two wakings of the timer that tells how late the event loop is: 100 a second cost about 0.2 % of a core."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Running totals of this process and of the machine."""

    at: float
    """On `time.perf_counter`."""
    cpu_s: float
    resident_bytes: int
    switches_voluntary: int
    switches_involuntary: int
    clock_offset_s: float
    system_s: float
    """CPU time of the whole machine, idle time included."""
    system_idle_s: float
    system_steal_s: float


def usage(process: psutil.Process) -> Usage:
    """As it is now."""
    times = os.times()
    switches = process.num_ctx_switches()
    system = psutil.cpu_times()
    at = perf_counter()
    return Usage(
        at=at,
        cpu_s=times.user + times.system,
        resident_bytes=process.memory_info().rss,
        switches_voluntary=switches.voluntary,
        switches_involuntary=switches.involuntary,
        clock_offset_s=clock_offset_s(),
        system_s=sum(system)
        - getattr(system, "guest", 0.0)
        - getattr(system, "guest_nice", 0.0),  # user has both in it
        system_idle_s=system.idle + getattr(system, "iowait", 0.0),
        system_steal_s=getattr(system, "steal", 0.0),
    )


def clock_offset_s() -> float:
    """CLOCK_REALTIME less CLOCK_MONOTONIC: the best of three, for a pause between the two readings is no jump."""
    pairs = []
    for _ in range(3):
        before = time.monotonic()
        real = time.time()
        after = time.monotonic()
        pairs.append((after - before, real - (before + after) / 2))
    return min(pairs)[1]


def difference(before: Usage, after: Usage, delays_s: list[float]) -> ClientSample:
    """What two totals say about the time between them. `delays_s`: of the event loop's wakings in it."""
    interval_s = max(after.at - before.at, 1e-9)
    system_s = after.system_s - before.system_s
    ordered = sorted(delays_s)
    return ClientSample(
        cpu_cores=round((after.cpu_s - before.cpu_s) / interval_s, 4),
        resident_bytes=after.resident_bytes,
        loop_delay_p50_s=round(nearest_rank(ordered, 0.5), 6) if ordered else None,
        loop_delay_p99_s=round(nearest_rank(ordered, 0.99), 6) if ordered else None,
        loop_delay_max_s=round(ordered[-1], 6) if ordered else None,
        switches_voluntary=after.switches_voluntary - before.switches_voluntary,
        switches_involuntary=after.switches_involuntary - before.switches_involuntary,
        clock_offset_s=round(after.clock_offset_s, 6),
        system_busy=round(1 - (after.system_idle_s - before.system_idle_s) / system_s, 4) if system_s > 0 else None,
        system_steal=round((after.system_steal_s - before.system_steal_s) / system_s, 4) if system_s > 0 else None,
    )


class ClientWatch:
    """Two greenlets: one wakes often and notes how late, the other calls `keep` with a Sample each interval."""

    def __init__(self, interval_s: float, keep: Callable[[Sample | Note], None]) -> None:
        self._interval_s = interval_s
        self._keep = keep
        self._process = psutil.Process()
        self._delays_s: list[float] = []
        self._last = usage(self._process)

    def probe(self) -> None:
        """Until killed. A late waking is not made up for: the next is due one period later."""
        while True:
            due = perf_counter() + PROBE_S
            gevent.sleep(PROBE_S)
            self._delays_s.append(max(perf_counter() - due, 0.0))

    def run(self) -> None:
        """Until killed."""
        while True:
            gevent.sleep(self._interval_s)
            self.sample()

    def sample(self) -> None:
        """What has happened since the last one."""
        now = usage(self._process)
        delays_s, self._delays_s = self._delays_s, []
        client = difference(self._last, now, delays_s)
        interval_s = round(now.at - self._last.at, 6)
        self._last = now
        self._keep(Sample(t_s=round(now.at, 6), interval_s=interval_s, source=f"pid-{os.getpid()}", client=client))
