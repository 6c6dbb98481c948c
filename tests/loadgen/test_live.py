"""The figures of a run under way: as exact as they say, the same from several processes, and never a false verdict."""

import random
from collections.abc import Sequence

import msgspec
import pytest
from dlclient.results import Reason, Record
from dlload.live import Live, PhaseCounts, Progress
from dlload.live_figures import NOTHING, Snapshot, snapshot
from dlload.verdict import Judgement


def record(
    latency_s: float, *, model: str = "alpha", phase: str = "warm", lag_s: float = 0.0001, **more: object
) -> Record:
    values: dict[str, object] = {
        "phase": phase, "index": 0, "due_s": 1.0, "sent_s": 1.0 + lag_s, "first_byte_s": None, "done_s": 1.0 + latency_s,
        "status": 200, "error": "", "model": model, "image": "cat", "bytes_sent": 1, "images": 1, "cache": phase,
    }  # fmt: skip
    return msgspec.convert(values | more, Record)


def progress(phase: str = "warm", **more: object) -> Progress:
    values: dict[str, object] = {
        "phase": phase, "temperature": phase, "planned": 1000, "taken": 10, "answered": 8, "elapsed_s": 4.0,
    }  # fmt: skip
    return msgspec.convert(values | more, Progress)


def seen(records: Sequence[Record], *phases: Progress, findings: Judgement | None = None) -> Snapshot:
    live = Live(lambda: phases or (progress(),), lambda: findings or Judgement())
    for one in records:
        live.observe(one)
    return snapshot(live)


def test_processes_merge_to_what_one_would_have_seen() -> None:
    draw = random.Random(4)
    records = [
        record(draw.lognormvariate(-4, 1), model=draw.choice("ab"), phase=draw.choice(["warm", "disk"]))
        for _ in range(3000)
    ]
    whole = (progress(taken=20, answered=16, planned=2000), progress("disk", taken=20, answered=16, planned=2000))
    one = seen(records, *whole)
    master = Live()
    for worker in range(2):
        live = Live(lambda: (progress(), progress("disk")))
        for number, each in enumerate(records[worker::2]):
            if number == 5:
                master.merge(f"worker-{worker}", live.encode())  # the next message replaces this one
            live.observe(each)
        master.merge(f"worker-{worker}", live.encode())
    merged = snapshot(master)
    for ours, theirs in zip(merged.models, one.models, strict=True):
        assert ours.model == theirs.model
        for phase, figures in ours.figures.items():
            other = theirs.figures[phase]
            assert figures.mean_s == pytest.approx(other.mean_s)
            assert msgspec.structs.replace(figures, mean_s=None) == msgspec.structs.replace(other, mean_s=None)
    assert [(row.planned, row.in_flight, row.answered, row.send_lag_p99_s) for row in merged.phases] == [
        (row.planned, row.in_flight, row.answered, row.send_lag_p99_s) for row in one.phases
    ]


def test_a_message_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        Live().merge("worker", b"no message")


def test_errors_stand_beside_latency_and_do_not_count_in_it() -> None:
    shown = seen([record(0.01)] * 3 + [record(9.0, error="HTTP 500", status=500)])
    figures = shown.models[0].figures["warm"]
    assert (figures.requests, figures.errors, figures.answers) == (4, 1, 3)
    assert figures.mean_s == pytest.approx(0.01)
    assert [reason.code for reason in shown.reasons] == ["errors"]
    assert shown.verdict == "invalid"


def test_the_rate_of_now_is_that_of_the_last_whole_seconds() -> None:
    records = [record(0.5, due_s=second + 0.1, done_s=second + 0.5) for second in range(10) for _ in range(second)]
    (row,) = seen(records, progress(elapsed_s=10.3)).phases
    assert row.delivered_now_per_s == (5 + 6 + 7 + 8 + 9) / 5
    assert row.delivered_per_s == pytest.approx(45 / 10.3)
    assert seen(records, progress(elapsed_s=0.5)).phases[0].delivered_now_per_s is None


def test_seconds_are_kept_of_the_last_minute_only() -> None:
    counts = PhaseCounts()
    for second in range(500):
        counts.observe(record(0.0, done_s=float(second)))
    assert len(counts.seconds) <= 64
    assert counts.seconds[499] == 1


def test_a_wrong_temperature_is_said_while_the_run_goes_on() -> None:
    shown = seen([record(0.01, phase="disk", cache="warm")] * 2 + [record(0.01, phase="disk")], progress("disk"))
    (reason,) = shown.reasons
    assert reason.code == "wrong-temperature"
    assert "2 of 3 answers" in reason.text
    assert seen([record(0.01, cache=None)]).reasons == (), "a server that does not tell is not wrong"


@pytest.mark.parametrize(
    ("lag_s", "latency_s", "requests", "found"),
    [
        (0.0012, 0.010, 700, True),
        (0.0012, 0.100, 700, False),  # 5 % of a median of 100 ms is 5 ms
        (0.0008, 0.010, 700, False),
        (0.0120, 0.010, 600, False),  # too few to tell a p99
    ],
)
def test_the_send_lag_is_held_against_its_limit(lag_s: float, latency_s: float, requests: int, found: bool) -> None:
    shown = seen([record(latency_s, lag_s=lag_s)] * requests)
    assert [reason.code for reason in shown.reasons] == ["send-lag"] * found


def test_dropped_requests_make_a_run_invalid() -> None:
    assert [reason.code for reason in seen([], progress(dropped=3)).reasons] == ["dropped"]


def test_what_others_find_is_a_part_of_the_verdict_so_far() -> None:
    busy, late = Reason("generator-cpu", "busy", "rest"), Reason("event-loop-delay", "late", "hurry")
    shown = seen([record(0.01)], findings=Judgement((busy,), (late,)))
    assert (shown.verdict, shown.reasons, shown.warnings) == ("invalid", (busy,), (late,))


def test_the_last_word_replaces_the_verdict_so_far() -> None:
    live = Live(lambda: (progress(ended=True),))
    live.observe(record(0.01, error="HTTP 500"))
    live.finish(Judgement())
    shown = snapshot(live)
    assert (shown.state, shown.verdict, shown.phases[0].state) == ("finished", "valid", "ended")


def test_a_phase_that_has_not_begun_waits() -> None:
    (row,) = seen([], progress(elapsed_s=0.0, taken=0, answered=0)).phases
    assert (row.state, row.delivered_per_s) == ("waiting", None)
    assert NOTHING.state == "none"


def test_new_models_may_come_while_a_snapshot_pauses() -> None:
    live = Live(lambda: (progress(), progress("disk")))
    live.observe(record(0.01))
    names = iter(range(1000))

    def pause() -> None:
        live.observe(record(0.01, model=f"late-{next(names)}"))
        live.observe(record(0.01, phase="disk"))

    assert snapshot(live, pause).models[0].model == "alpha"
