"""What samples say against a run's figures."""

from collections.abc import Sequence

import pytest
from dlclient.timeline import ClientSample, Sample, ServerSample
from dlload.monitoring.findings import Span, clock_jumps, generator_busy, judge_samples, loop_late, server_restarted

WARM = Span("warm", 100.0, 110.0)


def client(
    cpu: Sequence[float] = (),
    *,
    delay: Sequence[float] = (),
    offset: Sequence[float] = (),
    start: float = 100.0,
    source: str = "pid-1",
) -> list[Sample]:
    """One sample a second."""
    length = max(len(cpu), len(delay), len(offset))
    return [
        Sample(
            t_s=start + number + 1,
            interval_s=1.0,
            source=source,
            client=ClientSample(
                cpu_cores=cpu[number] if cpu else 0.1,
                resident_bytes=1,
                loop_delay_p50_s=0.0,
                loop_delay_p99_s=delay[number] if delay else None,
                loop_delay_max_s=0.0,
                switches_voluntary=0,
                switches_involuntary=0,
                clock_offset_s=offset[number] if offset else 0.0,
                system_busy=None,
                system_steal=None,
            ),
        )
        for number in range(length)
    ]


def server(started: Sequence[float | None], restarts: Sequence[float] = ()) -> list[Sample]:
    return [
        Sample(
            t_s=101.0 + number,
            interval_s=1.0,
            source="http://s/metrics",
            server=ServerSample(
                scrape_s=0.01,
                process_started=start,
                restarts_by_worker={"3": restarts[number]} if restarts else {},
            ),
        )
        for number, start in enumerate(started)
    ]


@pytest.mark.parametrize(
    ("cpu", "found"),
    [
        ((0.95, 0.95, 0.95), True),
        ((0.2, 1.0, 1.0, 1.0, 0.2), True),
        ((0.2, 1.0, 0.2, 1.0, 0.2), False),  # a pause is no load
        ((0.9, 0.9, 0.9), False),
        ((1.0, 0.9), True),  # shorter than three intervals: judged by what there is
        ((), False),
    ],
)
def test_a_generator_is_busy_above_nine_tenths_of_a_core_over_three_intervals(
    cpu: Sequence[float], found: bool
) -> None:
    assert [reason.code for reason in generator_busy(client(cpu), [WARM])] == ["generator-cpu"] * found


def test_processes_of_a_generator_are_judged_each_for_itself() -> None:
    halves = client((0.6, 0.6, 0.6)) + client((0.6, 0.6, 0.6), source="pid-2")
    assert generator_busy(sorted(halves, key=lambda sample: sample.t_s), [WARM]) == []


def test_only_intervals_inside_a_phase_count() -> None:
    loading = client((1.0, 1.0, 1.0), start=96.5)  # the last one ends within the phase, but began before it
    assert generator_busy(loading, [WARM]) == []


def test_a_late_event_loop_is_a_warning() -> None:
    samples = client(delay=(0.011, 0.012, 0.013))
    assert [reason.code for reason in loop_late(samples, [WARM])] == ["event-loop-delay"]
    judgement = judge_samples(samples, [WARM])
    assert judgement.verdict == "valid"
    assert len(judgement.warnings) == 1
    assert loop_late(client(delay=(0.001, 0.430, 0.001)), [WARM]) == []
    assert loop_late(client(delay=(0.430,)), [WARM]) == [], "one interval alone may be a pause"


@pytest.mark.parametrize(
    ("offset", "found"),
    [
        ((5.0, 5.0, 5.2), True),
        ((5.0, 4.9, 4.9), True),
        ((5.0, 5.04, 5.08), False),  # slewed, not set
        ((5.0,), False),
    ],
)
def test_a_clock_that_jumps_is_found(offset: Sequence[float], found: bool) -> None:
    assert [reason.code for reason in clock_jumps(client(offset=offset), [WARM])] == ["clock-jump"] * found


def test_a_clock_that_jumps_between_phases_harms_none() -> None:
    assert clock_jumps(client(offset=(5.0, 9.0), start=120.0), [WARM]) == []


def test_a_restarted_server_is_found() -> None:
    (reason,) = server_restarted(server((1000.0, 1000.4, 1700.0)), [WARM])
    assert reason.code == "server-restarted"
    assert reason.text.startswith("the server was replaced")
    assert server_restarted(server((1000.0, 1000.4)), [WARM]) == []
    assert server_restarted(server((None, None)), [WARM]) == []


def test_a_restarted_worker_is_named() -> None:
    (reason,) = server_restarted(server((1000.0, 1000.0, 1000.0), (0.0, 0.0, 1.0)), [WARM])
    assert reason.text.startswith("worker 3 was replaced")
