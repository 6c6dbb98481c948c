"""dlclient.results: what is written is read back, and what cannot be read is told with place and cure."""

from pathlib import Path

import msgspec
import pytest
from dlclient.errors import ResultError
from dlclient.results import (
    PLAN_FILE,
    REQUESTS_FILE,
    RUN_FILE,
    SCHEMA,
    Environment,
    PlanFacts,
    Record,
    Run,
    Seeds,
    Slot,
    Target,
    read_plan,
    read_records,
    read_run,
    write_run,
)

RECORD = Record(
    phase="disk",
    index=3,
    due_s=0.5,
    sent_s=0.51,
    first_byte_s=0.6,
    done_s=0.75,
    status=200,
    error="",
    model="resnet18",
    image="coffee-500.jpg",
    bytes_sent=61_234,
    images=1,
    worker=1,
    cache="disk",
    batch_size=1,
    server_s=0.08,
    stages={"load": 0.04, "forward": 0.03},
)
RUN = Run(
    schema=SCHEMA,
    kind="stream",
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:01:00+00:00",
    interrupted=False,
    verdict="valid",
    reasons=(),
    warnings=(),
    simulated=False,
    timed_scope="client",
    plan=PlanFacts(
        seeds=Seeds.all(1),
        requests=2,
        services=("a",),
        mix="uniform",
        images="sample",
        image_count=1,
        image_bytes=2,
        image_sha256="00",
        batch_size=1,
        users=1,
        phases=("warm",),
        sha256="00",
    ),
    target=Target(url="http://h", protocol="raw", info={"services": [{"name": "a"}]}),
    environment=Environment(
        host="h",
        system="s",
        kernel="k",
        cpu_model="c",
        cpu_cores=2,
        cpu_cores_physical=None,
        cpu_governor="not visible",
        memory_bytes=1,
        container_memory_bytes=None,
        container_cpus=1.5,
        gpus=(),
        gpu_driver=None,
        python="p",
        versions={"locust": "2"},
        commit=None,
        modified=None,
    ),
    phases=(),
)


def line(record: Record) -> bytes:
    return msgspec.json.encode(record) + b"\n"


def test_a_record_is_one_flat_line() -> None:
    decoded = msgspec.json.decode(line(RECORD))
    assert list(decoded) == [
        *("phase", "index", "due_s", "sent_s", "first_byte_s", "done_s", "status", "error", "model", "image"),
        *("bytes_sent", "images", "worker", "cache", "batch_size", "server_s", "stages"),
    ]
    assert RECORD.latency_s == 0.25
    assert RECORD.ok


def test_records_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    others = [msgspec.structs.replace(RECORD, index=index) for index in (5, 2, 9)]
    (tmp_path / REQUESTS_FILE).write_bytes(b"".join(map(line, others)))
    assert read_records(tmp_path) == others


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / REQUESTS_FILE).write_bytes(line(RECORD) + line(RECORD)[:40])
    assert read_records(tmp_path) == [RECORD]


def test_a_last_line_without_its_end_is_taken_if_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / REQUESTS_FILE).write_bytes(line(RECORD) + line(RECORD)[:-1])
    assert read_records(tmp_path) == [RECORD, RECORD]


def test_an_empty_file_holds_no_records(tmp_path: Path) -> None:
    (tmp_path / REQUESTS_FILE).touch()
    assert read_records(tmp_path) == []


def test_a_line_damaged_in_the_middle_is_told_with_its_number(tmp_path: Path) -> None:
    (tmp_path / REQUESTS_FILE).write_bytes(line(RECORD) + b'{"phase": 1}\n' + line(RECORD))
    with pytest.raises(ResultError, match=r"requests\.jsonl:2: .*measure again"):
        read_records(tmp_path)


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / REQUESTS_FILE).write_bytes(line(RECORD)[:-2] + b',"colour":"blue"}\n')
    assert read_records(tmp_path) == [RECORD]


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    assert write_run(tmp_path, RUN) == tmp_path / RUN_FILE
    assert read_run(tmp_path) == RUN
    assert [path.name for path in tmp_path.iterdir()] == [RUN_FILE]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"run\.json is no result of the stream load tester"),
        (b"[]", r"run\.json is no result of the stream load tester"),
        (b"{}", r"run\.json has schema ''"),
        (b'{"schema": "dlserve-stream/9"}', r"has schema 'dlserve-stream/9', this version reads 'dlserve-stream/2'"),
        (b'{"schema": "dlserve-stream/2"}', r"missing required field"),
    ],
)
def test_what_is_no_run_is_told(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / RUN_FILE).write_bytes(content)
    with pytest.raises(ResultError, match=says):
        read_run(tmp_path)


def test_a_missing_file_is_told_with_what_a_folder_should_hold(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"cannot read .*run\.json: No such file or directory; name the folder"):
        read_run(tmp_path)
    with pytest.raises(ResultError, match=r"cannot read .*requests\.jsonl"):
        read_records(tmp_path)


HEADER = b'{"schema":"dlserve-plan/2","seeds":{"schedule":1,"models":1,"images":1,"think":1},"requests":2,"services":["a"],"mix":"uniform","images":["x"],"batch_size":1}\n'


def test_a_plan_is_a_header_and_slots(tmp_path: Path) -> None:
    (tmp_path / PLAN_FILE).write_bytes(HEADER + b'{"index":0,"model":"a","images":["x"]}\n')
    header, slots = read_plan(tmp_path)
    assert header.services == ("a",)
    assert slots == [Slot(0, "a", ("x",))]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"plan\.jsonl:1: no plan header"),
        (HEADER.replace(b"plan/2", b"plan/9"), "has schema 'dlserve-plan/9'"),
        (HEADER + b"nonsense\n", r"plan\.jsonl:2: "),
    ],
)
def test_what_is_no_plan_is_told(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / PLAN_FILE).write_bytes(content)
    with pytest.raises(ResultError, match=says):
        read_plan(tmp_path)
