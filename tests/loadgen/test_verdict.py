"""dlload.verdict: tables of records and circumstances, and what may be said of them."""

import msgspec
import pytest
from dlclient.results import Environment, Record
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
    judgement = judge_phase(records, Expected(temperature, temperature, 3))
    assert codes(judgement) == (reasons, warnings)
    assert judgement.verdict == ("invalid" if reasons else "valid")


def test_errors_are_told_by_the_most_frequent_one() -> None:
    records = [record(error="HTTP 429"), record(error="HTTP 500: boom"), record(error="HTTP 500: boom")]
    (reason,) = judge_phase(records, Expected("warm", "warm", 3)).reasons
    assert "3 of 3 requests failed: HTTP 500: boom (2 times; 1 other kinds of error)" in reason.text


def test_a_wrong_temperature_is_told_with_what_was_found() -> None:
    records = [record("warm")] * 5 + [record("disk")] * 2
    (reason,) = judge_phase(records, Expected("warm", "warm", 7)).reasons
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
        ({"restarted_workers": (1,)}, [], ["worker-restarted"]),
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
    bad = judge_phase([record("disk")], Expected("warm", "warm", 1))
    unsure = judge_phase([record(None)], Expected("warm", "warm", 1))
    judgement = judge_run([bad, unsure], QUIET)
    assert judgement.verdict == "invalid"
    assert codes(judgement) == (["wrong-temperature"], ["temperature-unknown"])


def test_everything_said_comes_with_a_cure() -> None:
    everything = Circumstances(
        interrupted="x", simulated=("a",), users=(1, 2), requests=1, restarted_workers=(0,), environment=HOST
    )
    phase = judge_phase([record("disk"), record(error="e")], Expected("warm", "warm", 3))
    judgement = judge_run([phase], everything)
    assert len(judgement.reasons) == 4
    assert all(said.text and said.cure for said in (*judgement.reasons, *judgement.warnings))
