"""dlload.verdict: tables of records and circumstances, and what may be said of them."""

import msgspec
import pytest
from dlclient.results import Environment, Reason, Record
from dlclient.statistics import summarize
from dlload.verdict import Circumstances, Expected, Judgement, judge_phase, judge_run

HOST = Environment(
    host="h",
    system="s",
    kernel="k",
    cpu_model="c",
    cpu_cores=2,
    cpu_cores_physical=2,
    cpu_governor="performance",
    memory_bytes=1,
    container_memory_bytes=None,
    container_cpus=None,
    gpus=(),
    gpu_driver=None,
    python="p",
    versions={},
    commit=None,
    modified=None,
)
QUIET = Circumstances(interrupted="", simulated=(), users=(4,), requests=100, restarted_workers=(), environment=HOST)


def record(cache: str | None = "warm", error: str = "") -> Record:
    return Record(
        phase="warm",
        index=0,
        due_s=0.0,
        sent_s=0.0,
        first_byte_s=0.1,
        done_s=0.1,
        status=200,
        error=error,
        model="a",
        image="x.jpg",
        bytes_sent=1,
        images=1,
        cache=cache,
    )


def judge(records: list[Record], expected: Expected, sent: int | None = None) -> Judgement:
    return judge_phase(records, expected, summarize(records, ("a",), {})[0], len(records) if sent is None else sent)


def codes(judgement: Judgement) -> tuple[list[str], list[str]]:
    return [reason.code for reason in judgement.reasons], [warning.code for warning in judgement.warnings]


@pytest.mark.parametrize(
    ("records", "temperature", "reasons", "warnings"),
    [
        ([record("warm")] * 3, "warm", [], []),
        ([record("disk")] * 3, "disk", [], []),
        ([record("warm")] * 2, "warm", ["incomplete"], []),
        ([], "warm", ["incomplete"], []),
        ([record("warm"), record("warm"), record("disk")], "warm", ["wrong-temperature"], []),
        ([record("warm"), record("disk"), record("disk")], "disk", ["wrong-temperature"], []),
        ([record("host")] * 3, "disk", ["wrong-temperature"], []),
        ([record(None)] * 3, "warm", [], ["temperature-unknown"]),
        ([record(None)] * 3, "disk", ["temperature-unknown"], []),
        ([record(None)] * 3, "host", ["temperature-unknown"], []),
        ([record("disk"), record("disk"), record(None)], "disk", ["wrong-temperature"], []),
        ([record("warm"), record("warm"), record(error="HTTP 500: no")], "warm", ["errors"], []),
        ([record(error="HTTP 500: no")] * 3, "warm", ["errors"], []),
        ([record(None, error="x"), record("disk"), record("warm")], "warm", ["errors", "wrong-temperature"], []),
    ],
)
def test_a_phase_is_judged_by_its_records(
    records: list[Record], temperature: str, reasons: list[str], warnings: list[str]
) -> None:
    judgement = judge(records, Expected(temperature, temperature, 3))
    assert codes(judgement) == (reasons, warnings)
    assert judgement.verdict == ("invalid" if reasons else "valid")


def test_errors_are_told_by_the_most_frequent_one() -> None:
    records = [record(error="HTTP 429"), record(error="HTTP 500: boom"), record(error="HTTP 500: boom")]
    (reason,) = judge(records, Expected("warm", "warm", 3)).reasons
    assert "3 of 3 requests failed: HTTP 500: boom (2 times; 1 other kinds of error)" in reason.text


def test_a_wrong_temperature_is_told_with_what_was_found() -> None:
    records = [record("warm")] * 5 + [record("disk")] * 2
    (reason,) = judge(records, Expected("warm", "warm", 7)).reasons
    assert "2 of 7 answers found the weights elsewhere (5 warm, 2 disk)" in reason.text
    assert "--cache-mb" in reason.cure


@pytest.mark.parametrize(
    ("changes", "reasons", "warnings"),
    [
        ({}, [], []),
        ({"interrupted": "Ctrl-C"}, ["interrupted"], []),
        ({"simulated": ("a",)}, [], ["simulated"]),
        ({"users": (4, 4)}, [], []),
        ({"users": (4, 6)}, [], ["users-changed"]),
        ({"users": (101,)}, [], ["users-idle"]),
        ({"users": ()}, [], []),
        ({"restarted_workers": (1,)}, ["server-restarted"], []),
        ({"missing_shares": ("worker x",)}, ["missing-worker"], []),
        ({"is_open_loop": True, "users": (101,)}, [], []),
        (
            {"findings": (Reason("clock-jump", "t", "c"),), "remarks": (Reason("busy", "t", "c"),)},
            ["clock-jump"],
            ["busy"],
        ),
        ({"environment": msgspec.structs.replace(HOST, cpu_governor="powersave")}, [], ["cpu-governor"]),
        ({"environment": msgspec.structs.replace(HOST, cpu_governor="performance, powersave")}, [], ["cpu-governor"]),
        ({"environment": msgspec.structs.replace(HOST, cpu_governor="not visible")}, [], []),
    ],
)
def test_a_run_is_judged_by_its_circumstances(
    changes: dict[str, object], reasons: list[str], warnings: list[str]
) -> None:
    fields = {name: getattr(QUIET, name) for name in Circumstances.__dataclass_fields__} | changes
    assert codes(judge_run([Judgement()], Circumstances(**fields))) == (reasons, warnings)


def test_a_run_is_invalid_if_one_of_its_phases_is() -> None:
    bad = judge([record("disk")], Expected("warm", "warm", 1))
    unsure = judge([record(None)], Expected("warm", "warm", 1))
    judgement = judge_run([bad, unsure], QUIET)
    assert judgement.verdict == "invalid"
    assert codes(judgement) == (["wrong-temperature"], ["temperature-unknown"])


def test_everything_said_comes_with_a_cure() -> None:
    everything = Circumstances(
        interrupted="x", simulated=("a",), users=(1, 2), requests=1, restarted_workers=(0,), environment=HOST
    )
    phase = judge([record("disk"), record(error="e")], Expected("warm", "warm", 3))
    judgement = judge_run([phase], everything)
    assert len(judgement.reasons) == 5
    assert all(said.text and said.cure for said in (*judgement.reasons, *judgement.warnings))


def late(lag_s: float, count: int = 700, latency_s: float = 0.005) -> list[Record]:
    done_s = lag_s + latency_s
    return [msgspec.structs.replace(record(), sent_s=lag_s, first_byte_s=done_s, done_s=done_s)] * count


@pytest.mark.parametrize(
    ("records", "limit_s", "reasons"),
    [
        (late(0.0009), None, []),
        (late(0.0011), None, ["send-lag"]),
        (late(0.0011), 0.002, []),
        (late(0.010, latency_s=0.3), None, []),  # 5 % of the median latency
        (late(0.020, latency_s=0.3), None, ["send-lag"]),
        (late(0.0) * 2 + late(0.5, count=1), None, []),  # 1 of 1401 is not the p99
        (late(0.0, count=30) + late(0.5, count=1), None, ["send-lag"]),  # of few samples the largest is the p99
    ],
)
def test_sending_late_makes_a_scheduled_phase_invalid(
    records: list[Record], limit_s: float | None, reasons: list[str]
) -> None:
    expected = Expected("warm", "warm", len(records), is_scheduled=True, max_send_lag_s=limit_s)
    assert codes(judge(records, expected))[0] == reasons
    assert codes(judge(records, Expected("warm", "warm", len(records))))[0] == [], "in a closed loop nothing is late"


def test_waiting_for_a_sender_is_told_apart_from_waking_late() -> None:
    expected = Expected("warm", "warm", 700, is_scheduled=True, exhausted=True)
    assert codes(judge(late(0.01), expected))[0] == ["senders-exhausted"]


def test_what_was_dropped_is_told_apart_from_what_failed() -> None:
    dropped = msgspec.structs.replace(record(error="dropped: no sender was free"), dropped=True, status=0)
    judgement = judge([record(), dropped], Expected("warm", "warm", 2))
    assert codes(judgement)[0] == ["dropped"]
    assert "1 of 2 requests were never sent" in judgement.reasons[0].text


def test_a_warm_up_that_did_not_settle_is_a_warning() -> None:
    assert codes(judge([record()], Expected("warm", "warm", 1, steady=False)))[1] == ["not-steady"]
